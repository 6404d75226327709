"""A training set whatever its form: a manifest, a pack, shards, or simply a folder per class.

manifest   manifest.csv lists the clips
pack       one Ogg Opus file per split (`packs`)
shards     tar files, here or in an object store (`shards`)
folder     robin/*.wav, pump/*.wav: the folder's name is the label, "speech" is speech; with or without folders
           train, valid and test around them. Without, a tenth of each class's clips is for validation
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import soundfile
import torch

from sourceprior.datasets import SPEECH, Clip, ClipBank, read_clip
from sourceprior.errors import UserError
from sourceprior.many import ENDINGS
from sourceprior.packs import is_pack, read_clips, reader
from sourceprior.rolling import Rolling
from sourceprior.shards import Shards, Tally, counted, is_shards

SPLITS = ("train", "valid", "test")
NOT_STATED = "not stated"
"""Licence of the clips of a folder, which names none."""
FEWEST = 4
"""Clips of a class from which one is left for validation."""


def clips_of(root: str | Path, split: str, licence: str = "commercial") -> list[Clip]:
    """Clips of a split of a manifest, a pack or a folder per class; none for a split that a folder lacks.

    Raises:
        UserError: there is nothing of these, or no clip is left.
    """
    if is_pack(root) or (Path(root) / "manifest.csv").is_file():
        return read_clips(root, split, licence)
    return read_folder(root, split)


def read_folder(root: str | Path, split: str) -> list[Clip]:
    """Clips of a folder per class. Raises UserError if it holds no sounds in folders."""
    base = Path(root)
    if not base.is_dir():
        raise UserError(f"There is no folder '{root}': name the data by --data.")
    divided = (base / "train").is_dir()
    top = base / split if divided else base
    classes = sorted(folder for folder in top.iterdir() if folder.is_dir()) if top.is_dir() else []
    clips, heard = [], False
    for folder in classes:
        files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in ENDINGS and file.is_file())
        heard |= bool(files)
        if not divided:
            files = _share(files, base, split)
        clips += [Clip(file, split, _label(folder.name), "", NOT_STATED, _seconds(file)) for file in files]
    if not heard and split == "train":
        raise UserError(
            f"'{root}' is no training set: it needs a manifest.csv, or a folder of sound files for each class."
        )
    return sorted(clips, key=lambda clip: clip.path)


def _label(name: str) -> str:
    return SPEECH if name.casefold() == SPEECH else name


def _share(files: Sequence[Path], base: Path, split: str) -> list[Path]:
    """The files of one class that are for a split: a tenth for validation, whichever machine asks."""
    order = sorted(files, key=lambda file: hashlib.sha256(file.relative_to(base).as_posix().encode()).digest())
    held = max(1, round(len(files) / 10)) if len(files) >= FEWEST else 0
    return {"train": order[held:], "valid": order[:held]}.get(split, [])


def _seconds(file: Path) -> float:
    """Length by the header; 0 for a broken file, which is found out when it is read."""
    try:
        return round(soundfile.info(file).duration, 3)
    except (soundfile.SoundFileError, OSError):
        return 0.0


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

    def clips(self, split: str) -> list[Clip]:
        """The clips of a split; shards only know how many there are."""
        if split not in self.lists:
            self.lists[split] = self.change(clips_of(self.root, split, self.licence))
        return self.lists[split]

    def tally(self, split: str) -> list[Tally]:
        """Clips and seconds per label and licence."""
        return self.shards.tally(split) if self.shards else counted(self.clips(split))

    def labels(self) -> list[str]:
        """Labels of the clips to train on."""
        return sorted({row.label for row in self.tally("train")})

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
            load = partial(self._shards, "train", labels)
        else:
            speakers: dict[tuple[str, str], list[Clip]] = {}
            for clip in self.clips("train"):
                speakers.setdefault((clip.label, clip.speaker or str(clip.path)), []).append(clip)
            pieces = list(speakers.values())
            seconds = [sum(clip.seconds for clip in piece) for piece in pieces]
            load = partial(self._speakers, labels)
        if self.shards and total <= limit:
            return load(pieces)
        # A pack is decoded as a whole.
        if total <= limit or is_pack(self.root):
            return self._listed(self.clips("train"), labels, reader(self.root, "train"))
        return Rolling(pieces, seconds, load, limit, batch_seconds, seed)

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
        return self._listed(clips, labels, reader(self.root, "valid"))

    def _listed(self, clips: Sequence[Clip], labels: Sequence[str], read: Callable) -> ClipBank:
        return ClipBank(clips, labels, self.sample_rate, read=read).to(self.device)

    def _speakers(self, labels: Sequence[str], pieces: Sequence[Sequence[Clip]]) -> ClipBank:
        return self._listed([clip for piece in pieces for clip in piece], labels, read_clip)

    def _shards(self, split: str, labels: Sequence[str], names: Sequence[str]) -> ClipBank:
        assert self.shards is not None
        return self.shards.bank(names, split, labels, self.sample_rate, self.change).to(self.device)
