"""A folder per class or per speaker, with or without folders of splits above."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sourceprior.corpora.entries import Entry, Found, recordings
from sourceprior.corpora.splits import SPLITS, is_split, place_of
from sourceprior.errors import UserError


def folder(
    root: Path, kind: str = "sound", licence: str = "own", test_share: float = 0.1, valid_share: float = 0.1
) -> Found:
    """Recordings by class (`kind` "sound") or by speaker ("speech").

    Where ROOT holds train, valid or test folders of such folders, those are the splits. Otherwise speakers, or the
    recordings of every class, are put into splits by a hash of their names: adding some moves no others. Recordings
    whose names differ after the last underscore or hyphen only (`dog_1`, `dog_2`) are of one group and stay together. A
    split that a few groups leave empty gets one of them; where there are folders of splits but no valid, it is taken
    out of train.

    Raises:
        UserError: an unknown kind, shares that leave nothing to train with, or no recordings in folders.
    """
    if kind not in ("sound", "speech"):
        raise UserError(f"The recordings are of the kind sound or speech, not {kind!r}.")
    if test_share < 0 or valid_share < 0 or test_share + valid_share >= 1:
        raise UserError("The shares of test and valid must not be negative, and together below 1.")
    given = [split for split in SPLITS if is_split(root / split)]
    found = Found()
    for top in [root / split for split in given] or [root]:
        for own in sorted(path for path in top.iterdir() if path.is_dir()) if top.is_dir() else []:
            for file in recordings(own):
                group = own.name if kind == "speech" else f"{own.name}:{_group(file)}"
                split = top.name if given else split_of(group, test_share, valid_share)
                if given and "valid" not in given and split == "train":
                    split = split_of(group, 0.0, valid_share)
                identity = file.relative_to(own).with_suffix("").as_posix().replace("/", "_")
                found.entries.append(
                    Entry(file, kind, split, own.name, root.resolve().name, identity, licence, group, trim=True)
                )
    if not found.entries:
        raise UserError(f"'{root}' holds no folders with recordings: make one for every class or speaker.")
    for split, share in (("test", 0.0 if given else test_share), ("valid", valid_share)):
        if share > 0:
            found.entries = _filled(found.entries, split)
    return found


def _filled(entries: list[Entry], split: str) -> list[Entry]:
    """The entries; if none is of the split, the group to train with whose name's number is the smallest becomes it."""
    training = sorted({entry.group for entry in entries if entry.split == "train"}, key=place_of)
    if any(entry.split == split for entry in entries) or len(training) < 3:
        return entries
    return [
        replace(entry, split=split) if (entry.group, entry.split) == (training[0], "train") else entry
        for entry in entries
    ]


def split_of(group: str, test_share: float, valid_share: float) -> str:
    """The split of a group: a number from 0 to 1 that its name decides."""
    place = place_of(group)
    return "test" if place < test_share else "valid" if place < test_share + valid_share else "train"


def _group(file: Path) -> str:
    stem = file.stem
    cut = max(stem.rfind("_"), stem.rfind("-"))
    return stem[:cut] if cut > 0 and stem[cut + 1 :].isdigit() else stem
