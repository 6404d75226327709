"""How near a stem is to its source. Arrays are (..., samples), results in dB."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from sourceprior.errors import UserError

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


def residual_db(stems: Array, mixture: Array) -> float:
    """Energy of what stems `(K, N)` leave of the mixture `(N,)`, in dB of the mixture's; -inf where they add up."""
    missing = np.asarray(mixture, np.float64) - np.asarray(stems, np.float64).sum(0)
    energy = max(float((np.asarray(mixture, np.float64) ** 2).sum()), _TINY)
    with np.errstate(divide="ignore"):
        return float(10 * np.log10((missing**2).sum() / energy))


def pesq_wideband(estimate: Array, target: Array, sample_rate: int) -> float:
    """PESQ (ITU-T P.862.2, wide-band, MOS-LQO 1.04 to 4.64) of an estimate `(N,)`; nan where there is no utterance.

    Raises:
        UserError: the package pesq is missing, or the rate is not the 16 kHz that it is defined for.
    """
    if sample_rate != 16000:
        raise UserError(f"Wide-band PESQ is defined at 16000 Hz, not {sample_rate} Hz.")
    try:
        from pesq import NoUtterancesError, pesq
    except ImportError:
        raise UserError("PESQ needs the package pesq: pip install 'sourceprior[eval]'.") from None
    if not (np.any(estimate) and np.any(target)):
        return float("nan")
    try:
        return float(pesq(sample_rate, np.asarray(target, np.float32), np.asarray(estimate, np.float32), "wb"))
    except NoUtterancesError:
        return float("nan")


def pesq_known() -> bool:
    """Whether the package pesq is installed."""
    return importlib.util.find_spec("pesq") is not None


def oracle_blocks(
    stems: Array, sources: Array, block: int, labels: Sequence[Hashable] | None = None
) -> tuple[NDArray[np.float64], float]:
    """What stems `(K, N)` would be if in every block each were put where it belongs: `(K, N)`, and the part exchanged.

    The errors of two stems of one kind are of two kinds. Swaps: a stretch went to the wrong stem, and this mends it.
    Leakage: parts of a source are in both, and this leaves it. In every block of `block` samples the permutation with
    the least squared error to the sources `(K, N)` is taken, among those that exchange equal labels; the part exchanged
    is that of the sources' energy in blocks whose permutation is not the identity, so give stems in their best order.

    Choosing by the sources flatters stems that are wrong at random: what it gains is an upper bound of the swaps.
    """
    stems, sources = np.array(stems, np.float64), np.array(sources, np.float64)
    k, length = sources.shape
    orders = [
        order
        for order in itertools.permutations(range(k))
        if labels is None or all(labels[i] == labels[order[i]] for i in range(k))
    ]
    mended, exchanged = np.empty(stems.shape, np.float64), 0.0
    for start in range(0, length, block):
        own, true = stems[:, start : start + block], sources[:, start : start + block]
        errors = [float(((own[list(order)] - true) ** 2).sum()) for order in orders]
        # A tie, as between equal stems, is no swap: the identity comes first of all permutations.
        best = orders[int(np.argmin(errors))]
        mended[:, start : start + block] = own[list(best)]
        if best != tuple(range(k)):
            exchanged += float((true**2).sum())
    return mended, exchanged / max(float((sources**2).sum()), _TINY)
