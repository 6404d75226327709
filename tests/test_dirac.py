"""MSDM's two solvers against priors whose posterior is known."""

import pytest
import torch

from known_posteriors import gaussian, gaussian_mixture
from sourceprior.errors import UserError
from sourceprior.initial import noise
from sourceprior.presets import seeded
from sourceprior.schedules import karras
from sourceprior.solvers.dirac import dirac
from test_gradient import case, distance


def run(problem, steps=40, **options):
    sigmas, generators = karras(steps, 1e-3, 2.0), seeded(len(problem.y))
    x = noise(problem, 2.0, generators)
    return dirac(problem, sigmas, x, generators=generators, **options)


@pytest.mark.parametrize("prior", [gaussian(frames=4), gaussian_mixture(frames=4)], ids=["gaussian", "mixture"])
@pytest.mark.parametrize("likelihood", ["dirac", "gaussian"])
def test_comes_near_the_exact_posterior_mean(prior, likelihood):
    problem, exact = case(prior)
    stems = run(problem, likelihood=likelihood)
    nothing = distance(problem.y[:, None].expand_as(exact) / 2, exact)
    print(f"{likelihood}: {distance(stems, exact):.3f} from the exact mean; the mixture halved: {nothing:.3f}")
    # One sample of a posterior with several modes is far from its mean, and "gaussian" leaves a residual.
    assert distance(stems, exact) < (0.6 if len(prior.weight[0]) == 1 else 1.3) * nothing


@pytest.mark.parametrize("constrained", [0, 1, 2, -1])
def test_dirac_stems_add_up_whichever_source_is_constrained(constrained):
    problem, _ = case(gaussian(frames=2, num_labels=3), sources=3)
    stems = run(problem, steps=6, constrained=constrained, churn=1.0)
    torch.testing.assert_close(stems.sum(1), problem.y, rtol=0, atol=1e-4)


def test_mistakes_are_named():
    problem, _ = case(gaussian(frames=2), count=1)
    for options, message in (
        ({"likelihood": "exact"}, "not 'exact'"),
        ({"constrained": 2}, "constrained source 2"),
        ({"num_resamples": 0}, "num_resamples"),
    ):
        with pytest.raises(UserError, match=message):
            run(problem, steps=2, **options)
