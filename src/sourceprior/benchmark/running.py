"""Measure what is not measured yet: mixture by mixture, on each all rows, so that what there is can be compared."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from sourceprior.baselines.listening import NothingToLearn
from sourceprior.benchmark.files import in_place
from sourceprior.benchmark.records import Records, mixture_digest
from sourceprior.benchmark.rows import Progress, Ready, Row
from sourceprior.errors import UserError
from sourceprior.evaluation import Outcome, evaluate_one
from sourceprior.mixtures import MixtureSpec, render

Tell = Callable[[int, int, float, str], None]
"""Called as tell(done, total, seconds left, what was done) after every mixture of every row."""
LATELY = 15
"""Mixtures that the time left is told by."""


def shard_of(text: str) -> tuple[int, int]:
    """`2/3` -> (1, 3): the second of three processes takes every third mixture from the second on.

    Raises:
        UserError: it is no such pair.
    """
    part, sign, whole = text.partition("/")
    if not (sign and part.isdigit() and whole.isdigit() and 1 <= int(part) <= int(whole)):
        raise UserError(f"Write a shard as 1/2 and 2/2, not {text!r}.")
    return int(part) - 1, int(whole)


def run(
    rows: Sequence[Row],
    lists: Sequence[Sequence[MixtureSpec]],
    root: Path,
    folder: Path,
    measuring: Mapping[str, Any],
    *,
    shard: tuple[int, int] = (0, 1),
    keep_audio: bool = True,
    tell: Tell | None = None,
    note: Callable[[str], None] | None = None,
) -> list[Records]:
    """Measure every row on every mixture of every list, but for what is measured already; the records of the rows.

    A row that has nothing to learn from is left out.

    Args:
        rows: what separates.
        lists: mixtures of each task (and length).
        root: folder of the clips.
        folder: of the results; stems go beside them.
        measuring: `zero_mean` and `pesq`, see `evaluate_one`; part of the results' key.
        shard: (i, n): mixtures whose number in their list is i modulo n.
        keep_audio: keep every stem as Ogg Opus, for the report's players.
        tell: called after every mixture of every row, and while a row learns.
        note: called with a sentence about a row that is left out, or was not made of all there is.
    """
    records = [Records(folder / "results", row, measuring) for row in rows]
    part, parts = shard
    # By number first: whatever is measured when a run is stopped is measured for all tasks and rows.
    longest = max((len(specs) for specs in lists), default=0)
    order = [specs[i] for i in range(part, longest, parts) for specs in lists if i < len(specs)]
    digests = {id(spec): mixture_digest(spec) for spec in order}
    todo = [
        (spec, number)
        for spec in order
        for number, row in enumerate(rows)
        if (row.tasks is None or spec.task in row.tasks) and digests[id(spec)] not in records[number].outcomes
    ]
    labels = sorted({label for specs in lists for spec in specs for label in spec.labels})
    ready: dict[int, Ready | None] = {}
    spent = Spent(records)
    rendered: tuple[int, np.ndarray] | None = None
    for done, (spec, number) in enumerate(todo):
        row = rows[number]
        if number not in ready:
            ready[number], said = _made(row, labels, _learning(tell, row, done, len(todo)))
            if note and said:
                note(said)
        own = ready[number]
        if own is None:
            continue
        started = time.perf_counter()
        if rendered is None or rendered[0] != id(spec):
            rendered = id(spec), render(spec, root)
        outcome, stems = evaluate_one(
            spec, rendered[1], own.separate, networks=own.networks, alike=own.alike(spec.labels), **measuring
        )
        digest = digests[id(spec)]
        if keep_audio:
            for k, stem in enumerate(stems):
                write_opus(stem_file(folder, records[number].key, digest, k), stem, spec.sample_rate)
        # Last: a mixture that has a line has its stems.
        records[number].add(digest, outcome)
        spent.add(number, outcome, time.perf_counter() - started)
        if tell:
            left = [one for one in todo[done + 1 :] if one[1] not in ready or ready[one[1]]]
            tell(done + 1, len(todo), spent.left(left), f"{row.name}, {spec.task} {spec.index + 1}")
    return records


def _made(row: Row, labels: Sequence[str], progress: Progress | None) -> tuple[Ready | None, str]:
    """The row made ready, and what is to be said of it; None where it has nothing to learn from."""
    try:
        made = row.make(labels, progress)
    except NothingToLearn as error:
        return None, f"{row.title[0].upper()}{row.title[1:]}: not measured. {error}"
    return made, made.note


def _learning(tell: Tell | None, row: Row, done: int, total: int) -> Progress | None:
    """What tells how far a row has come in what it learns before its first mixture."""
    if tell is None:
        return None
    return lambda i, n: tell(done, total, float("nan"), f"{row.name} learns, {i} of {n}")


class Spent:
    """What every row takes to separate a mixture of so many sources, and all else beside; from these the time left."""

    def __init__(self, records: Sequence[Records]) -> None:
        self.seconds: dict[int, dict[int, list[float]]] = {}
        self.beside: list[float] = []
        for number, own in enumerate(records):
            for outcome in own.outcomes.values():
                self._note(number, outcome)

    def add(self, number: int, outcome: Outcome, wall: float) -> None:
        """One mixture more, which took `wall` seconds with rendering, measuring and keeping the stems."""
        self._note(number, outcome)
        self.beside.append(max(0.0, wall - outcome.seconds))

    def _note(self, number: int, outcome: Outcome) -> None:
        self.seconds.setdefault(number, {}).setdefault(len(outcome.labels), []).append(outcome.seconds)

    def left(self, todo: Sequence[tuple[MixtureSpec, int]]) -> float:
        """Seconds for what is left; nan as long as a row is among it that has not separated anything yet."""
        each = Counter((number, len(spec.labels)) for spec, number in todo)
        beside = float(np.mean(self.beside[-LATELY:])) if self.beside else 0.0
        return sum((count * (self._typical(*key) + beside) for key, count in each.items()), start=0.0)

    def _typical(self, number: int, sources: int) -> float:
        """The median of late, as a machine may be busier than before; for another number of sources in proportion."""
        known = self.seconds.get(number, {})
        if not known:
            return float("nan")
        nearest = min(known, key=lambda count: abs(count - sources))
        return float(np.median(known[nearest][-LATELY:])) * sources / nearest


def stem_file(folder: Path, key: str, digest: str, k: int) -> Path:
    """Where the k-th stem of a mixture lies."""
    return folder / "stems" / key / f"{digest}_{k + 1}.opus"


def write_opus(path: Path, wave: np.ndarray, sample_rate: int) -> None:
    """A signal `(N,)` as Ogg Opus, lowered where it would clip. Raises UserError where it cannot be written."""
    peak = float(np.abs(wave).max()) or 1.0
    with in_place(path) as part:
        soundfile.write(part, np.asarray(wave * min(1.0, 0.99 / peak), np.float32), sample_rate, format="OGG",
                        subtype="OPUS")  # fmt: skip
