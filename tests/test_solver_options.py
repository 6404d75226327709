"""Options of solvers as a person writes them: what cannot be meant is refused in one sentence, the rest arrives."""

import pytest
import torch

from sourceprior.errors import UserError
from sourceprior.guidance import dsg
from sourceprior.losses import ReconstructionLoss
from sourceprior.presets import planned, recipe
from sourceprior.sampling import settings_of
from sourceprior.schedules import vp_linear
from sourceprior.solver_choice import check_options, find_solver, parse_options
from sourceprior.solvers.posterior_mean import floored_power

REFUSED = [
    ("gradient", "start=abc", "start of gradient is a whole number of 0 or more; 'abc' does not fit"),
    ("gradient", "start=1.5", "start of gradient is a whole number of 0 or more; 1.5 does not fit"),
    ("gradient", "start=-1", "-1 does not fit"),
    ("gradient", "start=200", "no step 200 to start from; choose 0 to 199"),
    ("gradient", "start=True", "True does not fit"),
    ("gradient", "start=20 from_noise=True", "leave out one of start and from_noise"),
    ("gradient", "from_noise=maybe", "from_noise of gradient is True or False; 'maybe' does not fit"),
    ("gradient", "run_all=2", "run_all of gradient is True or False; 2 does not fit"),
    ("gradient", "guidance=3", "There is no guidance 3; choose hybrid, dsg, dps or cqt"),
    ("gradient", "guidance=analytical", "There is no guidance 'analytical'; choose hybrid, dsg, dps or cqt"),
    ("gradient", "lambda_time=x", "lambda_time of gradient is a number of 0 or more; 'x' does not fit"),
    ("gradient", "lambda_time=nan", "'nan' does not fit"),
    ("gradient", "lambda_stft=1e999", "inf does not fit"),
    ("gradient", "lambda_group=-1", "-1 does not fit"),
    ("gradient", "lambda_time=0 lambda_group=0 lambda_stft=0", "one must be positive"),
    ("gradient", "segments=0", "segments of gradient is a whole number of 1 or more; 0 does not fit"),
    ("gradient", "n_fft=100000", "n_fft of gradient is a whole number from 1 to 65536; 100000 does not fit"),
    ("gradient", "loss=squared", "no option 'loss'"),
    ("gradient", "trace=1", "no option 'trace'"),
    ("gradient", "trace=print", "no option 'trace'"),
    ("gradient", "callback=1", "no option 'callback'"),
    ("gradient", "steps=5", "no option 'steps'"),
    ("gradient", "sharpness=0", "sharpness of gradient is a number above 0; 0 does not fit"),
    ("gradient", "floor=-1", "floor of gradient is a number of 0 or more; -1 does not fit"),
    ("gradient", "std_scale=[1]", "[1] does not fit"),
    ("gradient", "norm=foo", "norm of gradient is joint or source; 'foo' does not fit"),
    ("gradient", "clip=-1", "clip of gradient is a number above 0; -1.0 does not fit"),
    ("gradient", "clip=wide", "clip of gradient is a number; 'wide' does not fit"),
    ("gradient", "guidance=dps floor=0.1", "The guidance dps has no constant floor"),
    ("gradient", "beta_min=0.5", "beta_min and beta_max must be ascending"),
    ("gradient", "beta_max=0", "beta_max of gradient is a number above 0; 0 does not fit"),
    ("gradient", "level=loud", "level of gradient is prior or recording; 'loud' does not fit"),
    ("analytical", "rounds=-1", "rounds of analytical is a whole number of 0 or more; -1 does not fit"),
    ("analytical", "rounds=1.5", "1.5 does not fit"),
    ("analytical", "peak=0", "peak of analytical is a number above 0; 0 does not fit"),
    ("analytical", "start=100", "no option 'start'"),
    ("analytical", "trace=1", "no option 'trace'"),
    ("dirac", "likelihood=gaussian gamma=0", "gamma of dirac is a number above 0; 0 does not fit"),
    ("dirac", "likelihood=normal", "likelihood of dirac is dirac or gaussian; 'normal' does not fit"),
    ("dirac", "num_resamples=0", "0 does not fit"),
    ("dirac", "churn=-1", "-1 does not fit"),
    ("posterior_mean", "split=foo", "split of posterior_mean is tf or equal; 'foo' does not fit"),
    ("posterior_mean", "method=foo", "method of posterior_mean is 2m, euler or heun; 'foo' does not fit"),
    ("posterior_mean", "start=foo", "start of posterior_mean is share or mixture; 'foo' does not fit"),
    ("posterior_mean", "power=log", "power of posterior_mean is floored_power or second_moment; 'log' does not fit"),
    ("posterior_mean", "power=conditioned", "'conditioned' does not fit"),
    ("posterior_mean", "power=3", "3 does not fit"),
    ("posterior_mean", "temperature=-1", "-1 does not fit"),
    ("posterior_mean", "churn=None", "churn of posterior_mean is a number of 0 or more; None does not fit"),
    ("posterior_mean", "chrun=1", "did you mean churn?"),
]  # fmt: skip


@pytest.mark.parametrize(("solver", "words", "says"), REFUSED, ids=[f"{row[0]}-{row[1]}" for row in REFUSED])
def test_what_cannot_be_meant_is_refused(solver, words, says):
    with pytest.raises(UserError) as caught:
        settings_of("default", solver=solver, options=parse_options(words.split()))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_constant_of_the_papers_system_is_an_option():
    """REFERENCE §2, from the command line: none of the values is a default of either preset."""
    for preset in ("paper", "released"):
        words = (
            "lambda_time=2 lambda_group=0.3 lambda_stft=0.4 squared=true unit=false segments=100 n_fft=256 hop=64 "
            "std_scale=0.3 norm=joint floor=0.01 sharpness=50 clip=2 guide_last=false run_all=false "
            "shared_noise=false start=7 beta_min=2e-4 beta_max=0.03 level=prior jacobian=identity step_noise=0.5"
        )
        settings = settings_of(preset, options=parse_options(words.split()), steps=20)
        run = planned("gradient", preset, settings.options, 20)
        assert run.options["loss"] == ReconstructionLoss(2, 0.3, 0.4, True, 100, 256, 64, False)
        constants = {"std_scale": 0.3, "norm": "joint", "floor": 0.01, "sharpness": 50}
        assert run.options["guidance"].keywords == constants
        assert (run.options["clip"], run.options["guide_last"]) == (2, False)
        assert (run.options["jacobian"], run.options["step_noise"]) == ("identity", 0.5)
        assert (run.start, run.run_all, run.shared_noise) == (7, False, False)
        assert torch.equal(run.whole.betas, vp_linear(20, 2e-4, 0.03).betas)
        for guidance, word, bound in [("dps", "dps_step=0.7", {"step": 0.7}), ("cqt", "cqt_step=0.02", {"step": 0.02})]:
            run = planned("gradient", preset, parse_options([f"guidance={guidance}", word]), 200)
            assert run.options["guidance"].keywords == bound
        words = "rounds=3 weight=0.1 scale_mixture=true snr=1e-3 langevin_steps=9 clip=none peak=0.5 beta_max=0.03"
        run = planned("analytical", preset, parse_options(words.split()), 20)
        assert run.options == {
            "rounds": 3, "weight": 0.1, "scale_mixture": True, "snr": 1e-3, "langevin_steps": 9, "clip": None,
            "peak": 0.5,
        }  # fmt: skip
        assert float(run.whole.betas[-1]) == pytest.approx(0.03)


def test_the_defaults_are_the_papers_and_the_released_ones():
    paper, released = recipe("paper"), recipe("released")
    assert paper.options["loss"] == ReconstructionLoss()
    assert released.options["loss"] == ReconstructionLoss.released()
    assert paper.options["guidance"].keywords["std_scale"] == 1.0
    assert released.options["guidance"].keywords["std_scale"] == 0.09
    assert (paper.start, paper.run_all, paper.shared_noise) == (149, False, True)
    assert (released.start, released.run_all, released.shared_noise) == (149, True, True)
    assert recipe("released", "dps").options["guidance"].keywords == {"step": 1.5}
    assert recipe("paper", "dps").options["guidance"].keywords == {"step": None}
    # The released code starts at T - 1 - 50, the paper at three quarters of T.
    assert recipe("released", steps=60).start == 9
    assert recipe("released", steps=51).start == 0
    assert recipe("paper", steps=60).start == 44
    with pytest.raises(UserError, match="needs more than 50 steps, not 50"):
        recipe("released", steps=50)
    assert recipe("released", steps=50, start=3).start == 3
    assert recipe("released", steps=4, from_noise=True).start is None


def test_python_gives_functions_and_objects():
    def own(gradient, t, process):
        return gradient

    loss = ReconstructionLoss(stft=0)
    run = recipe("paper", own, loss=loss)
    assert run.options["guidance"] is own
    assert run.options["loss"] is loss
    assert planned("gradient", "paper", {"guidance": dsg, "loss": loss, "trace": print}, 200).options["trace"] is print
    with pytest.raises(UserError, match="loss and squared contradict"):
        recipe("paper", loss=loss, squared=False)
    with pytest.raises(UserError, match="own has no constant floor"):
        recipe("paper", own, floor=0.1)
    solver = find_solver("posterior_mean")
    assert check_options(solver, {"power": "floored_power"}) == {"power": floored_power}
    assert check_options(solver, {"power": own}) == {"power": own}
    # A whole number where the solver has a float is one.
    assert isinstance(check_options(solver, {"churn": 1})["churn"], float)
    assert check_options(solver, {"churn": torch.ones(1).numpy()[0]}) == {"churn": 1.0}


def newcomer(problem, sigmas, x, *, generators, callback=None, gain=1.0, mode="plain"):
    """A solver without annotations: its defaults say what its options are."""


def test_a_solver_without_annotations_is_understood():
    assert check_options(newcomer, {"gain": 2, "mode": "odd"}) == {"gain": 2.0, "mode": "odd"}
    with pytest.raises(UserError, match="gain of newcomer is a number; 'much' does not fit"):
        check_options(newcomer, {"gain": "much"})
    with pytest.raises(UserError, match="did you mean gain or mode"):
        check_options(newcomer, {"generators": 1})


@pytest.mark.parametrize(
    ("preset", "changes", "says"),
    [
        ("paper", {"candidates": 8}, "gradient makes one run, not 8"),
        ("default", {"solver": "analytical", "candidates": 2}, "analytical makes one run, not 2"),
        ("released", {"solver": "dirac"}, "preset released is not for the solver dirac"),
        ("released", {"solver": "posterior_mean"}, "choose fast, default, best or sample"),
        ("fast", {"solver": "gradient"}, "preset fast is not for the solver gradient"),
        ("best", {"solver": "dirac"}, "preset best is not for the solver dirac"),
        ("msdm", {"solver": "gradient"}, "preset msdm is not for the solver gradient"),
        ("default", {"solver": "magic"}, "no solver 'magic'"),
        ("paper", {"sigma_max": 3.0}, "leave sigma_max out"),
        ("default", {"form": "released"}, "posterior_mean has no form"),
        ("paper", {"form": "relaesed"}, "no form 'relaesed'"),
    ],
)
def test_contradictions_are_refused(preset, changes, says):
    with pytest.raises(UserError, match=says):
        settings_of(preset, **changes)


def test_default_stands_for_a_solvers_own_preset():
    assert settings_of("default", solver="gradient") == settings_of("paper")
    assert settings_of("sample", solver="dirac", steps=150) == settings_of("msdm")
    assert settings_of("released", solver="analytical", candidates=1).form == "released"
    assert settings_of("fast", solver="posterior-mean") == settings_of("fast")
