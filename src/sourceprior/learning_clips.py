"""A folder of clips as something to learn from: read, checked, cut into pieces, and told of.

A clip is left out, with its name and the reason, if it cannot be read, is too short, silent or too quiet, or is a copy
of another one. What is left is cut where nothing is to be heard, so that pauses are not learned as the sound.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile

from sourceprior import audio
from sourceprior.errors import UserError
from sourceprior.fullband import downmix
from sourceprior.learning import Piece
from sourceprior.licences import NOT_STATED
from sourceprior.stem_files import printable

SHORTEST = 0.1
"""Seconds of sound a clip must have."""
SILENT_DB, QUIET_DB = -70.0, -50.0
"""dB full scale of a clip's loudest tenth of a second: below the first nothing is to be heard, below the second the
recorder is."""
FAR_DB = 40.0
"""A tenth of a second so far below the clip's loudest is a pause."""
PIECE = 5.0
"""Seconds of a piece at the most."""
LONGEST, MOST = 600.0, 3600.0
"""Seconds that are used of one clip, and of all."""
ALIKE = 0.97
"""Correlation of two clips from which one is a copy of the other."""
ALL_ALIKE = 0.4
"""The same with all frequencies counted alike: any two takes of a steady tone are alike but for the noise around it."""


@dataclass
class Clips:
    """What a folder holds.

    Attributes:
        pieces: what can be learned from, in the order of the files' names.
        used: (file, seconds, licence) of every clip that is used.
        left_out: file and reason of every clip that is not.
        notes: sentences on clips that are used in part.
        lowest_rate: the lowest sample rate of a clip, Hz.
    """

    pieces: list[Piece] = field(default_factory=list)
    used: list[tuple[str, float, str]] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    lowest_rate: int = 0

    @property
    def seconds(self) -> float:
        """Seconds of all pieces."""
        return sum(seconds for _, seconds, _ in self.used)


def read_folder(
    folder: str | os.PathLike[str],
    sample_rate: int,
    licence: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Clips:
    """Read every sound file below a folder.

    Args:
        sample_rate: of the pieces, Hz.
        licence: of the clips; else what the columns path and licence of a manifest.csv in the folder say.
        progress: called with (files read, files).

    Raises:
        UserError: there is no such folder, no sound file in it, or no clip that can be used; the message says why.
    """
    root = Path(folder)
    if not root.is_dir():
        raise UserError(f"There is no folder '{root}': name the folder that your clips are in.")
    files = sorted(path for path in root.rglob("*") if is_clip(path, root))
    if not files:
        raise UserError(f"There is no sound file in '{root}' (WAV, FLAC, AIFF, CAF, Ogg, Opus or MP3).")
    listed = {} if licence else read_licences(root)
    found, kept = Clips(), Copies()
    for i, path in enumerate(files):
        name = str(printable(path.relative_to(root).as_posix()))
        try:
            wave, rate, note = read_clip(path, sample_rate)
        except UserError as error:
            found.left_out.append((name, str(error).removeprefix(f"{path} ")))
        else:
            reason = fault(wave, sample_rate) or kept.copy_of(name, wave, sample_rate)
            if not reason and found.seconds >= MOST:
                reason = f"more than {MOST / 60:.0f} minutes of clips came before it"
            if reason:
                found.left_out.append((name, reason))
            else:
                pieces = cut(wave, sample_rate)
                terms = licence or listed.get(name, NOT_STATED)
                found.pieces += [Piece(name, piece, terms) for piece in pieces]
                found.used.append((name, round(sum(map(len, pieces)) / sample_rate, 3), terms))
                found.notes += [note] if note else []
                found.lowest_rate = min(rate, found.lowest_rate or rate)
        if progress:
            progress(i + 1, len(files))
    if not found.used:
        name, reason = found.left_out[0]
        raise UserError(f"None of the {len(files)} clips in '{root}' can be used; the first, {name}: {reason}")
    return found


def is_clip(path: Path, root: Path) -> bool:
    """Whether a file is a clip by its name; hidden files and those of hidden folders are not."""
    hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
    known = audio.ENDINGS | {"." + name.lower() for name in soundfile.available_formats()}
    return not hidden and path.suffix.lower() in known - {".raw"} and path.is_file()


def read_licences(root: Path) -> dict[str, str]:
    """Licence of each path in a folder's manifest.csv; empty where there is none or it has no such columns."""
    try:
        with (root / "manifest.csv").open(newline="", encoding="utf-8-sig") as file:
            return {row["path"]: row["licence"] for row in csv.DictReader(file) if row["licence"]}
    except (OSError, KeyError, UnicodeDecodeError, csv.Error):
        return {}


def read_clip(path: Path, sample_rate: int) -> tuple[np.ndarray, int, str]:
    """A clip as mono samples (N,) without their mean, its own rate in Hz, and a note on what could not be used of it.

    Raises UserError for a file that cannot be read or holds samples that are not finite.
    """
    stream = audio.stream(path)
    rate, most, pieces, length = stream.sample_rate, round(LONGEST * stream.sample_rate), [], 0
    # Hours of a field recorder would not fit into memory, and would drown the other clips.
    for piece in stream.pieces():
        pieces.append(piece)
        length += piece.shape[1]
        if length > most:
            break
    samples = np.concatenate(pieces, axis=1)[:, :most] if pieces else np.zeros((1, 0), np.float32)
    if length > most:
        note = f"Of {printable(path.name)} the first {LONGEST / 60:.0f} minutes were used."
    else:
        note = " ".join(audio.broken(stream, length))
    if not samples.size:
        raise UserError("it holds no samples.")
    if not np.isfinite(samples).all():
        raise UserError("it holds samples that are not finite (NaN or infinity).")
    mono, peak = downmix(samples), float(np.abs(samples).max())
    if peak > 1:
        # Cutting off what is beyond full scale would distort it.
        mono = mono / peak
        note = f"{note} {printable(path.name)} is beyond full scale (peak {peak:.1f}) and was scaled down.".lstrip()
    whole = (mono - mono.mean())[0]
    wave = audio.resample(whole[None], rate, sample_rate)[0] if rate != sample_rate else whole
    if rate > sample_rate and too_quiet(wave, sample_rate) and not too_quiet(whole, rate):
        raise UserError(f"it lies above {sample_rate / 2000:g} kHz, the highest that this prior hears.")
    return wave.astype(np.float32), rate, note


def blocks_db(wave: np.ndarray, sample_rate: int) -> np.ndarray:
    """RMS of every tenth of a second in dB full scale; the last block may be shorter."""
    size = round(sample_rate / 10)
    filled = np.pad(wave.astype(np.float64), (0, -len(wave) % size)).reshape(-1, size)
    lengths = np.full(len(filled), size)
    lengths[-1] = len(wave) - size * (len(filled) - 1)
    return 10 * np.log10(np.maximum((filled**2).sum(1) / lengths, 1e-20))


def too_quiet(wave: np.ndarray, sample_rate: int) -> bool:
    """Whether a clip is too quiet to be learned from, all the time."""
    return bool(len(wave)) and bool(blocks_db(wave, sample_rate).max() < QUIET_DB)


def fault(wave: np.ndarray, sample_rate: int) -> str:
    """Why a clip cannot be learned from, or ""."""
    if len(wave) < SHORTEST * sample_rate:
        return f"too short: {len(wave) / sample_rate:.2f} s"
    loudest = blocks_db(wave, sample_rate).max()
    if loudest < SILENT_DB:
        return "silent" if loudest < -120 else f"near-silent: {loudest:.0f} dB full scale at its loudest"
    return f"too quiet: {loudest:.0f} dB full scale at its loudest" if loudest < QUIET_DB else ""


class Copies:
    """Recognises a clip that was there before, at another level, in another format, or cut a little differently."""

    def __init__(self) -> None:
        self.known: list[tuple[str, np.ndarray, np.ndarray]] = []

    def copy_of(self, name: str, wave: np.ndarray, sample_rate: int) -> str:
        """ "a copy of ..." if the clip is one, else "", and the clip is remembered."""
        small = audio.resample(wave[None], sample_rate, 4000)[0].astype(np.float64)[: 4000 * 10]
        small = small / max(float(np.linalg.norm(small)), 1e-12)
        power = np.abs(np.fft.rfft(small, 8192)) ** 2
        bands = np.log10(np.array([part.sum() for part in np.array_split(power, 32)]) + 1e-9)
        for other, shape, samples in self.known:
            # Few pairs are alike in their spectrum, and only for those it is worth looking at the samples.
            if np.abs(shape - bands).mean() >= 0.15 or correlation(small, samples) <= ALIKE:
                continue
            if correlation(white(small), white(samples)) > ALL_ALIKE:
                return f"a copy of {other}"
        self.known.append((name, bands, small))
        return ""


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Greatest absolute correlation of two signals of norm 1, over all shifts."""
    size = 1 << (len(a) + len(b) - 1).bit_length()
    return float(np.abs(np.fft.irfft(np.fft.rfft(a, size) * np.conj(np.fft.rfft(b, size)), size)).max())


def white(wave: np.ndarray) -> np.ndarray:
    """A signal (N,) as one of norm 1 (2 N,) that has every frequency at the same level, its phases kept."""
    spectrum = np.fft.rfft(wave, 2 * len(wave))
    flat = np.fft.irfft(spectrum / np.maximum(np.abs(spectrum), 1e-9), 2 * len(wave))
    return flat / max(float(np.linalg.norm(flat)), 1e-12)


def cut(wave: np.ndarray, sample_rate: int) -> list[np.ndarray]:
    """A clip as int16 pieces of up to PIECE seconds, without the pauses at its ends and between them."""
    heard = blocks_db(wave, sample_rate)
    audible = np.flatnonzero(heard > heard.max() - FAR_DB)
    size, longest = round(sample_rate / 10), round(PIECE * 10)
    pieces: list[np.ndarray] = []
    first = int(audible[0])
    while True:
        inside = audible[(audible >= first) & (audible < first + longest)]
        last = int(inside[-1]) + 1
        piece = wave[first * size : last * size]
        if len(piece) >= SHORTEST * sample_rate or not pieces:
            pieces.append(np.round(np.clip(piece, -1, 1 - 2**-15) * 2**15).astype(np.int16))
        rest = audible[audible >= first + longest]
        if not len(rest):
            return pieces
        first = int(rest[0])
