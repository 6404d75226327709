"""The default solver against posteriors that are known exactly (run with -s to see the distances)."""

import pytest
import torch

from known_posteriors import gaussian, gaussian_mixture
from sourceprior import initial
from sourceprior.schedules import karras
from sourceprior.solvers.posterior_mean import floored_power, posterior_mean, second_moment

RMS = 0.08
SIGMAS = karras(20, 0.01 * RMS, 15 * RMS)


def drawn(prior, labels, seed, batch=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.stack([prior.sample(k, generator) for k in labels]) for _ in range(batch)]).float()


def generators(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def run(problem, seed, sign=1, **options):
    """One run for a batch of one, from initial noise z (sign 1) or -z (sign -1)."""
    generator = generators(seed)
    centre = problem.y[:, None] / problem.num_sources
    x = centre + sign * (initial.noise(problem, float(SIGMAS[0]), generator) - centre)
    return posterior_mean(problem, SIGMAS, x, generators=generator, **options)


def distance(make, cases, runs, **options):
    """Squared distance to the exact posterior mean over the sources' energy, of the mean of runs [(seed, sign)...]."""
    total = 0.0
    for case in range(cases):
        prior = make(seed=case)
        sources = drawn(prior, [0, 1], case)
        y = sources.sum(dim=1)
        problem = prior.problem(y, [0, 1])
        mean = torch.stack([run(problem, 100 * case + seed, sign, **options) for seed, sign in runs]).mean(dim=0)
        total += float((mean - prior.posterior_mean(y, [0, 1])).square().sum() / sources.square().sum())
    return total / cases


ONE = [(0, 1)]
PAIR = [(0, 1), (0, -1)]
FOUR = [*PAIR, (1, 1), (1, -1)]


@pytest.mark.parametrize(
    ("name", "make", "bounds"),
    [("Gaussian", gaussian, (0.14, 0.03, 0.03)), ("Gaussian mixture", gaussian_mixture, (0.15, 0.06, 0.08))],
)
def test_distance_to_the_exact_posterior_mean(name, make, bounds):
    found = {}
    for split in ("tf", "equal"):
        found[split] = [distance(make, 4, runs, split=split) for runs in (ONE, PAIR, FOUR)]
        print(f"{name}, {split}: one run {found[split][0]:.4f}, pair {found[split][1]:.4f}, four {found[split][2]:.4f}")
    assert all(value < bound for value, bound in zip(found["tf"], bounds, strict=True))
    assert found["tf"][0] < 0.9 * found["equal"][0]
    assert found["tf"][1] < 0.6 * found["tf"][0]


def test_a_lower_temperature_trades_spread_for_accuracy():
    found = {t: distance(gaussian, 3, ONE, temperature=t) for t in (1.0, 0.5, 0.0)}
    print({t: round(value, 4) for t, value in found.items()})
    assert found[0.5] < 0.5 * found[1.0]
    # Without noise the path is that of the mean: for Gaussians what antithetic pairs average to.
    assert found[0.0] == pytest.approx(distance(gaussian, 3, PAIR), rel=0.25)


def test_one_gaussian_source_is_sampled_without_error():
    # With a single source the posterior is the mixture itself, whatever the prior says.
    prior = gaussian(frames=8, num_labels=1)
    y = drawn(prior, [0], 1).sum(dim=1)
    torch.testing.assert_close(run(prior.problem(y, [0]), 0)[:, 0], y, rtol=0, atol=1e-5)


def test_noise_in_the_mixture_is_left_out_of_the_stems():
    # One source in white noise: the posterior mean is the denoiser itself. A pair must come close to it.
    prior = gaussian(frames=16, num_labels=1)
    x = drawn(prior, [0], 1)
    noise = 0.03 * torch.randn(x.shape[0], x.shape[-1], generator=torch.Generator().manual_seed(2))
    y = x.sum(dim=1) + noise
    problem = prior.problem(y, [0], noise_std=0.03)
    exact = prior.posterior_mean(y, [0], noise_std=0.03)
    pair = (run(problem, 0) + run(problem, 0, -1)) / 2
    assert (pair - exact).square().sum() < 0.15 * (y[:, None] - exact).square().sum()


@pytest.mark.parametrize("options", [{}, {"split": "equal"}, {"method": "euler"}, {"method": "heun"}, {"churn": 0.3}])
def test_stems_add_up_to_the_mixture_at_every_step(options):
    prior = gaussian(frames=8, num_labels=3)
    y = drawn(prior, [0, 1, 2], 5).sum(dim=1)
    problem = prior.problem(y, [0, 1, 2])
    seen = []

    def check(step, total, sigma, m):
        assert total == 20
        seen.append((step, sigma))
        assert problem.residual(m).abs().max() < 2e-6

    stems = run(problem, 0, callback=check, **options)
    assert problem.residual(stems).abs().max() < 1e-6
    assert [step for step, _ in seen] == list(range(20))


def test_an_item_depends_neither_on_its_batch_nor_on_its_neighbours():
    prior = gaussian(frames=8)
    y = drawn(prior, [0, 1], 6, batch=3).sum(dim=1)

    def separate(rows, seeds):
        problem = prior.problem(y[rows], [0, 1])
        own = generators(*seeds)
        x = initial.noise(problem, float(SIGMAS[0]), own)
        return posterior_mean(problem, SIGMAS, x, generators=own, churn=0.2)

    together = separate([0, 1, 2], [7, 8, 9])
    torch.testing.assert_close(separate([1], [8])[0], together[1], rtol=0, atol=1e-6)
    assert (separate([1], [9])[0] - together[1]).abs().max() > 1e-3


def test_two_sources_of_one_prior_do_not_stay_identical():
    prior = gaussian_mixture(num_labels=1)
    problem = prior.problem(drawn(prior, [0, 0], 3).sum(dim=1), [0, 0])
    own = generators(0)
    shared = posterior_mean(problem, SIGMAS, initial.noise(problem, float(SIGMAS[0]), own, shared=True), generators=own)
    torch.testing.assert_close(shared[:, 0], shared[:, 1])
    apart = run(problem, 0)
    assert (apart[:, 0] - apart[:, 1]).square().mean() > 0.1 * problem.y.square().mean()


def test_a_silent_source_gets_nothing_of_a_loud_ones_bins():
    # Source 1 lives in other bands than source 0; all the mixture's energy is source 0's.
    prior = gaussian(frames=8)
    prior.variance[0, ..., 60:] = 1e-9
    prior.variance[1, ..., :70] = 1e-9
    y = drawn(prior, [0], 2).sum(dim=1)
    stems = run(prior.problem(y, [0, 1]), 0)
    assert stems[0, 1].square().sum() < 1e-2 * y.square().sum()


def test_silence_and_missing_spectra_give_finite_stems():
    prior = gaussian(frames=4)
    for spectra in (None, torch.zeros(2, 513)):
        problem = prior.problem(torch.zeros(1, 1024), [0, 1])
        object.__setattr__(problem, "spectra", spectra)
        for power in (floored_power, second_moment):
            stems = run(problem, 0, power=power)
            assert stems.isfinite().all()
            assert problem.residual(stems).abs().max() < 1e-6


def test_equal_noise_levels_are_no_error():
    prior = gaussian(seed=0)
    problem = prior.problem(drawn(prior, [0, 1], 0).sum(dim=1), [0, 1])
    levels = torch.tensor([4 * RMS] * 4 + [0.0])
    x = initial.noise(problem, 4 * RMS, generators(0))
    stems = posterior_mean(problem, levels, x, generators=generators(0))
    torch.testing.assert_close(stems.sum(1), problem.y, rtol=0, atol=1e-5)
