"""VCTK 0.92: `wav48_silence_trimmed/pXXX/pXXX_NNN_micM.flac`, 110 speakers, 48 kHz, CC-BY-4.0."""

from __future__ import annotations

import re
from pathlib import Path

from sourceprior.corpora.entries import Entry, Found
from sourceprior.errors import UserError

AUDIO = "wav48_silence_trimmed"
TEST = ("p225", "p226", "p234", "p238", "p241", "p245", "p248", "p251", "p294", "p311")
"""The ten speakers that nothing is trained on: five women and five men, English, Scottish, Irish, Indian, American."""
VALID = ("p243", "p265", "p271", "p276", "p298", "p308")
"""Of the other hundred, those that training is watched with: three women and three men, English, Scottish, Irish,
American."""
_NAME = re.compile(r"(?P<utterance>(?P<speaker>[ps]\d+)_\d+)_mic(?P<mic>[12])")


def vctk(root: Path, mic: int = 1, hold_out: bool = True) -> Found:
    """Utterances of one of the two microphones; those that it does not have are counted as missing.

    Microphone 1 has all 110 speakers, 2 lacks those of p280 and p315.

    Args:
        hold_out: put the speakers of VALID into the valid split; otherwise they are trained on, as in the paper.

    Raises:
        UserError: the folder is not a VCTK 0.92, or there is no such microphone.
    """
    folder = root / AUDIO if (root / AUDIO).is_dir() else root
    if mic not in (1, 2):
        raise UserError(f"VCTK has the microphones 1 and 2, not {mic}.")
    found, here, other = Found(), set(), set()
    people = speakers(root / "speaker-info.txt")
    for file in sorted(folder.glob("*/*.flac")):
        match = _NAME.fullmatch(file.stem)
        if match is None or match["speaker"] != file.parent.name:
            found.skipped["of another name"] += 1
            continue
        if int(match["mic"]) != mic:
            other.add(match["utterance"])
            continue
        here.add(match["utterance"])
        speaker = match["speaker"]
        gender, age = people.get(speaker, ("", ""))
        split = "test" if speaker in TEST else "valid" if hold_out and speaker in VALID else "train"
        found.entries.append(
            Entry(file, "speech", split, speaker, "VCTK-0.92", file.stem, "CC-BY-4.0", speaker, gender, age)
        )
    if not found.entries and not other:
        raise UserError(f"'{root}' is not a VCTK 0.92: it has no {AUDIO}/pXXX/pXXX_NNN_mic{mic}.flac.")
    found.skipped[f"missing from microphone {mic}"] += len(other - here)
    return found


def speakers(file: Path) -> dict[str, tuple[str, str]]:
    """Speaker -> gender (m, f) and age, from speaker-info.txt; empty where there is none."""
    if not file.is_file():
        return {}
    people = {}
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines()[1:]:
        name, age, gender, *_ = [*line.split(), "", "", ""]
        # Early releases leave out the letter.
        people[name if name[:1] in ("p", "s") else f"p{name}"] = (gender.lower()[:1], age)
    return people
