"""MSDM's two solvers: in the limit of many repeats they are Langevin samplers of the exact posterior."""

import math

import pytest
import torch

from known_posteriors import gaussian, gaussian_mixture
from sourceprior.errors import UserError
from sourceprior.initial import noise
from sourceprior.presets import seeded
from sourceprior.schedules import karras
from sourceprior.solvers.dirac import dirac
from test_gradient import SILENCE, case, distance, from_a_mode, sample_distance

PRIOR = gaussian(frames=2)


def run(problem, steps=40, generators=None, start=2.0, **options):
    sigmas, own = karras(steps, 1e-3, start), generators or seeded(len(problem.y))
    x = noise(problem, start, own)
    return dirac(problem, sigmas, x, generators=own, **options)


@pytest.mark.parametrize("likelihood", ["dirac", "gaussian"])
def test_the_bias_vanishes_with_the_number_of_repeats(likelihood):
    # A level done once more, re-noised, is a step of Langevin dynamics; with Gaussian sources a run without noise
    # gives the mean of all runs. Twice, the paper's number, leaves a bias.
    problem, exact = case(PRIOR)
    bias = [
        distance(run(problem, generators=SILENCE, likelihood=likelihood, num_resamples=r), exact) for r in (2, 8, 32)
    ]
    print(f"{likelihood}: bias {bias}; the mixture halved: {distance(problem.y[:, None] / 2 + 0 * exact, exact):.3f}")
    assert bias[1] < 0.5 * bias[0]
    assert bias[2] < 0.5 * bias[1]
    assert bias[2] < 0.03


@pytest.mark.parametrize("likelihood", ["dirac", "gaussian"])
def test_samples_are_as_far_from_the_mean_as_those_of_the_posterior(likelihood):
    problem, exact = case(PRIOR)
    far = distance(run(problem, likelihood=likelihood, num_resamples=16), exact)
    assert far == pytest.approx(sample_distance(PRIOR, problem.y), rel=0.12)


def test_a_width_of_its_own_is_noise_in_the_mixture():
    # exp(-‖y - Σ x‖² / (4 γ²)), MSDM's form, is noise of standard deviation √2 γ.
    problem, _ = case(PRIOR)
    gamma = 0.03
    noisy = PRIOR.posterior_mean(problem.y.double(), [0, 1], math.sqrt(2) * gamma).float()
    # Steps that are long against γ² diverge, so it starts low; it has no need to find a mode.
    for asked, near in ((gamma, True), (gamma / math.sqrt(2), False), (gamma * math.sqrt(2), False)):
        mean = run(problem, generators=SILENCE, start=0.05, likelihood="gaussian", gamma=asked, num_resamples=24)
        print(asked, distance(mean, noisy))
        assert (distance(mean, noisy) < 0.03) is near


@pytest.mark.parametrize("likelihood", ["dirac", "gaussian"])
def test_of_several_modes_it_samples_one(likelihood):
    # Which one is left to where the noise fell: annealing does not weigh modes, and a wrong one is far from the mean.
    prior = gaussian_mixture(frames=4)
    problem, _ = case(prior, count=6)
    ratio = from_a_mode(prior, problem.y, run(problem, likelihood=likelihood, num_resamples=16))
    print(f"{likelihood}: distance from a mode's mean over that mode's spread: {ratio.tolist()}")
    # A mode that happens to be nearer than the sample's own lowers the ratio a little.
    assert float(ratio.median()) == pytest.approx(0.9, abs=0.15)


@pytest.mark.parametrize("constrained", [0, 1, 2, -1])
def test_dirac_stems_add_up_whichever_source_is_constrained(constrained):
    problem, exact = case(gaussian(frames=2, num_labels=3), sources=3)
    stems = run(problem, steps=6, constrained=constrained, churn=1.0)
    torch.testing.assert_close(stems.sum(1), problem.y, rtol=0, atol=1e-4)
    # K times the relative step must stay below two, and the last step, to zero, does not: not too many repeats.
    few, more = (
        distance(run(problem, generators=SILENCE, constrained=constrained, num_resamples=r), exact) for r in (2, 6)
    )
    print(few, more)
    assert more < 0.1
    assert more < 0.6 * few


def test_mistakes_are_named():
    problem, _ = case(gaussian(frames=2), count=1)
    for options, message in (
        ({"likelihood": "exact"}, "not 'exact'"),
        ({"constrained": 2}, "constrained source 2"),
        ({"num_resamples": 0}, "num_resamples"),
        ({"gamma": 0.05}, "does not heed gamma"),
        ({"likelihood": "gaussian", "constrained": 0}, "does not heed constrained"),
    ):
        with pytest.raises(UserError, match=message):
            run(problem, steps=2, **options)
