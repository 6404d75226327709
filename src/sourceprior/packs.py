"""A packed training set: the clips of each split as one Ogg Opus file, and an index that says where each lies.

For moving hours of clips to another machine. A pack gives the same clips in the same order as its manifest, so that a
`ClipBank` read from it has the same index and differs by the coding noise only.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from sourceprior.datasets import SPEECH, BadClip, Clip, licence_filter, read_clip, read_manifest
from sourceprior.errors import UserError
from sourceprior.stem_files import make_folder
from sourceprior.writing import replacing

INDEX = "pack.json"
FIELDS = tuple(field.name for field in fields(Clip) if field.name not in ("path", "split"))
COLUMNS = ("path", "kind", "start", "length", *FIELDS)
GAP = 0.04
"""Seconds of silence between clips: two Opus frames, more than they overlap, so that no clip rings into another."""


def write_pack(
    root: str | Path,
    folder: str | Path,
    splits: Sequence[str] = ("train", "valid"),
    licence: str = "commercial",
    kbps: float = 24.0,
    sample_rate: int = 16000,
    progress: Callable[[int, int], None] | None = None,
) -> list[str]:
    """Pack splits of a data folder into ``folder``; returns the paths of clips that cannot be read, left out.

    Args:
        root: a folder with a manifest, a folder per class, or a data set as it was downloaded (`corpus`).
        licence: "commercial" or "any", as for `read_manifest`.
        kbps: aimed-at bit rate in kbit/s, 6 to 256; files come out some 3 % above it.
        sample_rate: Hz; one of the rates Opus knows: 8000, 12000, 16000, 24000, 48000.
        progress: called with (clips written, clips).

    Raises:
        UserError: the bit rate is out of range, or there is no clip of a split that can be read.
    """
    from sourceprior.corpus import is_plain, reader_of, some_of

    if is_pack(root):
        raise UserError(f"'{root}' is a pack already: copy it as it is.")
    if not 6 <= kbps <= 256:
        raise UserError(f"--kbps is between 6 and 256, not {kbps:g}.")
    clips = {split: some_of(root, split, licence) for split in splits}
    folder = make_folder(folder)
    if folder.samefile(root):
        raise UserError(f"The pack would lie among the clips of '{root}': choose another -o.")
    total, done = sum(map(len, clips.values())), 0
    index: dict[str, Any] = {"format": 1, "sample_rate": sample_rate, "kbps": kbps, "licence": licence}
    index |= {"columns": COLUMNS, "own": is_plain(root), "splits": {}}
    bad: list[str] = []
    gap = np.zeros(round(GAP * sample_rate), np.int16)
    # An earlier pack stays until this one is whole. It has its index last: one that was interrupted in between is none.
    with ExitStack() as parts:
        for split, chosen in clips.items():
            rows, start, read = [], 0, reader_of(root, split)
            # libsndfile turns its compression level 0 ... 1 into 256 ... 6 kbit/s per channel.
            part = parts.enter_context(replacing(folder / f"{split}.opus"))
            with soundfile.SoundFile(
                part, "w", sample_rate, 1, "OPUS", format="OGG", compression_level=1 - (kbps - 6) / 250
            ) as file:
                for clip in chosen:
                    done += 1
                    if progress:
                        progress(done, total)
                    try:
                        wave = read(clip.path, sample_rate)
                    except BadClip:
                        bad.append(str(clip.path))
                        continue
                    file.write(wave)
                    file.write(gap)
                    path = clip.path.relative_to(root).as_posix()
                    kind = SPEECH if clip.label == SPEECH else "sound"
                    rows.append((path, kind, start, len(wave), *(getattr(clip, name) for name in FIELDS)))
                    start += len(wave) + len(gap)
            if not rows:
                raise UserError(f"'{root}' has no clip for split '{split}' with licence '{licence}' that can be read.")
            index["splits"][split] = {"file": f"{split}.opus", "samples": start, "clips": rows}
        (folder / INDEX).unlink(missing_ok=True)
    # Most licences ask for the names of the authors wherever the audio goes.
    for name in ("ATTRIBUTION.md", "CREDITS.md"):
        if (Path(root) / name).is_file():
            with replacing(folder / name) as part:
                shutil.copyfile(Path(root) / name, part)
    with replacing(folder / INDEX) as part:
        part.write_text(json.dumps(index, separators=(",", ":")) + "\n")
    return bad


def is_pack(root: str | Path) -> bool:
    """Whether a data folder is a pack, told by its index."""
    return (Path(root) / INDEX).is_file()


def is_own(root: str | Path) -> bool:
    """Whether a pack was made of a folder per class, which names no licence: whoever packed it did so as their own."""
    return bool(_index(root).get("own"))


def read_clips(root: str | Path, split: str, licence: str = "commercial") -> list[Clip]:
    """Clips of one split of a pack or of a folder with a manifest, in the manifest's order.

    "any" licence means all that the pack holds, which may have been packed with fewer.

    Raises:
        UserError: the index is unreadable, or no clip is left.
    """
    if not is_pack(root):
        return read_manifest(root, split, licence)
    wanted = licence_filter(licence)
    clips, own = [], is_own(root)
    for row in _split(root, split)["clips"]:
        known = {name: row[name] for name in FIELDS if name in row}
        clip = Clip(path=Path(root) / row["path"], split=split, **known)
        if own or wanted(clip.licence):
            clips.append(clip)
    if not clips:
        raise UserError(f"The pack '{root}' holds no clip for split '{split}' with licence '{licence}'.")
    return clips


def reader(root: str | Path, split: str) -> Callable[[Path, int], np.ndarray]:
    """What reads clips of ``read_clips`` as `read_clip` does: (path, Hz) -> mono int16 samples (N,).

    For a pack the file is decoded once, here, and clips are views of it (1 GB for 9 hours): let go of the reader when
    the bank is built.

    Raises:
        UserError: the index or audio is unreadable or incomplete; on reading, another sample rate is asked for.
    """
    if not is_pack(root):
        return read_clip
    entry = _split(root, split)
    file = Path(root) / entry["file"]
    try:
        audio, rate = soundfile.read(file, dtype="int16")
    except (OSError, soundfile.SoundFileError) as error:
        raise UserError(f"'{file}' cannot be read: pack again, or copy it again.") from error
    if audio.ndim != 1 or len(audio) != entry["samples"]:
        raise UserError(f"'{file}' is not as long as its index says: it was cut short, copy it again.")
    place = {Path(root) / row["path"]: (row["start"], row["length"]) for row in entry["clips"]}

    def read(path: Path, sample_rate: int) -> np.ndarray:
        if sample_rate != rate:
            raise UserError(f"The pack '{root}' holds {rate} Hz, not {sample_rate} Hz: pack again at that rate.")
        start, length = place[path]
        return audio[start : start + length]

    return read


def _index(root: str | Path) -> dict[str, Any]:
    """The index of a pack; raises UserError."""
    file = Path(root) / INDEX
    try:
        index = json.loads(file.read_text())
        if index["format"] != 1:
            raise UserError(f"'{file}' was written by another version of sourceprior: pack again.")
        return index
    except (OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise UserError(f"'{file}' is not the index of a pack: pack again.") from error


def _split(root: str | Path, split: str) -> dict[str, Any]:
    """The index of one split, its clips as dictionaries; raises UserError."""
    index = _index(root)
    try:
        splits, columns = index["splits"], index["columns"]
        if split not in splits:
            raise UserError(f"The pack '{root}' holds no split '{split}', only {', '.join(splits)}.")
        return splits[split] | {"clips": [dict(zip(columns, row, strict=True)) for row in splits[split]["clips"]]}
    except (KeyError, TypeError) as error:
        raise UserError(f"'{Path(root) / INDEX}' is not the index of a pack: pack again.") from error
