"""A training set whatever its form: a manifest, a pack, shards, VCTK or FSDKaggle2018, or simply a folder per class.

manifest   manifest.csv lists the clips
pack       one Ogg Opus file per split (`packs`)
shards     tar files, here or in an object store (`shards`)
layout     VCTK or FSDKaggle2018 as it was downloaded (`corpora.layouts`)
folder     robin/*.wav, pump/*.wav: the folder's name is the label, "speech" is speech; with or without folders
           train, valid and test around them. Without, a tenth of each class's clips is for validation
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sourceprior.audio import ENDINGS
from sourceprior.corpora.folder import take_of
from sourceprior.corpora.layouts import layout_of, layout_reader, read_layout, seconds_of
from sourceprior.corpora.splits import is_split
from sourceprior.datasets import SPEECH, SPOKEN, Clip, ClipBank, licence_filter
from sourceprior.errors import UserError
from sourceprior.labels import folded, meant_by
from sourceprior.learning import NEGATIVES
from sourceprior.licences import NOT_STATED
from sourceprior.packs import is_own, is_pack, read_clips, reader
from sourceprior.rolling import Rolling
from sourceprior.shards import Shards, Tally, counted, is_shards

PIECES = 60
"""Pieces that fit into memory, at least: 20 of them are a part of data that comes in turns."""
FEWEST = 4
"""Clips of a class from which one is left for validation."""


def is_listed(root: str | Path) -> bool:
    """Whether a folder is a pack or has a manifest."""
    return is_pack(root) or (Path(root) / "manifest.csv").is_file()


def is_plain(root: str | Path) -> bool:
    """Whether a folder is read as a folder per class, which names no licence: its clips are taken to be one's own."""
    return not is_listed(root) and layout_of(root) is None


def clips_of(root: str | Path, split: str, licence: str = "commercial") -> list[Clip]:
    """Clips of a split of a manifest, a pack, a layout or a folder per class; none for a split that a folder lacks.

    Those of a folder per class are there whatever ``licence`` asks for.

    Raises:
        UserError: there is nothing of these, or no clip is left.
    """
    licence_filter(licence)
    if is_listed(root):
        return read_clips(root, split, licence)
    return read_folder(root, split) if is_plain(root) else read_layout(root, split, licence)


def some_of(root: str | Path, split: str, licence: str = "commercial") -> list[Clip]:
    """The same, where a split without clips is an error, too. Raises UserError."""
    clips = clips_of(root, split, licence)
    if not clips and is_plain(root):
        raise UserError(
            f"'{root}' has no class of {FEWEST} clips, of which one is held out for '{split}': take --split train only."
        )
    if not clips:
        raise UserError(f"'{root}' has no clip for split '{split}' with licence '{licence}'.")
    return clips


def reader_of(root: str | Path, split: str) -> Callable[[Path, int], np.ndarray]:
    """What reads the clips of `clips_of`: (path, Hz) -> mono int16 samples (N,)."""
    return reader(root, split) if is_listed(root) else layout_reader(root)


def read_folder(root: str | Path, split: str) -> list[Clip]:
    """Clips of a folder per class. Raises UserError if it holds no sounds in folders."""
    base = Path(root)
    if not base.is_dir():
        raise UserError(f"There is no folder '{root}': name the data by --data.")
    divided = is_split(base / "train")
    top = base / split if divided else base
    classes = sorted(folder for folder in top.iterdir() if folder.is_dir()) if top.is_dir() else []
    clips, heard = [], False
    for folder in classes:
        files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in ENDINGS and file.is_file())
        heard |= bool(files)
        if not divided:
            files = _share(files, base, split)
        clips += [Clip(file, split, _label(folder.name), "", NOT_STATED, seconds_of(file)) for file in files]
    if not heard and split == "train":
        raise UserError(
            f"'{root}' is no training set: it needs a manifest.csv, or a folder of sound files for each class."
        )
    return sorted(clips, key=lambda clip: clip.path)


def _label(name: str) -> str:
    return SPEECH if name.casefold() == SPEECH else name


def _share(files: Sequence[Path], base: Path, split: str) -> list[Path]:
    """The files of one class that are for a split: a tenth for validation, whichever machine asks.

    Numbered takes of one recording go together, where there are not too few recordings for that.
    """
    takes = [file.with_name(take_of(file) + file.suffix) for file in files]
    if len(set(takes)) < FEWEST:
        takes = list(files)

    def drawn(take: Path) -> bytes:
        return hashlib.sha256(os.fsencode(take.relative_to(base).as_posix())).digest()

    wanted = max(1, round(len(files) / 10)) if len(files) >= FEWEST else 0
    held: set[Path] = set()
    for take in sorted(set(takes), key=drawn):
        if sum(other in held for other in takes) < wanted:
            held.add(take)
    order = sorted(zip(takes, files, strict=True), key=lambda pair: (drawn(pair[0]), pair[1]))
    return [file for take, file in order if split == ("valid" if take in held else "train")]


def cut(clips: Sequence[Clip], seconds: float) -> list[list[Clip]]:
    """Clips in order as pieces of no more than so many seconds; a longer clip is one by itself."""
    pieces: list[list[Clip]] = []
    taken = math.inf
    for clip in clips:
        if taken + clip.seconds > seconds:
            pieces.append([])
            taken = 0.0
        pieces[-1].append(clip)
        taken += clip.seconds
    return pieces


class Corpus:
    """A training set.

    Args:
        root: folder, or address of shards.
        licence: "commercial" or "any".
        change: turns clips into clips, say with other labels.
        device: where banks go.
    """

    def __init__(
        self,
        root: str | Path,
        licence: str = "commercial",
        change: Callable[[list[Clip]], list[Clip]] = lambda clips: clips,
        device: torch.device | str = "cpu",
        sample_rate: int = 16000,
    ) -> None:
        self.root, self.licence, self.change, self.device = root, licence, change, device
        self.sample_rate = sample_rate
        self.shards = Shards(root, licence) if is_shards(root) else None
        self.lists: dict[str, list[Clip]] = {}
        self.lent: dict[str, list[Clip]] = {}
        self.lent_banks: dict[str, ClipBank] = {}

    @property
    def own(self) -> bool:
        """Whether the clips come from a folder per class, which states no licence, and are taken to be the user's."""
        if self.shards:
            return bool(self.shards.index.get("own"))
        return is_own(self.root) if is_pack(self.root) else is_plain(self.root)

    def clips(self, split: str) -> list[Clip]:
        """The clips of a split of a folder; not for shards."""
        if split not in self.lists:
            self.lists[split] = self.change(clips_of(self.root, split, self.licence))
        return self.lists[split]

    def tally(self, split: str) -> list[Tally]:
        """Clips and seconds per label and licence."""
        return self.shards.tally(split) if self.shards else counted(self.clips(split))

    def table(self, split: str) -> Sequence[Clip | Tally]:
        """The clips of a split; the tally where shards do not list them."""
        return (self.shards.clips(split) or self.tally(split)) if self.shards else self.clips(split)

    def labels(self) -> list[str]:
        """Labels of the clips to train on."""
        return sorted({row.label for row in self.tally("train")})

    def borrow(self) -> list[Clip]:
        """Put clips of the package's bank beside those of the data where it has but one source; those of "train".

        A source is known by what it is not: for speech alone these are sounds, for one class of sound all others.
        """
        known = self.labels()
        sounds = [label for label in known if label not in SPOKEN]
        if sounds and len(known) > 1:
            return []
        own = set().union(*map(meant_by, sounds or SPOKEN))
        for split in ("train", "valid"):
            self.lent[split] = [clip for clip in read_clips(NEGATIVES, split, "any") if folded(clip.label) not in own]
        return self.lent["train"]

    def _with_lent(self, bank: ClipBank, split: str) -> ClipBank:
        """A bank of the data and, after it, of the clips that were borrowed."""
        if split not in self.lent:
            return bank
        if split not in self.lent_banks:
            clips = self.lent[split]
            labels = sorted({clip.label for clip in clips})
            read = reader(NEGATIVES, split)
            self.lent_banks[split] = ClipBank(clips, labels, self.sample_rate, read=read).to(self.device)
        return bank.joined(self.lent_banks[split])

    def bank(self, labels: Sequence[str], memory: float, batch_seconds: float, seed: int = 0) -> ClipBank | Rolling:
        """The clips to train on: all of them where they fit into memory, else some at a time.

        Args:
            memory: GB that decoded clips may take.
            batch_seconds: seconds of audio that a batch takes.
        """
        total = sum(row.seconds for row in self.tally("train"))
        limit = 1e9 * memory / (2 * self.sample_rate)
        load: Callable[[Sequence[Any]], ClipBank]
        if self.shards:
            entries = self.shards.split("train")["shards"]
            pieces: list[Any] = [entry["name"] for entry in entries]
            seconds = [entry["seconds"] for entry in entries]
            kinds = None
            load = partial(self._shards, "train", labels)
        else:
            speakers: dict[tuple[str, str], list[Clip]] = {}
            for clip in self.clips("train"):
                speakers.setdefault((clip.label, clip.speaker or str(clip.path)), []).append(clip)
            # A long speaker in pieces, so that there is a piece of every label for every part.
            most = limit / PIECES
            pieces = [piece for clips in speakers.values() for piece in cut(clips, most)]
            kinds = [piece[0].label for piece in pieces]
            seconds = [sum(clip.seconds for clip in piece) for piece in pieces]
            load = partial(self._speakers, labels)
        if self.shards and total <= limit:
            return load(pieces)
        # A pack is decoded as a whole.
        if total <= limit or is_pack(self.root):
            return self._listed(self.clips("train"), labels, "train")
        return Rolling(pieces, seconds, kinds, load, limit, batch_seconds, seed)

    def valid(self, labels: Sequence[str], memory: float) -> ClipBank | None:
        """Clips of the valid split, no more than a third of the memory; None if there are none.

        Raises UserError if none of them can be read.
        """
        limit = 1e9 * memory / (2 * self.sample_rate) / 3
        if self.shards:
            if "valid" not in self.shards.index["splits"]:
                return None
            chosen: list[str] = []
            taken = 0.0
            for entry in self.shards.split("valid")["shards"]:
                if chosen and taken + entry["seconds"] > limit:
                    break
                chosen, taken = [*chosen, entry["name"]], taken + entry["seconds"]
            return self._shards("valid", labels, chosen)
        try:
            clips = [clip for clip in self.clips("valid") if clip.label in set(labels)]
        except UserError:
            # The data as a whole was read before: it is this split that is missing.
            return None
        if not clips:
            return None
        total = sum(clip.seconds for clip in clips)
        if total > limit:
            step = -(-total // limit)
            clips = clips[:: int(step)]
        return self._listed(clips, labels, "valid")

    def _listed(self, clips: Sequence[Clip], labels: Sequence[str], split: str) -> ClipBank:
        bank = ClipBank(clips, labels, self.sample_rate, read=reader_of(self.root, split)).to(self.device)
        return self._with_lent(bank, split)

    def _speakers(self, labels: Sequence[str], pieces: Sequence[Sequence[Clip]]) -> ClipBank:
        return self._listed([clip for piece in pieces for clip in piece], labels, "train")

    def _shards(self, split: str, labels: Sequence[str], names: Sequence[str]) -> ClipBank:
        assert self.shards is not None
        bank = self.shards.bank(names, split, labels, self.sample_rate, self.change).to(self.device)
        return self._with_lent(bank, split)
