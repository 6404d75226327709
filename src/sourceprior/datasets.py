"""Clips of single sources: from a manifest to batches of training signals.

All clips lie in one flat tensor, and a batch is gathered from it by index arithmetic: the same few lines render it on
a laptop and on a GPU, where a pool of workers decoding files could not keep up.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import torch
from torch import Tensor

from sourceprior.audio import native
from sourceprior.errors import UserError
from sourceprior.licences import commercial

SPEECH = "speech"
VOICES = ("male_speech", "female_speech", "child_speech")
"""Kinds of speech: labels of a prior that knows them, each a part of "speech"."""
SPOKEN = (SPEECH, *VOICES)
ANEW = 8
"""Times that a crop is drawn again where it is silent throughout."""
CHILD = 13
"""Years below which a speaker counts as a child: a voice has not broken yet."""
VOICE_GROUP = "voice_"
"""How labels of voices that sound alike begin, a number after it, see `timbre`."""


@dataclass(frozen=True)
class Clip:
    """One row of a manifest."""

    path: Path
    split: str
    label: str
    speaker: str
    licence: str
    seconds: float
    voice: str = ""

    @property
    def clips(self) -> int:
        """One, as in a tally of clips."""
        return 1

    @property
    def commercial(self) -> bool:
        """Whether the licence allows commercial use, see `licences.commercial`."""
        return commercial(self.licence)


def licence_filter(word: str) -> Callable[[str], bool]:
    """What tells of a licence whether its clips are wanted: "commercial" for those that allow it, "any" for all.

    Raises:
        UserError: any other word, which must not pass for one of these.
    """
    if word not in ("commercial", "any"):
        raise UserError(f"--licence is commercial or any, not '{word}': it chooses clips by what their licences allow.")
    return commercial if word == "commercial" else lambda licence: True


def read_manifest(root: str | Path, split: str | None = None, licence: str = "commercial") -> list[Clip]:
    """Clips of ``root/manifest.csv``, those of one split, sorted by path.

    Args:
        licence: "commercial" leaves out clips whose licence forbids commercial use; "any" keeps all.

    Raises:
        UserError: there is no manifest, a column is missing, or no clip is left.
    """
    wanted = licence_filter(licence)
    file = Path(root) / "manifest.csv"
    if not file.is_file():
        raise UserError(f"There is no manifest.csv in '{root}': point --data at a folder that holds one.")
    clips = []
    for number, row in read_rows(file, ("path", "kind", "split", "label", "licence", "seconds")):
        label = SPEECH if row["kind"] == SPEECH else row["label"]
        clip = Clip(
            Path(root) / row["path"], row["split"], label, row.get("speaker") or "", row["licence"],
            _seconds(row["seconds"], file, number), voice_of(row) if label == SPEECH else "",
        )  # fmt: skip
        if (split is None or clip.split == split) and wanted(clip.licence):
            clips.append(clip)
    if not clips:
        raise UserError(f"'{file}' lists no clip for split '{split}' with licence '{licence}'.")
    return sorted(clips, key=lambda clip: clip.path)


def read_rows(file: Path, columns: Sequence[str], inside: bool = True) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a manifest with the numbers of their lines; every one has these columns, and a path.

    A sound has a label, too.

    Args:
        inside: clips have to lie in the manifest's folder, as what lists them again names them relative to it.

    Raises:
        UserError: it is no text, lacks a column, a row is incomplete, or a path leads out of the folder; the message
            names the line.
    """
    # Spreadsheets begin what they save as UTF-8 with a mark, which would be a part of the first column's name.
    with file.open(newline="", encoding="utf-8-sig") as rows:
        reader = csv.DictReader(rows)
        try:
            missing = set(columns) - set(reader.fieldnames or ())
            if missing:
                raise UserError(f"'{file}' lacks the column{'s' * (len(missing) > 1)} {', '.join(sorted(missing))}.")
            for row in reader:
                needed = ("path", *(("label",) if row["kind"] != SPEECH else ()))
                for name in columns:
                    if row[name] is None or (name in needed and not row[name].strip()):
                        raise UserError(f"Line {reader.line_num} of '{file}' has no {name}: complete or remove it.")
                if inside and (Path(row["path"]).is_absolute() or ".." in Path(row["path"]).parts):
                    raise UserError(
                        f"Line {reader.line_num} of '{file}' names a clip outside of its folder: write the path "
                        "relative to the folder, or copy the clips into one with `sourceprior data manifest`."
                    )
                yield reader.line_num, row
        except (UnicodeDecodeError, csv.Error) as error:
            raise UserError(f"'{file}' is not a table in UTF-8 with commas: save it as CSV again.") from error


def _seconds(text: str, file: Path, line: int) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise UserError(f"Line {line} of '{file}' gives '{text}' as a clip's seconds: write a number there.")
    return seconds


def is_voice_group(label: str) -> bool:
    """Whether a label is one of voices that sound alike."""
    return label.startswith(VOICE_GROUP) and label.removeprefix(VOICE_GROUP).isdecimal()


def voice_of(row: Mapping[str, str]) -> str:
    """One of VOICES from the columns gender (m, f) and age (years) of a manifest's row; "" where they do not say."""
    age, gender = (row.get("age") or "").strip(), (row.get("gender") or "").strip().lower()[:1]
    if age.isdigit() and int(age) < CHILD:
        return "child_speech"
    return {"m": "male_speech", "f": "female_speech"}.get(gender, "")


def with_voices(clips: Sequence[Clip]) -> list[Clip]:
    """The clips, speech labelled by its kind of voice where that is known."""
    return [replace(clip, label=clip.voice) if clip.label == SPEECH and clip.voice else clip for clip in clips]


class BadClip(UserError):
    """A clip that cannot be used; `reason` in a few words."""

    def __init__(self, path: Path | str, reason: str) -> None:
        self.reason = reason
        super().__init__(f"The clip '{path}' is {reason}.")


def read_clip(path: Path, sample_rate: int) -> np.ndarray:
    """A clip as mono int16 samples at ``sample_rate``. Raises BadClip where the file is missing or broken."""
    if not Path(path).is_file():
        raise BadClip(path, "missing")
    return decode(path, sample_rate, path)


def decode(file: Path | BinaryIO, sample_rate: int, name: Path | str) -> np.ndarray:
    """What an audio file holds, as mono int16 samples at ``sample_rate``. Raises BadClip, which says its name."""
    try:
        given = native(file) if isinstance(file, Path) else file
        audio, rate = soundfile.read(given, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError, ValueError) as error:
        raise BadClip(name, "broken") from error
    if not np.isfinite(audio).all():
        raise BadClip(name, "not finite everywhere")
    if not audio.size:
        raise BadClip(name, "empty")
    mono = audio.mean(1)
    # Files of floats may hold more than full scale: scaled down, as cutting off the peaks would distort them.
    mono /= max(1.0, float(np.abs(mono).max()))
    if rate != sample_rate:
        import soxr

        mono = soxr.resample(mono, rate, sample_rate)
    return np.round(np.clip(mono, -1, 1 - 2**-15) * 2**15).astype(np.int16)


class ClipBank:
    """The clips of one split as one flat int16 tensor, with gathering by label.

    Utterances of a speaker are joined with short pauses into one long clip, as a crop of 4 s needs more than one.

    Args:
        clips: what to load.
        labels: the label of each index; clips of other labels are left out.
        sample_rate: Hz.
        progress: called with (clips read, clips).
        read: what reads a clip, (path, sample rate) -> mono int16 samples; another one reads from a pack.
        workers: threads that read.

    Attributes:
        bad: path to reason of the clips that were left out: unreadable, empty or silent.

    Raises:
        UserError: no clip of these labels can be read.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        labels: Sequence[str],
        sample_rate: int = 16000,
        progress: Callable[[int, int], None] | None = None,
        read: Callable[[Path, int], np.ndarray] = read_clip,
        workers: int = 4,
    ) -> None:
        self.sample_rate = sample_rate
        self.labels = tuple(labels)
        index = {label: i for i, label in enumerate(labels)}
        pause = np.random.default_rng(0)
        joined: dict[tuple[str, str], list[np.ndarray]] = {}
        used = [clip for clip in clips if clip.label in index]
        self.bad: dict[str, str] = {}

        def get(clip: Clip) -> np.ndarray | BadClip:
            try:
                wave = read(clip.path, sample_rate)
            except BadClip as error:
                return error
            return wave if wave.any() else BadClip(clip.path, "silent")

        with ThreadPoolExecutor(workers) as pool:
            for i, (clip, wave) in enumerate(zip(used, pool.map(get, used), strict=True)):
                if isinstance(wave, BadClip):
                    self.bad[str(clip.path)] = wave.reason
                else:
                    parts = joined.setdefault((clip.label, clip.speaker or str(clip.path)), [])
                    if parts:
                        parts.append(np.zeros(int(pause.uniform(0.02, 0.3) * sample_rate), np.int16))
                    parts.append(wave)
                if progress:
                    progress(i + 1, len(used))
        if not joined:
            first = f": '{next(iter(self.bad))}' is {next(iter(self.bad.values()))}" if self.bad else ""
            raise UserError(f"No clip that can be read carries any of the requested labels{first}.")
        waves = [np.concatenate(parts) for parts in joined.values()]
        lengths = np.array([len(wave) for wave in waves])
        self.seconds = float(lengths.sum() / sample_rate)
        self.wave = torch.from_numpy(np.concatenate([*waves, np.zeros(1, np.int16)]))
        self.start = torch.from_numpy(np.concatenate(([0], np.cumsum(lengths)[:-1])))
        self.length = torch.from_numpy(lengths)
        self.label = torch.tensor([index[label] for label, _ in joined])
        self.groups = [torch.nonzero(self.label == i).flatten() for i in range(len(labels))]
        # Groups of voices that sound alike, beside the labels: see `timbre`.
        self.voices: tuple[str, ...] = ()
        self.voice = torch.full_like(self.label, -1)

    def at(self, _number: int) -> ClipBank:
        """The clips that a batch is drawn from: all of them; `rolling.Rolling` has others in turns."""
        return self

    def clip(self, i: int) -> np.ndarray:
        """Samples of one clip, int16."""
        return self.wave[int(self.start[i]) : int(self.start[i] + self.length[i])].cpu().numpy()

    def joined(self, other: ClipBank) -> ClipBank:
        """The clips of this bank and, after them, those of another one on the same device, which has no voices."""
        made = copy(self)
        made.labels = (*self.labels, *(label for label in other.labels if label not in self.labels))
        place = torch.tensor([made.labels.index(label) for label in other.labels], device=self.label.device)
        made.bad, made.seconds = self.bad | other.bad, self.seconds + other.seconds
        made.wave = torch.cat([self.wave, other.wave])
        made.start = torch.cat([self.start, other.start + len(self.wave)])
        made.length = torch.cat([self.length, other.length])
        made.label = torch.cat([self.label, place[other.label]])
        made.voice = torch.cat([self.voice, torch.full_like(other.label, -1)])
        made.groups = [torch.nonzero(made.label == i).flatten() for i in range(len(made.labels))]
        return made

    def to(self, device: torch.device | str) -> ClipBank:
        """Move the audio and its index to a device."""
        for name in ("wave", "start", "length", "label", "voice"):
            setattr(self, name, getattr(self, name).to(device))
        self.groups = [group.to(device) for group in self.groups]
        return self

    def weights(self, labels: Iterable[str], power: float = 0.5) -> Tensor:
        """Probability of each clip (clips,) when labels are drawn with probability (seconds of audio)**power.

        "speech" stands for every kind of voice, too; a group of voices for its speakers.
        """
        chosen = set(labels)
        if SPEECH in chosen:
            chosen.update(VOICES)
        weight = torch.zeros(len(self.label), dtype=torch.float64, device=self.label.device)
        for name, group in zip(self.labels, self.groups, strict=True):
            if name in chosen and len(group):
                weight[group] = float(self.length[group].sum()) ** power / len(group)
        for i, name in enumerate(self.voices):
            if name in chosen:
                weight[self.voice == i] = 1.0
        # No clip of these labels: no weight, rather than not a number.
        return weight / weight.sum().clamp_min(1e-300)

    def render(
        self,
        clips: Tensor,
        samples: int,
        generator: torch.Generator,
        augment: bool = True,
        bend: Tensor | float = 1.0,
        playback: float = 0.13,
    ) -> Tensor:
        """Clips (B,) -> signals (B, samples) of RMS 1, each a random crop, or placed at random in silence.

        With ``augment``: for half of them a playback rate of exp(-``playback``) to exp(``playback``), and polarity. A
        signal may be partly silent, and is empty only where ANEW further crops are, too. ``bend`` (B,) makes the range
        of the playback rate narrower (in its logarithm).
        """
        bend = torch.as_tensor(bend, device=self.wave.device).expand(len(clips))
        out = self._crops(clips, samples, generator, augment, bend, playback)
        for _ in range(ANEW):
            empty = (out == 0).all(1)
            if not bool(empty.any()):
                break
            out[empty] = self._crops(clips[empty], samples, generator, augment, bend[empty], playback)
        return out

    def _crops(
        self,
        clips: Tensor,
        samples: int,
        generator: torch.Generator,
        augment: bool,
        bend: Tensor,
        playback: float,
    ) -> Tensor:
        device, count = self.wave.device, len(clips)

        def uniform(low: float, high: float) -> Tensor:
            return (torch.rand(count, generator=generator) * (high - low) + low).to(device)

        rate = torch.ones(count, device=device)
        if augment:
            rate = torch.where(uniform(0, 1) < 0.5, torch.exp(bend * uniform(-playback, playback)), rate)
        length = self.length[clips]
        # Where the clip begins within the signal: anywhere that keeps it inside, or, for a longer clip, any crop. In 64
        # bits, as 32 hold no fraction of a sample some minutes into a clip; Apple's GPUs have none.
        exact = torch.device("cpu") if device.type == "mps" else device
        spare = samples - length.to(exact).double() / rate.to(exact)
        first = -spare * uniform(0, 1).to(exact) * rate.to(exact)
        whole = first.floor()
        time = (first - whole).to(device, torch.float32)[:, None] + torch.arange(samples, device=device) * rate[:, None]
        step = time.floor()
        left = whole.to(device, torch.long)[:, None] + step.long()
        inside = (left >= 0) & (left < length[:, None] - 1)
        where = torch.where(inside, left + self.start[clips][:, None], 0)
        a, b = self.wave[where].float(), self.wave[where + 1].float()
        out = torch.where(inside, a + (b - a) * (time - step), 0.0)
        if augment:
            out = out * torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)[:, None]
        return out / out.square().mean(1, keepdim=True).sqrt().clamp_min(1.0)
