"""The paper's solver against priors whose posterior is known, and what is promised of its arguments."""

import math

import pytest
import torch

from known_posteriors import gaussian, gaussian_mixture
from linear_reference import dps
from sourceprior.errors import UserError
from sourceprior.losses import ReconstructionLoss
from sourceprior.mixture import Mixture
from sourceprior.presets import paper_solver, recipe, seeded
from sourceprior.schedules import vp_from_sigmas, vp_linear
from sourceprior.solvers.gradient import gradient

STEPS = 50


SILENCE = [torch.zeros] * 3
"""Generators of no noise, for three mixtures."""


def case(known, count=3, sources=2):
    generator = torch.Generator().manual_seed(1)
    labels = list(range(sources))
    x = torch.stack([torch.stack([known.sample(k, generator) for k in labels]) for _ in range(count)]).float()
    y = x.sum(1)
    return known.problem(y, labels), known.posterior_mean(y.double(), labels).float()


def distance(stems, exact):
    return float((stems - exact).norm() / exact.norm())


def sample_distance(known, y, sources=2):
    """How far samples of the exact posterior are from its mean: root of the mean square, relative to the mean."""
    mean, spread = known.posterior(y.double(), list(range(sources)))
    return math.sqrt(float(spread.sum())) / float(mean.norm())


def from_a_mode(known, y, stems):
    """Distance of each of the stems (B, K, N) from the nearest mode's mean, relative to that mode's own spread."""
    _, means, spreads = known.modes(y.double(), [0, 1])
    relative = (stems - means).square().sum((-2, -1)) / spreads[:, None]
    return relative.min(0).values.sqrt()


@pytest.mark.parametrize(("sources", "size"), [(2, None), (2, 0.1), (3, None)])
def test_dps_on_gaussian_sources_is_linear_algebra(sources, size):
    known = gaussian(frames=2, num_labels=sources)
    problem, exact = case(known, sources=sources)
    run = recipe("paper", "dps", loss=ReconstructionLoss(group=0, stft=0), dps_step=size)
    # A solver that is linear gives the mean of its samples when its noise is zero.
    mean, samples = run(problem, generators=SILENCE), run(problem, generators=seeded(3))
    wanted, variance = dps(known, run.process(), problem.y, 1 / (2 * sources) if size is None else size)
    assert distance(mean, wanted.float()) < 1e-3
    assert float((samples - mean).square().sum()) == pytest.approx(3 * variance, rel=0.12)
    assert distance(mean, exact) < 0.2


@pytest.mark.parametrize(("prior", "within"), [(gaussian(frames=4), 0.1), (gaussian_mixture(frames=4), 0.2)])
@pytest.mark.parametrize("guidance", ["hybrid", "dsg", "dps"])
def test_samples_are_as_far_from_the_exact_mean_as_those_of_the_posterior(prior, within, guidance):
    problem, exact = case(prior)
    stems = recipe("paper", guidance)(problem, generators=seeded(3))
    far = sample_distance(prior, problem.y)
    print(f"{guidance}: {distance(stems, exact):.3f} from the exact mean; a sample of the posterior: {far:.3f}")
    assert distance(stems, exact) == pytest.approx(far, rel=within)
    if len(prior.weight[0]) == 1:
        mean = recipe("paper", guidance)(problem, generators=SILENCE)
        assert distance(mean, exact) < 0.15


def test_the_released_steps_are_what_keeps_it_from_the_posterior():
    # Eleven times shorter than the paper's, they leave a residual; as long as the paper's they do not.
    known = gaussian(frames=4)
    problem, exact = case(known)
    far, left = [], []
    for scale in (0.09, 0.3, 1.0):
        stems = recipe("released", "hybrid", std_scale=scale)(problem, generators=seeded(3))
        far.append(distance(stems, exact))
        left.append(float(problem.residual(stems).norm() / problem.y.norm()))
    print(far, left, sample_distance(known, problem.y))
    assert left[0] > 1.5 * left[1] > 1.5 * left[2]
    assert far[0] > far[1] > sample_distance(known, problem.y)


def test_a_result_depends_on_its_own_generator_only():
    problem, _ = case(gaussian(frames=2), count=2)
    run = recipe("paper", steps=10)
    both = run(problem, generators=seeded(2))
    alone = run(Mixture(problem.y[1:], problem.denoise, 2), generators=seeded(2)[1:])
    torch.testing.assert_close(both[1:], alone)
    assert not torch.allclose(both, run(problem, generators=seeded(2, seed=1)))


def test_three_sources():
    problem, exact = case(gaussian(frames=4, num_labels=3), sources=3)
    stems = recipe("paper", steps=STEPS)(problem, generators=seeded(3))
    assert stems.shape == exact.shape
    assert distance(stems, exact) < distance(problem.y[:, None].expand_as(exact) / 3, exact)


def test_the_start_is_the_noised_mixture():
    problem, _ = case(gaussian(frames=2))
    run = recipe("paper")
    assert len(run.process()) == 150
    x = run.begin(problem, seeded(3))
    torch.testing.assert_close(x[:, 0], x[:, 1])
    sigma = float(vp_linear().levels[149])
    assert float((x[:, 0] - problem.y).std()) == pytest.approx(sigma, rel=0.1)
    assert len(recipe("released").process()) == 200
    noise = recipe("paper", from_noise=True)
    assert len(noise.process()) == 200
    assert abs(float((noise.begin(problem, seeded(3))[:, 0] * problem.y).mean())) < 0.1


def test_without_the_networks_jacobian_the_gradient_is_the_losses_own():
    problem, _ = case(gaussian(frames=2))
    gain, slopes = 0.25, {}

    def shrinking(x, sigma):
        slopes.setdefault("needed", []).append(torch.is_grad_enabled())
        return gain * x

    def traced(jacobian):
        steps = []
        run = recipe("paper", "dps", steps=4, loss=ReconstructionLoss(group=0, stft=0), jacobian=jacobian)
        run(Mixture(problem.y, shrinking, 2), generators=SILENCE, trace=steps.append)
        return steps[0]

    network, identity = traced("network"), traced("identity")
    torch.testing.assert_close(network.clean, identity.clean)
    torch.testing.assert_close(network.gradient, gain * identity.gradient)
    assert slopes["needed"] == [True] * 3 + [False] * 3


def test_no_step_noise_is_a_generator_that_is_silent_after_the_start():
    problem, _ = case(gaussian(frames=2), count=1)
    shapes = []

    def first_only(shape):
        shapes.append(shape)
        fill = torch.randn if len(shapes) == 1 else torch.zeros
        return fill(shape, **({"generator": torch.Generator().manual_seed(5)} if len(shapes) == 1 else {}))

    silent = recipe("paper", steps=8)(problem, generators=[first_only])
    assert len(shapes) == 6
    scaled = recipe("paper", steps=8, step_noise=0)(problem, generators=[torch.Generator().manual_seed(5)])
    torch.testing.assert_close(silent, scaled)


def test_noise_levels_are_enough_of_a_schedule():
    whole = vp_linear(30)
    again = vp_from_sigmas(whole.sigmas)
    torch.testing.assert_close(again.alpha_bars, whole.alpha_bars)
    torch.testing.assert_close(again.betas, whole.betas, rtol=1e-3, atol=0)
    problem, _ = case(gaussian(frames=2), count=1)
    x = recipe("paper", steps=30, start=29).begin(problem, seeded(1))
    outs = [gradient(problem, schedule, x, generators=seeded(1)) for schedule in (whole, whole.sigmas)]
    assert distance(outs[0], outs[1]) < 2e-2


def test_the_level_of_a_prior_does_not_matter():
    problem, _ = case(gaussian(frames=2), count=1)
    loud = Mixture(8 * problem.y, lambda x, sigma: 8 * problem.denoise(x / 8, sigma / 8), 2)
    plain = paper_solver(problem, "gradient", "paper", {}, steps=8, generators=seeded(1))
    scaled = paper_solver(loud, "gradient", "paper", {}, steps=8, scale=8.0, generators=seeded(1))
    torch.testing.assert_close(scaled, 8 * plain, rtol=1e-3, atol=1e-4)


def test_callbacks_see_every_step():
    problem, _ = case(gaussian(frames=2), count=1)
    seen = []
    run = recipe("paper", steps=8)
    run(problem, generators=seeded(1), callback=lambda *step: seen.append(step))
    assert [step[0] for step in seen] == list(range(6))
    assert all(step[1] == 6 and step[3].shape == (1, 2, 512) for step in seen)
    assert [step[2] for step in seen] == sorted((step[2] for step in seen), reverse=True)


def test_mistakes_are_named():
    problem, _ = case(gaussian(frames=2), count=1)
    with pytest.raises(UserError, match="no guidance 'strong'"):
        recipe("paper", "strong")
    with pytest.raises(UserError, match="no preset 'mine'"):
        recipe("mine")
    with pytest.raises(UserError, match="no step 60"):
        recipe("paper", steps=60, start=60)
    with pytest.raises(UserError, match="no option 'flor'"):
        paper_solver(problem, "gradient", "paper", {"flor": 1}, steps=4, generators=seeded(1))
