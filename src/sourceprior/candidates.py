"""Several runs of a solver on one mixture, as one batch, and one answer from them.

A solver returns a sample of the posterior; SI-SDR and ears reward its mean, and a sample's error is twice that of the
mean. Runs from noise z and -z (antithetic pairs) have errors of opposite sign as far as the solver is linear, so that
their mean is nearly free of them. Two sources of one class are another matter: runs may tell them apart differently, as
two voices swapped half-way, and the mean would be neither. There one is chosen and averaged with its likes only.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sourceprior.assignment import cheapest
from sourceprior.initial import standard_normal
from sourceprior.mixture import Mixture
from sourceprior.stft import stft

AGREE = 0.7
"""Correlation from which two candidates are taken for the same assignment of sources that are alike.

On Gaussian mixtures with known posterior, two sources of one class of six textures, four candidates: mean of all 4.4
dB, chosen by score 5.6, chosen and averaged with those above 0.5, 0.7, 0.9: 4.5, 6.2, 6.2 dB. Sources of different
classes are better averaged whatever they correlate by (10.4 against 10.0 dB at 0.7 with Gaussians).
"""


@dataclass(frozen=True)
class Combined:
    """One answer from C candidates `(C, K, N)` of one mixture.

    Attributes:
        stems: mean of the kept candidates, `(K, N)`; adds up to the mixture if every candidate does.
        spread: how far the kept candidates lie from the stem, energy relative to the stem's, `(K,)`; an uncertainty.
        kept: which candidates were averaged, `(C,)` bool.
        members: all candidates, their stems in the order of the answer's, `(C, K, N)`.
    """

    stems: Tensor
    spread: Tensor
    kept: Tensor
    members: Tensor

    def spread_spectrogram(self) -> Tensor:
        """Variance of the kept candidates in every STFT bin, `(K, 513, T)`."""
        return stft(self.members[self.kept] - self.stems).abs().square().mean(0)


def antithetic(problem: Mixture, sigma: float, generators: Sequence[torch.Generator], count: int) -> Tensor:
    """Starts y/K ± sigma z of `count` candidates per mixture, `(B * count, K, N)`, a mixture's candidates side by side.

    Candidates 0 and 1 share z with opposite signs, 2 and 3 the next z, and so on. Candidate 0 is the start of a single
    run with the same generator.
    """
    shape = (problem.num_sources, problem.y.shape[-1])
    pairs = [standard_normal(shape, generators, problem.y) for _ in range((count + 1) // 2)]
    noise = torch.stack([sign * z for z in pairs for sign in (1, -1)][:count], dim=1)
    return (problem.y[:, None, None] / problem.num_sources + sigma * noise).flatten(0, 1)


def run(
    problem: Mixture,
    sigmas: Tensor,
    solver: Callable[..., Tensor],
    *,
    generators: Sequence[torch.Generator],
    count: int = 2,
    alike: Sequence[Hashable] | None = None,
    agree: float = AGREE,
    callback: Callable[[int, int, float, Tensor], None] | None = None,
    **options: Any,
) -> list[Combined]:
    """Run a solver from `count` antithetic starts per mixture, all in one batch; one answer per mixture.

    Args:
        alike: a key per source; sources with equal keys cannot be told apart by their priors, so that candidates may
            have them in any order. None: all differ.
        agree: see `combine`.
        callback: as the solver's; its m holds all candidates, `(B * count, K, N)`.
        options: the solver's own.
    """
    start = antithetic(problem, float(sigmas[0]), generators, count)
    streams = [stream for generator in generators for stream in _streams(generator, count)]
    repeated = replace(problem, y=problem.y.repeat_interleave(count, dim=0))
    stems = solver(repeated, sigmas, start, generators=streams, callback=callback, **options)
    answers = []
    for i, members in enumerate(stems.unflatten(0, (-1, count))):
        own = replace(problem, y=problem.y[i : i + 1].expand(count, -1))
        answers.append(combine(members, alike, agree, partial(inconsistency, own)))
    return answers


def combine(
    members: Tensor,
    alike: Sequence[Hashable] | None = None,
    agree: float = AGREE,
    score: Callable[[Tensor], Tensor] | None = None,
) -> Combined:
    """One answer from candidates `(C, K, N)` of one mixture.

    Sources of different classes: the mean of all candidates. Stems of sources that are alike are first put in the order
    of candidate 0's. If they correlate by at least `agree` with those of the candidate that is most like all others,
    the answer is the mean of all, too. If not, a candidate is chosen (the lowest `score`, or without one that central
    one) and averaged with those that agree with it.

    Args:
        score: called only if the candidates disagree, with the aligned candidates `(C, K, N)` -> `(C,)`, lower better.
    """
    keys = list(alike or range(members.shape[1]))
    ambiguous = [k for k, key in enumerate(keys) if keys.count(key) > 1]
    if ambiguous:
        members = torch.stack([members[0], *(other[align(members[0], other, keys)] for other in members[1:])])
    likeness = agreement(members[:, ambiguous]) if ambiguous else members.new_ones(len(members), len(members))
    centre = int(likeness.sum(1).argmax())
    if score is not None and bool((likeness[centre] < agree).any()):
        centre = int(score(members).argmin())
    kept = likeness[centre] >= agree
    kept[centre] = True
    stems = members[kept].mean(0)
    deviation = (members[kept] - stems).square().mean(0).sum(-1)
    return Combined(stems, deviation / stems.square().sum(-1).clamp_min(1e-20), kept, members)


def agreement(members: Tensor) -> Tensor:
    """Likeness of every two candidates of `(C, K, N)`: the mean over stems of their correlation, `(C, C)`.

    Stems are weighted by their energy, so that a source that is hardly there does not make candidates differ.
    """
    product = torch.einsum("akn,bkn->kab", members, members)
    norm = product.diagonal(dim1=1, dim2=2).sqrt()
    return product.sum(0) / (norm[:, :, None] * norm[:, None]).sum(0).clamp_min(1e-20)


def align(reference: Tensor, other: Tensor, alike: Sequence[Hashable]) -> list[int]:
    """For each stem of `reference` `(K, N)` the stem of `other` that belongs to it, by the greatest total correlation.

    Only stems of equal keys are exchanged.
    """
    unit = [stems / stems.norm(dim=-1, keepdim=True).clamp_min(1e-20) for stems in (reference, other)]
    likeness: list[list[float]] = (unit[0] @ unit[1].T).nan_to_num().tolist()
    # A price above all that correlations (-1 to 1) can add up to keeps stems of different keys apart.
    apart = 2.0 * len(alike) + 1
    return cheapest([[-row[j] if mine == key else apart for j, key in enumerate(alike)]
                     for row, mine in zip(likeness, alike, strict=True)])  # fmt: skip


def inconsistency(problem: Mixture, members: Tensor, levels: Sequence[float] = (0.3, 1.0)) -> Tensor:
    """How much the priors would change candidates `(C, K, N)`: Σ ‖D(m + sigma z) - m‖² over noise levels, `(C,)`.

    Args:
        problem: with y `(C, N)`.
        levels: sigmas in units of the mixture's RMS; the same noise for all candidates.
    """
    rms = float(problem.y[0].square().mean().sqrt().clamp_min(1e-12))
    total = members.new_zeros(len(members))
    for i, level in enumerate(levels):
        z = standard_normal(members.shape[1:], [torch.Generator().manual_seed(i)], members)
        clean = problem.denoise(members + level * rms * z, level * rms)
        total += (clean - members).square().sum((1, 2)) / level**2
    return total


def _streams(generator: torch.Generator, count: int) -> list[torch.Generator]:
    """A generator per candidate for what a solver draws; the first is the item's own, as in a single run."""
    seeds = [int(torch.randint(2**62, (), generator=generator)) for _ in range(count - 1)]
    return [generator, *(torch.Generator().manual_seed(seed) for seed in seeds)]
