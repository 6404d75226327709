"""From entries to a folder with one manifest and copies at one sample rate, made once and kept.

The copies are what everything else reads: a mixture list then renders to the same bits wherever they are, and no clip
is resampled twice. Several data sets may go into one folder, such as one of speech and one of sounds.
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from sourceprior.corpora.entries import Entry, Found
from sourceprior.datasets import read_clip, read_rows
from sourceprior.errors import UserError
from sourceprior.mixtures import active_span
from sourceprior.writing import replacing

COLUMNS = (
    "path", "kind", "split", "label", "speaker", "seconds", "rms_db", "peak", "source", "original_id", "licence",
    "group", "gender", "age", "snr_est_db",
)  # fmt: skip
"""Of the manifest; the last one, which nothing here reads, is left empty."""
SHORTEST = 0.1
"""Seconds below which a clip is left out."""
MARGIN = 0.05
"""Seconds of silence that stay at each end of a trimmed clip."""


@dataclass(frozen=True)
class Built:
    """What `build` did: clips and hours per split, copies made and found, what was left out by reason.

    ``replaced`` are rows of the manifest that it no longer has: of sources of the same names, but of other clips.
    """

    clips: Counter[str]
    hours: dict[str, float]
    made: int
    kept: int
    skipped: Counter[str]
    replaced: int = 0


def build(
    found: Found, out: Path, sample_rate: int = 16000, progress: Callable[[int, int], None] | None = None
) -> Built:
    """Write copies of entries and add them to ``out/manifest.csv``, in the place of earlier ones of the same sources.

    A copy is mono 16-bit FLAC; it is made again only if its file is newer, or another one, or the rate has changed.
    Silence, as opposed to quiet, is told by energy: 10 ms that are 40 dB below the clip's loudest.

    Args:
        out: folder of the manifest; made if need be.
        sample_rate: Hz.

    Raises:
        UserError: no clip is left, or the folder cannot be written to.
    """
    rows: list[dict[str, str]] = []
    clips: Counter[str] = Counter()
    hours: dict[str, float] = {}
    skipped, made, kept = found.skipped.copy(), 0, 0
    names: set[str] = set()
    for number, entry in enumerate(found.entries):
        copy = (
            out
            / entry.kind
            / entry.split
            / _plain(entry.label)
            / f"{_plain(entry.source)}_{_plain(entry.identity)}.flac"
        )
        if copy.as_posix() in names:
            copy = copy.with_stem(f"{copy.stem}_{number}")
        names.add(copy.as_posix())
        if _current(copy, entry.path, sample_rate):
            kept += 1
        else:
            reason = _copy(entry, copy, sample_rate)
            if reason:
                skipped[reason] += 1
                continue
            made += 1
        wave = soundfile.read(copy, dtype="float32")[0]
        rows.append(_row(entry, copy.relative_to(out), wave, sample_rate))
        clips[entry.split] += 1
        hours[entry.split] = hours.get(entry.split, 0.0) + len(wave) / sample_rate / 3600
        if progress:
            progress(number + 1, len(found.entries))
    if not rows:
        reasons = ", ".join(f"{count} {reason}" for reason, count in skipped.items() if count) or "none at all"
        raise UserError(f"No clip is left ({reasons}).")
    replaced = _merge(rows, out / "manifest.csv")
    return Built(clips, hours, made, kept, skipped, replaced)


def _current(copy: Path, original: Path, sample_rate: int) -> bool:
    """Whether a copy has the rate, and was made of this file as it is: the time and `_mark` are written into copies."""
    try:
        if copy.stat().st_mtime_ns != original.stat().st_mtime_ns:
            return False
        with soundfile.SoundFile(copy) as file:
            return file.samplerate == sample_rate and file.comment == _mark(original)
    except (OSError, soundfile.LibsndfileError):
        return False


def _mark(original: Path) -> str:
    """What tells a file from another one of the same time, in a few letters: its place and size."""
    return hashlib.sha256(b"%d %b" % (original.stat().st_size, os.fsencode(original.resolve()))).hexdigest()[:16]


def _copy(entry: Entry, copy: Path, sample_rate: int) -> str:
    """Make a copy; the reason where that is not possible, else nothing."""
    try:
        wave = read_clip(entry.path, sample_rate)
    except (OSError, soundfile.LibsndfileError, UserError) as error:
        return getattr(error, "reason", "broken")
    if not np.any(wave):
        return "silent"
    if entry.trim:
        wave = trimmed(wave, sample_rate)
    if len(wave) < SHORTEST * sample_rate:
        return f"shorter than {SHORTEST} s"
    try:
        copy.parent.mkdir(parents=True, exist_ok=True)
        with replacing(copy) as part, soundfile.SoundFile(part, "w", sample_rate, 1, "PCM_16", format="FLAC") as file:
            file.comment = _mark(entry.path)
            file.write(wave)
        stamp = entry.path.stat()
        os.utime(copy, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    except OSError as error:
        raise UserError(f"{copy} cannot be written: {error.strerror}.") from error
    return ""


def trimmed(wave: np.ndarray, sample_rate: int) -> np.ndarray:
    """A wave (N,) without the silence at its ends, but for MARGIN."""
    margin = round(MARGIN * sample_rate)
    first, last = active_span(wave)
    return wave[max(0, first - margin) : last + margin]


def _row(entry: Entry, path: Path, wave: np.ndarray, sample_rate: int) -> dict[str, str]:
    power = float(np.mean(np.square(wave, dtype=np.float64)))
    return {
        "path": path.as_posix(),
        "kind": entry.kind,
        "split": entry.split,
        "label": entry.label,
        "speaker": entry.label if entry.kind == "speech" else "",
        "seconds": f"{len(wave) / sample_rate:.3f}",
        "rms_db": f"{10 * np.log10(max(power, 1e-20)):.2f}",
        "peak": f"{float(np.abs(wave).max()):.4f}",
        "source": entry.source,
        "original_id": entry.original_id or entry.identity,
        "licence": entry.licence,
        "group": entry.group,
        "gender": entry.gender,
        "age": entry.age,
        "snr_est_db": "",
    }


def _merge(rows: list[dict[str, str]], file: Path) -> int:
    """Write rows and those that the manifest has of other sources, sorted by path; how many others it loses.

    Columns that are not of COLUMNS stay. Raises UserError for a manifest that is none.
    """
    sources, paths, replaced = {row["source"] for row in rows}, {row["path"] for row in rows}, 0
    columns = dict.fromkeys(COLUMNS)
    if file.is_file():
        before = [row for _, row in read_rows(file, ("path", "kind", "label"), inside=False)]
        columns |= dict.fromkeys(name for row in before for name in row if name)
        replaced = sum(row.get("source") in sources and row["path"] not in paths for row in before)
        rows = rows + [row for row in before if row.get("source") not in sources]
    with replacing(file) as part, part.open("w", newline="", encoding="utf-8") as target:
        writer = csv.DictWriter(target, list(columns), restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(sorted(rows, key=lambda row: row["path"]))
    return replaced


def _plain(name: str) -> str:
    """A name without what folders are separated by."""
    return name.replace("/", "_").replace("\\", "_").strip() or "_"
