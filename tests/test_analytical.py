"""UnDiff's sampler: on Gaussian sources its samples have the mean and variance that linear algebra gives."""

import pytest
import torch

from known_posteriors import gaussian, gaussian_mixture
from linear_reference import analytical as reference
from sourceprior.presets import recipe, seeded
from sourceprior.schedules import vp_linear
from test_gradient import SILENCE, case, distance, from_a_mode


@pytest.mark.parametrize("sources", [2, 3])
def test_mean_and_variance_are_those_of_linear_algebra(sources):
    known = gaussian(frames=2, num_labels=sources)
    problem, exact = case(known, sources=sources)
    run = recipe("paper", "analytical")
    with torch.no_grad():
        # A linear solver without noise gives the mean of its samples.
        mean, samples = run(problem, generators=SILENCE), run(problem, generators=seeded(3))
    wanted, variance = reference(known, vp_linear(), problem.y)
    assert distance(mean, wanted.float()) < 1e-3
    assert float((samples - mean).square().sum()) == pytest.approx(3 * variance, rel=0.12)
    # Sharing the error equally is not what the posterior does: the method's own bias.
    assert 0.02 < distance(wanted.float(), exact) < 0.3


def test_the_bias_is_gone_where_an_equal_split_is_right():
    # Sources of one variance: E[x_k | y] = y / K, whatever the spectrum.
    known = gaussian(frames=2)
    known.variance[1] = known.variance[0]
    problem, exact = case(known)
    mean = recipe("paper", "analytical")(problem, generators=SILENCE)
    assert distance(mean, exact) < 1e-4


@pytest.mark.parametrize("preset", ["paper", "released"])
def test_of_several_modes_it_samples_one(preset):
    prior = gaussian_mixture(frames=4)
    problem, _ = case(prior)
    ratio = from_a_mode(prior, problem.y, recipe(preset, "analytical")(problem, generators=seeded(3)))
    print(f"{preset} analytical: distance from a mode's mean over that mode's spread: {ratio.tolist()}")
    # The released rounds towards y, not √ᾱ y, leave less than a sample's variance.
    assert float(ratio.median()) == pytest.approx(1.1 if preset == "paper" else 0.75, abs=0.25)


@pytest.mark.parametrize("sources", [2, 3])
def test_an_exact_projection_leaves_no_residual(sources):
    problem, _ = case(gaussian(frames=2, num_labels=sources), sources=sources)
    stems = recipe("paper", "analytical", steps=8)(problem, generators=seeded(3))
    torch.testing.assert_close(stems.sum(1), problem.y, rtol=0, atol=1e-5)


def test_the_released_level_is_undone():
    problem, _ = case(gaussian(frames=2), count=2)
    stems = recipe("released", "analytical", steps=60)(problem, generators=seeded(2))
    assert distance(stems.sum(1), problem.y) < 0.1


def test_a_result_depends_on_its_own_generator_only():
    problem, _ = case(gaussian(frames=2), count=1)
    run = recipe("released", "analytical", steps=6)
    outs = [run(problem, generators=seeded(1, seed)) for seed in (0, 0, 1)]
    torch.testing.assert_close(outs[0], outs[1])
    assert not torch.allclose(outs[0], outs[2])
