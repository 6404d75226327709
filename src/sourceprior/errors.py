"""Errors that a person can act on: one clear sentence each, never a traceback on the command line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class UserError(ValueError):
    """Something about the input or the options is wrong; `str(error)` is one sentence that says what to do."""


class Diverged(UserError):
    """A solver's options made its signals grow without end."""


class UnknownLabel(UserError):
    """No prior knows the label.

    Args:
        label: the name that was asked for.
        suggestions: known names that are near to it, best first; may be empty.
    """

    def __init__(self, label: str, suggestions: Sequence[str] = ()) -> None:
        self.label = label
        self.suggestions = tuple(suggestions)
        nearest = (
            f"did you mean {alternatives(suggestions)}?"
            if suggestions
            else "`sourceprior labels` lists the known ones."
        )
        super().__init__(f"No prior knows the source {label!r}; {nearest}")


def nearest(word: str, known: Iterable[str], count: int = 3) -> list[str]:
    """Up to `count` of the `known` words that look like `word`, best first."""
    by_folded = {known_word.casefold(): known_word for known_word in known}
    return [by_folded[match] for match in difflib.get_close_matches(word.casefold(), by_folded, n=count, cutoff=0.6)]


def alternatives(words: Sequence[str]) -> str:
    """`a`, `a or b`, `a, b or c`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def listed(names: Sequence[str], most: int = 5) -> str:
    """a, b and c; after `most` of them how many more."""
    shown = list(names[:most])
    if len(names) > most:
        shown.append(f"{len(names) - most} more")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, of the machine or of its accelerator: libraries say so in several ways."""
    words = str(error).casefold()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and ("out of memory" in words or "allocate memory" in words)
    )
