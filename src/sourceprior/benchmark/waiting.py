"""How far a benchmark is and how long it will take: a line on a terminal, a line now and then in a log."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

EVERY = 60.0
"""Seconds between lines of a log."""


@contextlib.contextmanager
def time_left(what: str, quiet: bool = False) -> Iterator[Callable[[int, int, float, str], None]]:
    """Give a callback (done, total, seconds left, what was done); nothing is shown if `quiet`."""
    console = Console(stderr=True)
    shown = time.monotonic()
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as bar:
        task = bar.add_task("")

        def tell(done: int, total: int, seconds: float, last: str) -> None:
            nonlocal shown
            text = f"{last}; {in_words(seconds)} left"
            bar.update(task, completed=done, total=total, description=text)
            now = time.monotonic()
            if not quiet and not console.is_terminal and (done == total or now - shown > EVERY):
                shown = now
                print(f"{what}: {done}/{total}, {text}", file=sys.stderr, flush=True)

        yield tell


def in_words(seconds: float) -> str:
    """45 s, 12 min, 3 h 05 min; an unknown time for nan."""
    if seconds != seconds:
        return "an unknown time"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
