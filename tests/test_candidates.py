"""Candidates as one batch: the same as runs one by one, averaged where they agree, chosen where not."""

import pytest
import torch

from known_posteriors import gaussian, gaussian_mixture
from sourceprior import candidates, initial
from sourceprior.candidates import align, combine, inconsistency
from sourceprior.schedules import karras
from sourceprior.solvers.posterior_mean import posterior_mean

SIGMAS = karras(15, 0.01 * 0.08, 15 * 0.08)


def generator(seed):
    return torch.Generator().manual_seed(seed)


def drawn(prior, labels, seed):
    own = generator(seed)
    return torch.stack([prior.sample(label, own) for label in labels]).float()[None]


def noise(*shape, seed=0):
    return torch.randn(shape, generator=generator(seed))


def test_a_batch_of_candidates_equals_runs_one_by_one():
    prior = gaussian(frames=8)
    y = torch.cat([drawn(prior, [0, 1], seed).sum(1) for seed in (1, 2)])
    problem = prior.problem(y, [0, 1])
    both = candidates.run(problem, SIGMAS, posterior_mean, generators=[generator(5), generator(6)], count=3)
    own = generator(6)
    alone = prior.problem(y[1:], [0, 1])
    start = initial.noise(alone, float(SIGMAS[0]), [own])
    centre = alone.y[:, None] / 2
    first = posterior_mean(alone, SIGMAS, start, generators=[own])
    second = posterior_mean(alone, SIGMAS, 2 * centre - start, generators=[own])
    torch.testing.assert_close(both[1].members[0], first[0], rtol=0, atol=1e-6)
    torch.testing.assert_close(both[1].members[1], second[0], rtol=0, atol=1e-6)
    assert (both[1].members[2] - first[0]).abs().max() > 1e-3
    torch.testing.assert_close(both[1].stems.sum(0), y[1], rtol=0, atol=1e-6)


def test_a_single_candidate_is_a_single_run_with_churn_too():
    prior = gaussian(frames=4)
    problem = prior.problem(drawn(prior, [0, 1], 1).sum(1), [0, 1])
    one = candidates.run(problem, SIGMAS, posterior_mean, generators=[generator(3)], count=1, churn=0.3)[0]
    own = [generator(3)]
    single = posterior_mean(problem, SIGMAS, initial.noise(problem, float(SIGMAS[0]), own), generators=own, churn=0.3)
    torch.testing.assert_close(one.stems, single[0])
    assert one.spread.abs().max() == 0


def test_pairs_come_nearer_to_the_posterior_mean_than_runs_and_than_independent_ones():
    errors = {"one": 0.0, "pair": 0.0, "independent": 0.0, "four": 0.0}
    for seed in range(4):
        prior = gaussian(seed=seed)
        y = drawn(prior, [0, 1], seed).sum(1)
        exact = prior.posterior_mean(y, [0, 1])[0]
        answer = candidates.run(prior.problem(y, [0, 1]), SIGMAS, posterior_mean, generators=[generator(seed)], count=4)
        m = answer[0].members
        means = {"one": m[0], "pair": m[:2].mean(0), "independent": m[::2].mean(0), "four": answer[0].stems}
        for name, mean in means.items():
            errors[name] += float((mean - exact).square().sum() / exact.square().sum()) / 4
    print({name: round(error, 4) for name, error in errors.items()})
    assert errors["pair"] < 0.5 * errors["independent"]
    assert errors["independent"] < 0.8 * errors["one"]
    assert errors["four"] < 1.05 * errors["pair"]


def test_the_spread_tells_sure_sources_from_unsure_ones():
    # Three sources, of which two are the same noise and one lives in bands of its own.
    prior = gaussian(frames=8, num_labels=3)
    prior.variance[:2, ..., 60:] = 1e-9
    prior.variance[1] = prior.variance[0]
    prior.variance[2, ..., :70] = 1e-9
    y = drawn(prior, [0, 1, 2], 2).sum(1)
    answer = candidates.run(prior.problem(y, [0, 1, 2]), SIGMAS, posterior_mean, generators=[generator(0)], count=4)[0]
    assert answer.kept.all()
    assert answer.spread[2] < 0.1 * answer.spread[:2].min()
    bins = answer.spread_spectrogram()
    assert bins.shape == (3, 513, 9)
    assert bins[0, :100].mean() > 10 * bins[0, 200:].mean()


def test_same_class_stems_are_aligned_before_they_are_averaged():
    a, b, c = noise(3, 1000)
    first = torch.stack([a, b, c])
    second = torch.stack([b, a, c]) + 0.1 * noise(3, 1000, seed=1)
    assert align(first, second, ["s", "s", "x"]) == [1, 0, 2]
    assert align(first, second, ["s", "t", "x"]) == [0, 1, 2]
    answer = combine(torch.stack([first, second]), ["s", "s", "x"])
    assert answer.kept.all()
    assert (answer.stems - first).square().mean() < 0.01


def test_candidates_that_disagree_are_chosen_from():
    a, b = noise(2, 1000)
    good = torch.stack([a, b])
    bad = torch.stack([torch.cat([a[:500], b[500:]]), torch.cat([b[:500], a[500:]])])
    near = [good + 0.05 * noise(2, 1000, seed=i) for i in range(2)]
    members = torch.stack([bad, *near])
    answer = combine(members, ["s", "s"], agree=0.8)
    assert answer.kept.tolist() == [False, True, True]
    asked = []

    def score(aligned):
        asked.append(aligned.shape)
        return torch.tensor([0.0, 1.0, 2.0])

    assert combine(members, ["s", "s"], agree=0.8, score=score).kept.tolist() == [True, False, False]
    assert asked == [(3, 2, 1000)]
    assert combine(torch.stack(near), ["s", "s"], score=score).kept.all()
    assert combine(members, agree=0.8, score=score).kept.all()
    assert len(asked) == 1


def test_the_score_prefers_what_the_prior_knows():
    # Two sources of one class with three textures each: true sources against the same with their halves swapped.
    wins = 0
    for seed in range(6):
        prior = gaussian_mixture(frames=16, num_labels=1, components=3, seed=seed)
        true = imdct_pair(prior, seed)
        half = true.shape[-1] // 2
        swapped = torch.cat([true[:, :half], true.flip(0)[:, half:]], dim=-1)
        problem = prior.problem(true.sum(0).expand(2, -1), [0, 0])
        scores = inconsistency(problem, torch.stack([swapped, true]))
        wins += bool(scores[1] < scores[0])
    assert wins >= 5


def imdct_pair(prior, seed):
    """Two sources of one class with different textures, (2, N)."""
    from known_posteriors import imdct

    v = prior.variance[0, :2]
    return imdct(v.sqrt() * torch.randn(v.shape, generator=generator(seed), dtype=v.dtype)).float()


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_silence_is_no_special_case(count):
    prior = gaussian(frames=2)
    problem = prior.problem(torch.zeros(1, 512), [0, 1])
    answer = candidates.run(problem, SIGMAS, posterior_mean, generators=[generator(0)], count=count, alike=[0, 0])[0]
    assert answer.stems.isfinite().all()
    assert answer.spread.isfinite().all()
