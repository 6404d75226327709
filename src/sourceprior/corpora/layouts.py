"""VCTK and FSDKaggle2018 as they were downloaded, to train on without a copy; the clips of `sourceprior data`.

Read as a folder per class they would be nonsense: a class "wav48_silence_trimmed", or one of the test clips.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

from sourceprior import audio
from sourceprior.corpora.build import SHORTEST, trimmed
from sourceprior.corpora.entries import Entry, Found
from sourceprior.corpora.fsdkaggle2018 import fsdkaggle2018
from sourceprior.corpora.vctk import AUDIO, vctk
from sourceprior.datasets import SPEECH, BadClip, Clip, licence_filter, read_clip, voice_of
from sourceprior.errors import UserError

MARKS: dict[str, Callable[[Path], Found]] = {AUDIO: vctk, "FSDKaggle2018.*": fsdkaggle2018}
"""What is in the folder of a data set."""


def layout_of(root: str | Path) -> Callable[[Path], Found] | None:
    """What finds the clips of a data set as it was downloaded; None for every other folder.

    Raises UserError for a folder of such data sets, with what to type instead.
    """
    base = Path(root)
    if base.name == AUDIO:
        return lambda folder: vctk(folder.parent)
    for mark, find in MARKS.items():
        if any(base.glob(mark)):
            return find
    for mark, find in MARKS.items():
        for inner in sorted(base.glob(f"*/{mark}"))[:1]:
            name = find.__name__
            raise UserError(
                f"'{root}' holds a data set as it was downloaded: make a manifest with `sourceprior data {name} "
                f"{inner.parent} -o DATA` and train on DATA, or name that folder itself."
            )
    return None


def read_layout(root: str | Path, split: str, licence: str = "commercial") -> list[Clip]:
    """Clips of one split of a data set as it was downloaded.

    Raises UserError if no clip is left, or the data set is not whole.
    """
    wanted = licence_filter(licence)
    find = layout_of(root)
    assert find is not None
    clips = [_clip(entry) for entry in find(Path(root)).entries if entry.split == split]
    clips = [clip for clip in clips if wanted(clip.licence)]
    if not clips:
        raise UserError(f"'{root}' holds no clip for split '{split}' with licence '{licence}'.")
    return sorted(clips, key=lambda clip: clip.path)


def read_trimmed(path: Path, sample_rate: int) -> np.ndarray:
    """A clip as `datasets.read_clip` reads it, without the silence at its ends. Raises BadClip."""
    wave = read_clip(path, sample_rate)
    if not np.any(wave):
        raise BadClip(path, "silent")
    wave = trimmed(wave, sample_rate)
    if len(wave) < SHORTEST * sample_rate:
        raise BadClip(path, f"shorter than {SHORTEST} s")
    return wave


def layout_reader(root: str | Path) -> Callable[[Path, int], np.ndarray]:
    """What reads the clips of a data set as `build` would copy them."""
    return read_trimmed if layout_of(root) is fsdkaggle2018 else read_clip


def seconds_of(file: Path) -> float:
    """Length by the header; 0 for a broken file, which is found out when it is read."""
    try:
        return round(soundfile.info(audio.native(file)).duration, 3)
    except (soundfile.SoundFileError, OSError):
        return 0.0


def _clip(entry: Entry) -> Clip:
    speech = entry.kind == SPEECH
    return Clip(
        entry.path, entry.split, SPEECH if speech else entry.label, entry.label if speech else "", entry.licence,
        seconds_of(entry.path), voice_of({"gender": entry.gender, "age": entry.age}) if speech else "",
    )  # fmt: skip
