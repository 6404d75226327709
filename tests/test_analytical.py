"""UnDiff's sampler against priors whose posterior is known."""

import pytest
import torch

from known_posteriors import gaussian, gaussian_mixture
from sourceprior.presets import recipe, seeded
from test_gradient import case, distance


@pytest.mark.parametrize("prior", [gaussian(frames=4), gaussian_mixture(frames=4)], ids=["gaussian", "mixture"])
@pytest.mark.parametrize("preset", ["paper", "released"])
def test_comes_near_the_exact_posterior_mean(prior, preset):
    problem, exact = case(prior)
    with torch.no_grad():
        stems = recipe(preset, "analytical")(problem, generators=seeded(3))
    nothing = distance(problem.y[:, None].expand_as(exact) / 2, exact)
    print(f"{preset} analytical: {distance(stems, exact):.3f} from the exact mean; the mixture halved: {nothing:.3f}")
    # One sample of a posterior with several modes is far from its mean.
    assert distance(stems, exact) < (0.6 if len(prior.weight[0]) == 1 else 0.95) * nothing


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
