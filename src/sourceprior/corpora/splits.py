"""Which recordings are held out of training: decided by their names, so that every machine holds out the same ones."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from sourceprior.audio import ENDINGS

SPLITS = ("train", "valid", "test")
FEWEST = 4
"""Recordings of a class from which one is held out; fewer are all needed to train with."""


def is_split(folder: Path) -> bool:
    """Whether a folder named after a split holds folders of classes; one with sounds of its own is a class (trains)."""
    if not folder.is_dir():
        return False
    inside = [path for path in folder.iterdir() if not path.name.startswith(".")]
    return any(path.is_dir() for path in inside) and not any(path.suffix.lower() in ENDINGS for path in inside)


def place_of(name: str) -> float:
    """A number from 0 to 1 that a name decides."""
    return int(hashlib.sha256(os.fsencode(name)).hexdigest()[:8], 16) / 16**8


def held_out(clips: Iterable[tuple[str, str]], share: float) -> set[tuple[str, str]]:
    """The (class, recording) that make up a share of every class: whole recordings, one at least.

    Args:
        clips: class and recording of every clip.
        share: of each class's recordings; classes of fewer than FEWEST keep theirs.
    """
    classes: dict[str, set[str]] = {}
    for label, recording in clips:
        classes.setdefault(label, set()).add(recording)
    held: set[tuple[str, str]] = set()
    for label, recordings in classes.items():
        count = max(1, round(share * len(recordings))) if share > 0 and len(recordings) >= FEWEST else 0
        order = sorted(recordings, key=lambda name: (place_of(f"{label}:{name}"), name))
        held |= {(label, name) for name in order[:count]}
    return held
