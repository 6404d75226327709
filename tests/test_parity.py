"""The paper's solvers against the trajectories recorded from the released code, with its noise replayed.

All four are followed from the first step to the last, which takes most of this suite's time.
"""

from functools import cache

import numpy as np
import pytest
import torch

from golden_case import filled, golden, recorded, relative
from sourceprior.metrics import best_permutation, si_sdr
from sourceprior.networks.attention_unet import AttentionUNet
from sourceprior.released import Recording, as_used, solve
from sourceprior.schedules import vp_linear

GUIDANCES = ("hybrid", "DPS", "DSG", "analytical")


class EnoughError(Exception):
    """Raised by a hook to end a run early."""


@cache
def networks():
    return [filled(AttentionUNet(16, classes)) for classes in (1, 50)]


def run(guidance: str, steps: int) -> list[torch.Tensor]:
    """The states after the first `steps` steps of the released preset under the recorded noise."""
    states: list[torch.Tensor] = []

    def trace(*step) -> None:
        states.append(step[0].next[0] if len(step) == 1 else step[1][0])
        if len(states) == steps:
            raise EnoughError

    mixture = golden()["solve_sources"].sum(0)
    total, start = int(golden()["solve_steps"]), int(golden()["solve_init_index"])
    noise = golden()[f"solve_{guidance}_noise"]
    try:
        final = solve(
            networks(), golden()["solve_labels"], mixture, total, "released", guidance, start, noise, trace=trace
        )
        assert torch.equal(final, states[-1])
    except EnoughError:
        pass
    return states


@pytest.mark.parametrize("guidance", GUIDANCES)
def test_whole_trajectory(guidance):
    states, traj = run(guidance, 10**9), recorded(f"solve_{guidance}_traj")
    errors = [relative(states[i], t) for i, t in zip(golden()["solve_traj_index"], traj, strict=True)]
    print(guidance, errors)
    assert max(errors[:3]) < 1e-3
    assert max(errors) < 2e-2


def test_a_wrong_constant_is_noticed(monkeypatch):
    # The test above can fail: a guidance step a tenth too long is far outside its tolerance.
    mixture, noise = golden()["solve_sources"].sum(0), golden()["solve_hybrid_noise"]
    states = []

    def trace(step):
        states.append(step.next[0])
        if len(states) == 2:
            raise EnoughError

    with pytest.raises(EnoughError):
        solve(networks(), [0, 7], mixture, 60, "released", "hybrid", 9, noise, trace=trace, std_scale=0.1)
    assert relative(states[1], recorded("solve_hybrid_traj")[1]) > 1e-3


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("betas", lambda vp: vp.betas),
        ("alphas_cumprod", lambda vp: vp.alpha_bars),
        ("posterior_variance", lambda vp: vp.posterior_variance),
        ("posterior_mean_coef1", lambda vp: vp.posterior_mean_coefficients[0]),
        ("posterior_mean_coef2", lambda vp: vp.posterior_mean_coefficients[1]),
        ("posterior_log_variance_clipped", lambda vp: vp.posterior_log_variance_clipped),
        ("posterior_std_dev", lambda vp: 0.09 * vp.posterior_std),
        ("smooth_max_schedule", lambda vp: torch.tensor(np.logaddexp(90 * vp.posterior_std, 2.0) / 1e3)),
    ],
)
def test_schedules(name, ours):
    torch.testing.assert_close(ours(vp_linear()), recorded(f"sched_{name}"), rtol=1e-6, atol=0)


def test_si_sdr_with_the_best_permutation():
    stems, sources = golden()["pit_est"], golden()["pit_ref"]
    order = list(best_permutation(stems, sources, zero_mean=True))
    assert order == list(golden()["pit_perm"])
    value = si_sdr(stems[order], sources, zero_mean=True).mean()
    assert value == pytest.approx(float(golden()["pit_value"]), abs=1e-4)


def test_a_recording_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="make 181 draws"):
        as_used(torch.zeros(180, 10), 2, 60, analytical=False)
    with pytest.raises(ValueError, match="needs more"):
        Recording(torch.zeros(1, 10))((2, 10))
    with pytest.raises(ValueError, match="samples a draw"):
        Recording(torch.zeros(1, 10))((1, 11))
    with pytest.raises(ValueError, match="one label per network"):
        solve(networks(), [0], torch.zeros(2040))


@pytest.mark.parametrize("steps", [4, 152])
def test_the_paper_form_of_the_analytical_solver_uses_its_own_draws_of_a_released_recording(steps):
    # Start, then a noise per source and step, and one more for each Langevin step, which the paper's form has not.
    rows, used = 2, [0, 1]
    for t in reversed(range(steps)):
        used += [rows, rows + 1]
        rows += 4 if 0 < t < 150 else 2
    noise = torch.randn(rows, 1020, generator=torch.Generator().manual_seed(0))
    kept = as_used(noise, 2, steps, analytical=True)
    assert torch.equal(kept, noise[used])
    assert torch.equal(as_used(noise, 2, steps, analytical=True, langevin=150), noise)
    with pytest.raises(ValueError, match=f"make {rows} draws"):
        as_used(noise[:-1], 2, steps, analytical=True)
