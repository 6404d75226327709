"""How near a stem is to its source. Arrays are (..., samples), results in dB."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
_TINY = float(np.finfo(np.float64).tiny)


def si_sdr(estimate: Array, target: Array, zero_mean: bool = False) -> NDArray[np.float64]:
    """Scale-invariant signal-to-distortion ratio (Le Roux et al. 2019) of `(..., N)` arrays, `(...)` in dB.

    The target is scaled to fit the estimate; what is left of the estimate is distortion. A silent estimate has -inf, a
    perfect one inf, a silent target nan.

    Args:
        zero_mean: remove both means first.
    """
    estimate, target = np.asarray(estimate, np.float64), np.asarray(target, np.float64)
    if zero_mean:
        estimate = estimate - estimate.mean(-1, keepdims=True)
        target = target - target.mean(-1, keepdims=True)
    energy = (target**2).sum(-1, keepdims=True)
    scaled = (estimate * target).sum(-1, keepdims=True) / np.maximum(energy, _TINY) * target
    signal, error = (scaled**2).sum(-1), ((estimate - scaled) ** 2).sum(-1)
    # Logarithms apart: the quotient overflows for estimates that are all but perfect.
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = 10 * (np.log10(signal) - np.log10(error))
    ratio = np.where(signal > 0, ratio, -np.inf)
    return np.where(energy[..., 0] > 0, ratio, np.nan)


def si_sdr_improvement(estimate: Array, target: Array, mixture: Array, zero_mean: bool = False) -> NDArray[np.float64]:
    """SI-SDR of the estimate less that of the unprocessed mixture, in dB."""
    return si_sdr(estimate, target, zero_mean) - si_sdr(mixture, target, zero_mean)


def best_permutation(
    stems: Array, sources: Array, labels: Sequence[Hashable] | None = None, zero_mean: bool = False
) -> tuple[int, ...]:
    """For each source `(K, N)` the stem `(K, N)` that stands for it, by the greatest mean SI-SDR.

    Args:
        labels: only stems and sources of the same label are exchanged, as only those nobody could tell apart. None
            allows every permutation.
    """
    k = len(sources)
    table = np.array([si_sdr(stems, source, zero_mean) for source in sources])
    # An infinite entry would make sums of permutations incomparable.
    table = np.nan_to_num(table, nan=0.0, posinf=1e3, neginf=-1e3)
    allowed = [
        order
        for order in itertools.permutations(range(k))
        if labels is None or all(labels[i] == labels[order[i]] for i in range(k))
    ]
    return max(allowed, key=lambda order: sum(table[i, order[i]] for i in range(k)))


def bootstrap_interval(
    values: Array, confidence: float = 0.95, draws: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of `(n,)` values; the same values always give the same interval."""
    values = np.asarray(values, np.float64)
    # Each draw of n values with replacement is a row of indices.
    rows = np.random.default_rng(seed).integers(len(values), size=(draws, len(values)))
    tail = (1 - confidence) / 2
    low, high = np.quantile(values[rows].mean(1), [tail, 1 - tail])
    return float(low), float(high)
