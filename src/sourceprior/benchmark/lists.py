"""The mixtures of a table: which tasks at which lengths, drawn or given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sourceprior.benchmark.files import in_place
from sourceprior.benchmark.records import Records, mixture_digest
from sourceprior.datasets import read_manifest
from sourceprior.errors import UserError, alternatives
from sourceprior.mixtures import TASKS, MixtureSpec, draw, labels_to_draw, read_list, write_list

TASK_OF = {"table3": "two_speech", "table4": "speech_sound"}
"""Tables that are about one task."""
PAPER_COUNT = 400
"""Mixtures per task in the paper."""
OFFSETS = {
    "single": "one clip per source, at random offsets for all, speech included",
    "joined": "sounds at random offsets; speech has none, as a speaker's joined utterances fill the mixture from a "
    "random place in them on (--speech single, the default, gives every source a random offset)",
}
"""Where sources begin, by how a speaker fills a mixture."""


def columns_of(what: str, tasks: Sequence[str] | None, seconds: float) -> list[tuple[str, float]]:
    """(task, seconds) of a table or figure. Raises UserError for tasks that it does not have."""
    for task in tasks or ():
        if task not in TASKS:
            raise UserError(f"There is no task {task!r}; choose {_tasks()}.")
    if what in TASK_OF and tasks:
        raise UserError(f"The tasks of {what} are the paper's: leave --task out.")
    if what == "table3":
        return [(TASK_OF[what], 2.0), (TASK_OF[what], 4.0)]
    default = {"table2": list(TASKS), "table4": [TASK_OF["table4"]], "figure2": ["two_sounds"]}[what]
    return [(task, seconds) for task in dict.fromkeys(tasks or default)]


def draw_columns(
    columns: Sequence[tuple[str, float]],
    count: int,
    data: Path,
    split: str,
    known: set[str],
    *,
    licence: str = "commercial",
    min_clips: int | None = None,
    **options: Any,
) -> list[list[MixtureSpec]]:
    """`count` mixtures for each column; `options` are those of `mixtures.draw`.

    Args:
        known: labels of the priors.
    """
    clips = read_manifest(data, split, licence)
    labels = labels_to_draw(data, split, known, licence, min_clips)
    return [draw(task, count, clips, data, labels=labels, seconds=seconds, **options) for task, seconds in columns]


def given_columns(file: Path, count: int, what: str = "table2") -> list[list[MixtureSpec]]:
    """The first `count` mixtures of each task and length of a list file.

    Args:
        what: the table or figure they are for.

    Raises:
        UserError: a list that is empty, cannot be read, has tasks that do not exist or are not the table's, or for
            table4, whose mixtures are of one length, several.
    """
    found: dict[tuple[str, float], list[MixtureSpec]] = {}
    for spec in read_list(file):
        if spec.task not in TASKS:
            raise UserError(f"The mixture list '{file}' has a task {spec.task!r}; a task is {_tasks()}.")
        if TASK_OF.get(what, spec.task) != spec.task:
            raise UserError(
                f"The mixtures of {what} are of the task {TASK_OF[what]}, but '{file}' has {spec.task}: "
                "give another list, or take table2."
            )
        found.setdefault((spec.task, spec.samples / spec.sample_rate), []).append(spec)
    if not found:
        raise UserError(f"The mixture list '{file}' holds no mixtures.")
    if what == "table4" and len(found) > 1:
        raise UserError(f"The mixtures of table4 are of one length, those of '{file}' are not: give another list.")
    return [specs[:count] for specs in found.values()]


def _tasks() -> str:
    return alternatives(list(TASKS))


def save(file: Path, lists: Sequence[Sequence[MixtureSpec]]) -> None:
    """Write the lists into one file of JSON lines."""
    with in_place(file) as part:
        write_list(part, [spec for specs in lists for spec in specs])


def measured_so_far(records: Sequence[Records]) -> int:
    """How far into its list the farthest row has come."""
    return max((outcome.index + 1 for own in records for outcome in own.outcomes.values()), default=0)


def by_digest(lists: Sequence[Sequence[MixtureSpec]]) -> dict[str, MixtureSpec]:
    """Every mixture by its digest."""
    return {mixture_digest(spec): spec for specs in lists for spec in specs}


def describe(split: str, level_of: str, speech_as: str, licence: str, seed: int, given: Path | None) -> str:
    """A sentence or two on the mixtures."""
    if given:
        return f"Mixtures: the list {given.name}."
    level = "its length" if level_of == "whole" else "its active part"
    return (
        f"Mixtures of the {split} split ({licence} licences, list seed {seed}); every source's RMS over {level} is "
        f"uniform in -25 to -20 dBFS, overlap of at least half of the shorter one; {OFFSETS[speech_as]}."
    )
