"""Separate every mixture of a list, measure, and sum up."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import repeat
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sourceprior.consistency import consistent, fit
from sourceprior.cost import Cost, peak_memory_mb
from sourceprior.datasets import SPEECH
from sourceprior.errors import Diverged
from sourceprior.metrics import (
    best_permutation,
    bootstrap_interval,
    oracle_blocks,
    pesq_wideband,
    residual_db,
    si_sdr,
)
from sourceprior.mixtures import MixtureSpec, mix, render

__all__ = ["Outcome", "Separator", "Summary", "evaluate", "evaluate_one", "peak_memory_mb", "summarise", "table"]

Separator = Callable[[NDArray[np.float32], int, Sequence[str], int], NDArray[np.floating]]
"""Called as separate(mixture (N,), sample_rate, labels, seed) -> stems (K, N) in the order of the labels."""

FLOOR_DB = -50.0
"""SI-SDR below this counts as this: one silent stem (-inf) must not decide a mean."""
ADDS_UP_DB = -60.0
"""Stems that leave less than this of the mixture add up to it: nothing is left to hand out."""
BLOCK_SECONDS = 0.25
"""Length of the blocks of the oracle permutation, about a syllable."""


@dataclass(frozen=True)
class Outcome:
    """What one mixture gave. Lists have one figure per source, in dB but for PESQ; empty where nothing was measured.

    Attributes:
        si_sdr: stems assigned by label, sources of the same label by the best permutation.
        best: stems assigned by the best permutation, labels disregarded.
        unprocessed: SI-SDR of the mixture itself.
        seconds: time to separate it.
        audio_seconds: its length.
        pesq: wide-band PESQ of the stems assigned by label; None for a source that is not speech.
        residual_db: what the stems leave of the mixture, dB of it.
        blocks: SI-SDR after a block-wise oracle permutation of sources that are alike: what leakage leaves.
        exchanged: part of the sources' energy in blocks that it exchanged.
        consistent, consistent_best, consistent_pesq: si_sdr, best and pesq after the consistency step; empty for stems
            that add up to the mixture anyway.
        forwards, backwards: signals through the networks, see `cost.Cost`.
        memory_mb: peak memory, MB.
    """

    task: str
    index: int
    labels: list[str]
    si_sdr: list[float]
    best: list[float]
    unprocessed: list[float]
    seconds: float
    audio_seconds: float
    pesq: list[float | None] = field(default_factory=list)
    residual_db: float | None = None
    blocks: list[float] = field(default_factory=list)
    exchanged: float | None = None
    consistent: list[float] = field(default_factory=list)
    consistent_best: list[float] = field(default_factory=list)
    consistent_pesq: list[float | None] = field(default_factory=list)
    forwards: int = 0
    backwards: int = 0
    memory_mb: float | None = None


def evaluate(
    specs: Iterable[MixtureSpec], root: str | Path, separate: Separator, *, zero_mean: bool = False
) -> Iterator[Outcome]:
    """Separate the mixtures of a list one after the other; mixture i is separated with seed i.

    Args:
        root: folder that the list's clips are in.
        zero_mean: remove means before SI-SDR, as the paper's code does.
    """
    for spec in specs:
        yield evaluate_one(spec, render(spec, root), separate, zero_mean=zero_mean)[0]


def evaluate_one(
    spec: MixtureSpec,
    sources: NDArray[np.float32],
    separate: Separator,
    *,
    networks: Sequence[nn.Module] = (),
    alike: Sequence[Hashable] | None = None,
    zero_mean: bool = False,
    pesq: bool = False,
) -> tuple[Outcome, NDArray[np.floating]]:
    """Separate one mixture with its index as seed, and measure: the outcome, and the stems `(K, N)` by label.

    A solver that diverges, or a network that gives no numbers, has nothing to show: silent stems, which count as
    FLOOR_DB, and no other figures.

    Args:
        sources: `(K, N)`, as rendered.
        networks: whose evaluations are counted.
        alike: a key per source; stems of equal keys may be exchanged for `si_sdr`. The labels by default.
        zero_mean: remove means before SI-SDR, as the paper's code does.
        pesq: measure PESQ of speech.
    """
    alike = spec.labels if alike is None else alike
    mixture = mix(sources)
    with Cost(networks) as cost:
        try:
            stems = np.asarray(separate(mixture, spec.sample_rate, spec.labels, spec.index))
        except Diverged:
            stems = None

    def measured(estimates: NDArray) -> list[float]:
        return [round(float(v), 3) for v in np.maximum(si_sdr(estimates, sources, zero_mean), FLOOR_DB)]

    def by(estimates: NDArray, keys: Sequence[Hashable] | None) -> NDArray:
        return estimates[list(best_permutation(estimates, sources, keys, zero_mean))]

    def pesq_of(estimates: NDArray) -> list[float | None]:
        if not pesq or SPEECH not in spec.labels:
            return []
        return [
            _rounded(pesq_wideband(stem, source, spec.sample_rate)) if label == SPEECH else None
            for stem, source, label in zip(estimates, sources, spec.labels, strict=True)
        ]

    if stems is None or not np.isfinite(stems).all():
        floor = [FLOOR_DB] * len(sources)
        return Outcome(
            task=spec.task, index=spec.index, labels=spec.labels, si_sdr=floor, best=floor,
            unprocessed=measured(mixture[None]), seconds=round(cost.seconds, 4),
            audio_seconds=spec.samples / spec.sample_rate, forwards=cost.forwards, backwards=cost.backwards,
        ), np.zeros_like(sources)  # fmt: skip
    stems = by(stems, alike)
    left = max(residual_db(stems, mixture), -200.0)
    repaired = _consistent(stems, mixture) if left > ADDS_UP_DB and not _unprocessed(stems, mixture) else None
    blocks: list[float] = []
    exchanged = None
    if len(set(spec.labels)) < len(spec.labels):
        mended, exchanged = _blocks(stems, sources, mixture, spec)
        blocks = measured(mended)
    outcome = Outcome(
        task=spec.task,
        index=spec.index,
        labels=spec.labels,
        si_sdr=measured(stems),
        best=measured(by(stems, None)),
        unprocessed=measured(mixture[None]),
        seconds=round(cost.seconds, 4),
        audio_seconds=spec.samples / spec.sample_rate,
        pesq=pesq_of(stems),
        residual_db=round(left, 2),
        blocks=blocks,
        exchanged=exchanged,
        consistent=measured(by(repaired, alike)) if repaired is not None else [],
        consistent_best=measured(by(repaired, None)) if repaired is not None else [],
        consistent_pesq=pesq_of(by(repaired, alike)) if repaired is not None else [],
        forwards=cost.forwards,
        backwards=cost.backwards,
        memory_mb=_rounded(cost.memory_mb, 1),
    )
    return outcome, stems


def _unprocessed(stems: NDArray, mixture: NDArray) -> bool:
    """Whether every stem is the mixture itself, of which consistency could make nothing but a K-th part."""
    return bool((stems == mixture).all())


def _consistent(stems: NDArray, mixture: NDArray) -> NDArray:
    own = torch.from_numpy(np.ascontiguousarray(stems, np.float32))
    return consistent(own, torch.from_numpy(np.ascontiguousarray(mixture, np.float32))).numpy()


def _blocks(stems: NDArray, sources: NDArray, mixture: NDArray, spec: MixtureSpec) -> tuple[NDArray[np.float64], float]:
    # At levels that fit the mixture: a separator trained with SI-SDR leaves them open, and a block's error needs them.
    gains = fit(torch.from_numpy(np.asarray(stems, np.float64)), torch.from_numpy(np.asarray(mixture, np.float64)))
    mended, exchanged = oracle_blocks(
        gains.numpy()[:, None] * stems, sources, round(BLOCK_SECONDS * spec.sample_rate), spec.labels
    )
    return mended, round(exchanged, 4)


def _rounded(value: float, digits: int = 3) -> float | None:
    return None if np.isnan(value) else round(float(value), digits)


@dataclass(frozen=True)
class Summary:
    """Figures of one task: dB, with 95 % bootstrap intervals over mixtures; a failure is a mixture below 0 dB.

    `real_time` is seconds of work per second of audio, the median over mixtures: the first one loads and compiles.
    """

    task: str
    mixtures: int
    si_sdr: float
    si_sdr_interval: tuple[float, float]
    improvement: float
    improvement_interval: tuple[float, float]
    best: float
    failure_rate: float
    success_si_sdr: float
    unprocessed: float
    real_time: float


def summarise(outcomes: Sequence[Outcome]) -> list[Summary]:
    """One summary per task, in the order the tasks first appear."""
    tasks: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        tasks.setdefault(outcome.task, []).append(outcome)
    return [_summary(task, own) for task, own in tasks.items()]


def _summary(task: str, outcomes: Sequence[Outcome]) -> Summary:
    found = np.array([np.mean(o.si_sdr) for o in outcomes])
    before = np.array([np.mean(o.unprocessed) for o in outcomes])
    failed = found < 0
    return Summary(
        task=task,
        mixtures=len(outcomes),
        si_sdr=float(found.mean()),
        si_sdr_interval=bootstrap_interval(found),
        improvement=float((found - before).mean()),
        improvement_interval=bootstrap_interval(found - before),
        best=float(np.mean([np.mean(o.best) for o in outcomes])),
        failure_rate=float(failed.mean()),
        success_si_sdr=float(found[~failed].mean()) if not failed.all() else float("nan"),
        unprocessed=float(before.mean()),
        real_time=float(np.median([o.seconds / o.audio_seconds for o in outcomes])),
    )


def table(summaries: Sequence[Summary]) -> str:
    """Summaries as a Markdown table."""
    lines = [
        "| task | n | SI-SDR dB (95 %) | improvement dB (95 %) | best permutation | unprocessed "
        "| failures | successes dB | s per s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for s in summaries:
        lines.append(
            f"| {s.task} | {s.mixtures} | {_with_interval(s.si_sdr, s.si_sdr_interval)} "
            f"| {_with_interval(s.improvement, s.improvement_interval)} | {s.best:.2f} | {s.unprocessed:.2f} "
            f"| {100 * s.failure_rate:.0f} % | {s.success_si_sdr:.2f} | {s.real_time:.2f} |"
        )
    return "\n".join(lines) + "\n"


def _with_interval(value: float, interval: tuple[float, float]) -> str:
    return f"{value:.2f} ({interval[0]:.2f} to {interval[1]:.2f})"


def write_outcomes(
    outcomes: Iterable[Outcome],
    path: str | Path,
    marks: Iterable[str] = repeat(""),
    before: Mapping[str, Outcome] = {},
    kept: Mapping[str, Outcome] = {},
) -> Iterator[Outcome]:
    """Write outcomes as JSON lines while they come, and pass them on: a stopped run keeps what it has.

    Args:
        marks: of each outcome, everything that decided it, as a word.
        before: of an earlier run, by their marks; they stay in the file and come first.
        kept: of runs of another kind, which stay in the file.
    """
    part = Path(f"{path}.part")
    part.write_text("".join(_line(mark, outcome) for mark, outcome in {**kept, **before}.items()), encoding="utf-8")
    part.replace(path)
    yield from before.values()
    with Path(path).open("a", encoding="utf-8") as file:
        for mark, outcome in zip(marks, outcomes, strict=False):
            file.write(_line(mark, outcome))
            file.flush()
            yield outcome


def read_outcomes(path: str | Path) -> dict[str, Outcome]:
    """What `write_outcomes` left in a file, by marks; nothing of a file that is missing or something else."""
    found: dict[str, Outcome] = {}
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return found
    for line in lines:
        try:
            entry = json.loads(line)
            mark = entry.pop("mark")
            found[mark] = Outcome(**entry)
        except (ValueError, KeyError, TypeError, AttributeError):
            # The last line of a run that was killed while it wrote, or one of earlier versions.
            continue
    return found


def _line(mark: str, outcome: Outcome) -> str:
    return json.dumps({**({"mark": mark} if mark else {}), **asdict(outcome)}) + "\n"
