"""Separate every mixture of a list, measure, and sum up."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sourceprior.metrics import best_permutation, bootstrap_interval, si_sdr
from sourceprior.mixtures import MixtureSpec, mix, render

Separator = Callable[[NDArray[np.float32], int, Sequence[str], int], NDArray[np.floating]]
"""Called as separate(mixture (N,), sample_rate, labels, seed) -> stems (K, N) in the order of the labels."""

FLOOR_DB = -50.0
"""SI-SDR below this counts as this: one silent stem (-inf) must not decide a mean."""


@dataclass(frozen=True)
class Outcome:
    """What one mixture gave. Lists have one figure in dB per source.

    Attributes:
        si_sdr: stems assigned by label, sources of the same label by the best permutation.
        best: stems assigned by the best permutation, labels disregarded.
        unprocessed: SI-SDR of the mixture itself.
        seconds: time to separate it.
        audio_seconds: its length.
    """

    task: str
    index: int
    labels: list[str]
    si_sdr: list[float]
    best: list[float]
    unprocessed: list[float]
    seconds: float
    audio_seconds: float


def evaluate(
    specs: Iterable[MixtureSpec], root: str | Path, separate: Separator, *, zero_mean: bool = False
) -> Iterator[Outcome]:
    """Separate the mixtures of a list one after the other; mixture i is separated with seed i.

    Args:
        root: folder that the list's clips are in.
        zero_mean: remove means before SI-SDR, as the paper's code does.
    """
    for spec in specs:
        sources = render(spec, root)
        mixture = mix(sources)
        started = time.perf_counter()
        stems = np.asarray(separate(mixture, spec.sample_rate, spec.labels, spec.index))
        seconds = time.perf_counter() - started

        def measured(estimates: NDArray, sources: NDArray = sources) -> list[float]:
            return [round(float(v), 3) for v in np.maximum(si_sdr(estimates, sources, zero_mean), FLOOR_DB)]

        by_label = best_permutation(stems, sources, spec.labels, zero_mean)
        free = best_permutation(stems, sources, None, zero_mean)
        yield Outcome(
            task=spec.task,
            index=spec.index,
            labels=spec.labels,
            si_sdr=measured(stems[list(by_label)]),
            best=measured(stems[list(free)]),
            unprocessed=measured(mixture[None]),
            seconds=round(seconds, 4),
            audio_seconds=spec.samples / spec.sample_rate,
        )


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


def write_outcomes(outcomes: Iterable[Outcome], path: str | Path) -> Iterator[Outcome]:
    """Write outcomes as JSON lines while they come, and pass them on: a stopped run keeps what it has."""
    with Path(path).open("w") as file:
        for outcome in outcomes:
            file.write(json.dumps(asdict(outcome)) + "\n")
            file.flush()
            yield outcome


def peak_memory_mb() -> float:
    """The most memory the process has held so far, MB; nan where the system does not tell (Windows)."""
    try:
        import resource
    except ImportError:
        return float("nan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)
