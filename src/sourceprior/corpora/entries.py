"""What a layout yields: files with what is known of them, and how many were left out, and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from sourceprior.audio import ENDINGS
from sourceprior.stem_files import printable


@dataclass(frozen=True)
class Entry:
    """One recording of a single source. Names that are no UTF-8 lose what cannot be written down.

    Attributes:
        path: the file.
        kind: "speech" or "sound".
        split: "train", "valid" or "test".
        label: class of a sound, speaker of speech.
        source: name of the data set.
        identity: the recording's own name in it, which its copy is called after.
        licence: SPDX-like name.
        group: recordings of one group belong into one split (a speaker, a Freesound recording).
        gender, age: of a speaker, as text, where known.
        trim: cut silence off both ends.
        original_id: what the data set itself calls the recording; its identity where empty.
    """

    path: Path
    kind: str
    split: str
    label: str
    source: str
    identity: str
    licence: str
    group: str
    gender: str = ""
    age: str = ""
    trim: bool = False
    original_id: str = ""

    def __post_init__(self) -> None:
        for name in ("label", "source", "identity", "group"):
            object.__setattr__(self, name, printable(getattr(self, name)))


@dataclass
class Found:
    """Entries, and a count of what was left out by reason."""

    entries: list[Entry] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)


def recordings(folder: Path) -> list[Path]:
    """Sound files anywhere below a folder, sorted."""
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in ENDINGS and not p.name.startswith("."))
