"""A folder per class or per speaker, with or without folders of splits above."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from sourceprior.audio import ENDINGS
from sourceprior.corpora.entries import Entry, Found, recordings
from sourceprior.corpora.splits import FEWEST, SPLITS, is_split, place_of
from sourceprior.errors import UserError
from sourceprior.licences import NOT_STATED

TEST_SHARE = VALID_SHARE = 0.1


def folder(
    root: Path,
    kind: str = "sound",
    licence: str = NOT_STATED,
    test_share: float = TEST_SHARE,
    valid_share: float = VALID_SHARE,
) -> Found:
    """Recordings by class (`kind` "sound") or by speaker ("speech").

    Where ROOT holds train, valid or test folders of such folders, those are the splits; where valid is not among them,
    it is taken out of train. Otherwise the recordings of every class, or the speakers, are put into splits by a hash of
    their names, so that adding some moves hardly any other. From FEWEST on every split gets one at least; fewer are all
    trained with. Recordings whose names differ after the last underscore or hyphen only (`dog_1`, `dog_2`) are of one
    group and stay together, unless that leaves fewer than FEWEST groups of a class.

    Raises:
        UserError: an unknown kind, shares where ROOT has these splits or that leave nothing to train with, or no
            recordings in folders.
    """
    if kind not in ("sound", "speech"):
        raise UserError(f"The recordings are of the kind sound or speech, not {kind!r}.")
    if test_share < 0 or valid_share < 0 or test_share + valid_share >= 1:
        raise UserError("The shares of test and valid must not be negative, and together below 1.")
    given = [split for split in SPLITS if is_split(root / split)]
    found = Found()
    if given and (test_share != TEST_SHARE or ("valid" in given and valid_share != VALID_SHARE)):
        raise UserError(f"'{root}' has its own {' and '.join(given)}: leave the shares of test and valid out.")
    for top in [root / split for split in given] or [root]:
        if loose := [path for path in top.iterdir() if path.suffix.lower() in ENDINGS] if top.is_dir() else []:
            found.skipped["in no folder of a class or speaker"] += len(loose)
        for own in sorted(path for path in top.iterdir() if path.is_dir()) if top.is_dir() else []:
            files = recordings(own)
            groups = [own.name] * len(files) if kind == "speech" else _groups(own, files)
            for file, group in zip(files, groups, strict=True):
                identity = file.relative_to(own).with_suffix("").as_posix().replace("/", "_")
                split = top.name if given else "train"
                found.entries.append(
                    Entry(file, kind, split, own.name, root.resolve().name, identity, licence, group, trim=True)
                )
    if not found.entries:
        raise UserError(f"'{root}' holds no folders with recordings: make one for every class or speaker.")
    if "valid" not in given:
        found.entries = _divided(found.entries, 0.0 if given else test_share, valid_share)
    return found


def _groups(own: Path, files: Sequence[Path]) -> list[str]:
    """The group of every recording of a class: by the name without its number, or each its own where these are few."""
    takes = [f"{own.name}:{take_of(file)}" for file in files]
    if len(set(takes)) >= FEWEST:
        return takes
    return [f"{own.name}:{file.relative_to(own).with_suffix('').as_posix()}" for file in files]


def take_of(file: Path) -> str:
    """The name of a recording without the number of the take."""
    stem = file.stem
    cut = max(stem.rfind("_"), stem.rfind("-"))
    return stem[:cut] if cut > 0 and stem[cut + 1 :].isdigit() else stem


def _divided(entries: Sequence[Entry], test_share: float, valid_share: float) -> list[Entry]:
    """The entries, those to train with put into splits: class by class, speakers all together."""
    classes: dict[str, set[str]] = {}
    for entry in entries:
        if entry.split == "train":
            classes.setdefault(entry.label if entry.kind == "sound" else "", set()).add(entry.group)
    splits: dict[str, str] = {}
    for groups in classes.values():
        splits |= splits_of(groups, test_share, valid_share)
    return [replace(entry, split=splits[entry.group]) if entry.split == "train" else entry for entry in entries]


def splits_of(groups: Iterable[str], test_share: float, valid_share: float) -> dict[str, str]:
    """The split of every group of a class: by the number from 0 to 1 that its name decides.

    Of FEWEST groups on, each split with a share gets one at least, and so does train; fewer are all trained with.
    """
    order = sorted(groups, key=lambda name: (place_of(name), name))
    count, test, valid = len(order), 0, 0
    if count >= FEWEST:
        if test_share > 0:
            test = min(max(1, sum(place_of(name) < test_share for name in order)), count - 2)
        if valid_share > 0:
            below = sum(place_of(name) < test_share + valid_share for name in order)
            valid = min(max(1, below - test), count - 1 - test)
    return {name: "test" if i < test else "valid" if i < test + valid else "train" for i, name in enumerate(order)}
