"""Where a source is absent for some seconds, its stem is silent there.

A solver shares everything out, and a source that is not there at the time keeps a little of the others, 10 to 20 dB
below them. Whether it is there is asked of the denoisers, at one noise level, and energies are compared with that of
the mixture y around each moment, in dB:

    U      what the source claims and nobody else does: the energy that d_k = D_k(y + sigma z) shares with
           y - sum_j d_j over its rivals
    S      of its stem s_k, which the solver found
    own    what its denoiser keeps of that stem: D_k(s_k + sigma z) s_k
    other  the most that a rival would take of it, given all stems but its own: D_j(y - s_j + sigma z) s_k
    N      of what sounds like the source where it is surest to be there, and not like its rivals (`likeness`)

A source is taken to be absent where

    U + 2 N + own - other < ABSENT

for some seconds and its stem is not loud there: a rival explains what it claims, takes the stem for its own, and sounds
like it. Of a source that is nowhere there for sure N tells nothing, and S + UNSURE stands in for 2 N. Sources of one
label, a label and a part of it, and "anything" are nobody's rivals: what they would take tells nothing. What the stem
held there is handed out to the others bin by bin: stems add up as before.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from sourceprior.initial import standard_normal
from sourceprior.labels import ANYTHING
from sourceprior.likeness import likeness
from sourceprior.local_level import GRID, between, per_step, step_samples, sums_around
from sourceprior.mixture import Mixture
from sourceprior.priors import Source
from sourceprior.stft import istft, smoothed, stft

NOISE = 0.25
"""Its level, in units of that of a typical source."""
ABSENT, PRESENT = -34.0, -30.0
"""dB of the rule above: silent below the one, unchanged above the other; read off valid, see docs/experiments.md."""
UNSURE = -5.0
"""dB, see above."""
SURE = -18.0
"""dB of U + S + own - other that a source has for a quarter of the time if it is there for sure."""
STRETCH = 4.0
"""Seconds that are judged together."""
LASTING = 3.5
"""Seconds that a source must be absent for, and more: one that its prior misses for a moment is there around it."""
FAINT, LOUD = -6.0, -4.0
"""dB of the mixture: a louder stem is kept whatever the denoisers say, as the solver found no other place."""
SILENT = 0.01
"""What is left of the stem of an absent source."""


@torch.no_grad()
def silence_absent(
    stems: Tensor, problem: Mixture, level: float, rate: int, rivals: np.ndarray, seed: int = 0
) -> Tensor:
    """Stems `(K, N)` with those of absent sources silent where they are absent; they add up to what they did.

    Args:
        stems: at the priors' level, as the solver left them.
        problem: of one mixture, `y` `(1, N)`; with a noise level the unexplained takes its share of what is freed.
        level: RMS of a typical source.
        rate: Hz.
        rivals: whether source j is a rival of source k, `(K, K)`, see `rivals_of`; one that has none is never silenced.
        seed: of the looks' noise.
    """
    y = problem.y[0]
    level_of_stem = decibel(stems, stems, y, rate)
    loud = np.clip((level_of_stem - FAINT) / (LOUD - FAINT), 0, 1)
    loud[~rivals.any(1)] = 1
    if loud.min() == 1:
        return stems
    z = NOISE * level * standard_normal((1, y.shape[-1]), [torch.Generator().manual_seed(seed)], problem.y)[0]
    look = problem.denoise((y + z).expand(1, len(stems), -1), NOISE * level)[0]
    kept = problem.denoise((stems + z)[None], NOISE * level)[0]
    taken = problem.denoise((y - stems + z)[None], NOISE * level)[0]
    asked = np.zeros_like(loud)
    for k in np.flatnonzero(rivals.any(1)):
        claimed = decibel(look[k : k + 1], y - look[rivals[k]].sum(0), y, rate)[0]
        own = decibel(kept[k : k + 1], stems[k], y, rate)[0]
        asked[k] = claimed + own - decibel(taken[rivals[k]], stems[k], y, rate).max(0)
    evidence = asked + level_of_stem
    sure = np.quantile(evidence, 0.75, axis=1, keepdims=True) > SURE
    *alike, whole = likeness(stems, y, evidence, rivals, step_samples(rate))
    told = 2 * _decibel(sums_around(np.array(alike), STRETCH), sums_around(whole, STRETCH))
    evidence = np.where(sure, asked + told, evidence + UNSURE)
    there = np.clip((evidence - ABSENT) / (PRESENT - ABSENT), 0, 1)
    there = lasting(np.maximum(loud, there))
    if there.min() == 1:
        return stems
    gain = torch.stack([between(row, step_samples(rate), 0, y.shape[-1]) for row in SILENT ** (1 - there)])
    kept = gain.to(stems) * stems
    parts = torch.cat([kept, (y - stems.sum(0))[None]]) if problem.noise_std else kept
    power = smoothed(stft(parts))
    shares = (power + 1e-20) / (power + 1e-20).sum(0)
    return kept + istft(shares * stft((stems - kept).sum(0)), y.shape[-1])[: len(stems)]


def rivals_of(sources: Sequence[Source]) -> np.ndarray:
    """Whether source j (columns) is a rival of source k, `(K, K)`: another label, no part of it, and not any sound."""

    def wholes(source: Source) -> set[tuple[int, str]]:
        label = source.prior.labels[source.index]
        parts = source.prior.config.get("parts", {})
        return {(id(source.prior), name) for name in (label, *(w for w, inside in parts.items() if label in inside))}

    def rival(one: Source, other: Source) -> bool:
        own, its = ((id(s.prior), s.prior.labels[s.index]) for s in (one, other))
        return its[1] != ANYTHING and own not in wholes(other) and its not in wholes(one)

    return np.array([[rival(one, other) for other in sources] for one in sources])


def lasting(there: np.ndarray) -> np.ndarray:
    """Presence `(K, steps)`, 0 to 1, with its gaps of up to LASTING seconds filled; at an end, of half that.

    The morphological closing: the highest value around every step, and of these the lowest around each.
    """
    reach = round(LASTING / 2 / GRID)

    def around_each(rows: np.ndarray) -> np.ndarray:
        padded = np.pad(rows, ((0, 0), (reach, reach)), mode="edge")
        return np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1, axis=1)

    return np.asarray(around_each(around_each(there).max(-1)).min(-1))


def decibel(signals: Tensor, others: Tensor, mixture: Tensor, rate: int) -> np.ndarray:
    """What signals `(K, N)` and others have in common around each moment: `(K, steps)` on a grid, -60 dB or more.

    It is their product's sum over STRETCH seconds, in dB of the mixture's `(N,)` energy there.
    """
    shared, whole = per_step(signals * others, rate), per_step(mixture * mixture, rate)
    return _decibel(sums_around(shared, STRETCH), sums_around(whole, STRETCH))


def _decibel(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.asarray(10 * np.log10(np.maximum(part / np.maximum(whole, 1e-9), 1e-6)))
