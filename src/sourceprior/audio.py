"""Recordings in: files read whole or in pieces, arrays, sample rates and levels.

Inside the package a recording is a float array `(channels, samples)`; this file is the only one that knows other forms.
"""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile as sf
import soxr

from sourceprior.containers import others
from sourceprior.errors import UserError
from sourceprior.formats import FileFormat, lossless

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

ENDINGS = frozenset(
    [
        ".wav", ".wave", ".rf64", ".w64", ".bwf", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc",
        ".caf", ".au", ".snd", ".mp1", ".mp2", ".sph", ".nist", ".sd2", ".voc",
        # Not to be read here, which is said of each: nobody should think that it was taken.
        ".m4a", ".mp4", ".mka", ".aac", ".wma", ".amr", ".webm",
    ]
)  # fmt: skip
"""Endings of the files that are taken for recordings in a folder; a file that is named itself may have any."""
_BLOCK = 4096
PIECE = 65_536
"""Samples per channel that are read, resampled and written at a time."""
_WRONG_LENGTH = re.compile(
    r"(data|SSND|Data Size|riff) *: \d+ \(should be \d+\)|^\*\*\* .*(not equal|does not match|Exiting parser)", re.M
)
"""What libsndfile notes where a header gives another length than the file has."""
_TAG = re.compile(
    r"^\*\*\* (Hit ID3v1 trailer|Unknown chunk marker \((0x)?[234]334449\) at).*\n(\*\*\* Chunk size .*\n)?", re.M
)
"""Its note on an ID3 tag behind all chunks of a WAV file, where players put it: nothing is wrong with the length."""
_NOT_TOLD = 2**63 - 1
"""Samples of a file of which libsndfile is not told how many it has, such as FLAC from a pipe."""


@dataclass(frozen=True)
class Stream:
    """A recording in pieces, as often as they are asked for: of a file nothing else is ever in memory.

    Attributes:
        channels: how many.
        sample_rate: Hz.
        form: to write its stems in.
        dtype: of the samples, float32 or float64.
        announced: samples per channel that the header tells of, or that were counted where it tells of none; None where
            it contradicts itself, or the file breaks off before anything was told.
        name: of the file, or "".
        pieces: called for an iterator of arrays `(channels, up to PIECE)` in full scale ±1.
    """

    channels: int
    sample_rate: int
    form: FileFormat
    dtype: np.dtype
    announced: int | None
    name: str
    pieces: Callable[[], Iterator[np.ndarray]]

    @classmethod
    def of(cls, samples: np.ndarray, sample_rate: int, form: FileFormat | None = None) -> Stream:
        """A stream of an array `(channels, samples)`."""

        def pieces() -> Iterator[np.ndarray]:
            return (samples[:, start : start + PIECE] for start in range(0, samples.shape[1], PIECE))

        return cls(samples.shape[0], sample_rate, form or FileFormat(), samples.dtype, samples.shape[1], "", pieces)


class Sequential(sf.SoundFile):
    """A sound file that is read from its beginning to its end.

    After every read soundfile seeks to where the file is anyway; an MP3 decoder starts anew there, and clicks.
    """

    def seekable(self) -> bool:
        return False


def stream(path: str | os.PathLike[str]) -> Stream:
    """Any file that libsndfile knows, read piece by piece.

    Samples are float32, or float64 where the file holds more than 24 bits. The format is the file's own if its
    container and sample type are lossless and can be written at its rate, else 32-bit float WAV: encoding the stems of
    an MP3 with losses once more would keep them from adding up to it. Of a file that breaks off, or whose header gives
    another length, the samples that are there are read.

    Raises UserError for a missing, unreadable, empty or foreign file.
    """
    path = Path(path)
    with _opened(path) as (files, whole):
        file, announced = files[0], _announced(files) if whole else None
        form = lossless(file.format, file.subtype, file.samplerate)
        dtype = np.dtype("float64" if form.subtype in ("PCM_32", "DOUBLE") else "float32")
        return Stream(file.channels, file.samplerate, form, dtype, announced, path.name, lambda: _pieces(path, dtype))


@dataclass(frozen=True)
class Recording:
    """What a file holds.

    Attributes:
        samples: `(channels, samples)` in full scale ±1.
        sample_rate: Hz.
        format: to write its stems in.
        warnings: sentences about what is odd with the file.
    """

    samples: np.ndarray
    sample_rate: int
    format: FileFormat
    warnings: tuple[str, ...] = ()


def read(path: str | os.PathLike[str]) -> Recording:
    """The whole of a short file; see `stream` for what is read of it, and for errors."""
    source = stream(path)
    pieces = list(source.pieces())
    samples = np.concatenate(pieces, axis=1) if pieces else np.zeros((source.channels, 0), source.dtype)
    return Recording(samples, source.sample_rate, source.form, tuple(broken(source, samples.shape[1])))


def broken(source: Stream, length: int) -> list[str]:
    """A sentence if a file holds `length` samples per channel, and not those its header tells of."""
    if length == source.announced:
        return []
    return [f"{source.name} breaks off or has a wrong header; {length / source.sample_rate:.2f} s of it could be read."]


def format_of(path: str | os.PathLike[str]) -> FileFormat:
    """The format that `read` would give, from the header alone. Raises UserError as `stream` does."""
    return stream(path).form


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[list[Sequential], bool]]:
    """An open sound file, or the several that it consists of, and whether these are all of them.

    Whatever goes wrong while it is read becomes a UserError.
    """
    try:
        if path.is_dir():
            # A folder that may not be listed, as one among many recordings, is told of as such.
            os.scandir(path).close()
            raise UserError(f"{path} is a folder, not a recording.")
        if not path.exists():
            raise UserError(f"There is no file {path}.")
        if not path.is_file():
            # A pipe would be waited for, and cannot be read twice.
            raise UserError(f"{path} is a pipe or device, not a file.")
        with contextlib.ExitStack() as opened:
            file = opened.enter_context(Sequential(native(path)))
            instead, whole = others(path, file)
            files = [] if instead else [file]
            for other in map(opened.enter_context, instead):
                try:
                    files.append(opened.enter_context(Sequential(other)))
                except sf.LibsndfileError:
                    # A beginning alone, where a stream broke off.
                    if not files:
                        raise
                    break
            yield files, whole and len(files) == max(1, len(instead))
    except UserError:
        raise
    except PermissionError as error:
        raise UserError(f"{path} may not be read: permission denied.") from error
    except (sf.LibsndfileError, OSError, RuntimeError, ValueError, TypeError) as error:
        # A TypeError for a name that ends in .raw, of which soundfile wants to be told what is in it.
        raise UserError(_unreadable(path)) from error


def _announced(files: Sequence[Sequential]) -> int | None:
    """Samples per channel that the headers tell of; None if one contradicts itself or its file, or the first one."""
    total = 0
    for file in files:
        length: int | None = file.frames
        if length == _NOT_TOLD:
            length = _counted(file)
        wrong = _WRONG_LENGTH.search(_TAG.sub("", file.extra_info)) or not _goes_on(files[0], file)
        if wrong or length is None:
            return None
        total += length
    return total


def _goes_on(first: Sequential, file: Sequential) -> bool:
    return (file.channels, file.samplerate) == (first.channels, first.samplerate)


def _counted(file: Sequential) -> int | None:
    """Samples per channel of a file that does not tell; None if it breaks off."""
    count = 0
    try:
        while length := len(file.read(_BLOCK, dtype="float32", always_2d=True)):
            count += length
    except sf.LibsndfileError:
        return None
    return count


def _unreadable(path: Path) -> str:
    """Why a file could not be read, as far as the system tells."""
    try:
        size = path.stat().st_size
    except OSError as error:
        # A name that is too long, for example.
        return f"{path} cannot be opened: {error.strerror}."
    if not os.access(path, os.R_OK):
        return f"{path} may not be read: permission denied."
    if not size:
        return f"{path} is empty."
    return f"{path} is not a sound file that can be read (WAV, FLAC, AIFF, CAF, Ogg, MP3 can)."


def is_folder(path: Path) -> bool:
    """Whether it is a folder, as far as one may know: in a folder that may not be entered nothing is one."""
    try:
        return path.is_dir()
    except OSError:
        return False


def native(path: Path) -> Path | bytes:
    """A path as soundfile takes it whatever bytes it has; it would encode a text itself, and strictly."""
    return os.fsencode(path) if os.name == "posix" else path


def _pieces(path: Path, dtype: np.dtype) -> Iterator[np.ndarray]:
    """The samples of a file up to the first that cannot be decoded; an error where not even that one can be."""
    with _opened(path) as (files, _):
        # In small blocks, to keep what lies before the place where a compressed file breaks off.
        held: list[np.ndarray] = []
        for block in _blocks(files, dtype):
            held.append(block)
            if len(held) * _BLOCK >= PIECE:
                yield np.concatenate(held).T
                held = []
        if held:
            yield np.concatenate(held).T


def _blocks(files: Sequence[Sequential], dtype: np.dtype) -> Iterator[np.ndarray]:
    """Samples `(up to _BLOCK, channels)` of the files one after another, of those like the first."""
    begun = False
    for file in files:
        while _goes_on(files[0], file):
            try:
                block = file.read(_BLOCK, dtype=dtype.name, always_2d=True)
            except sf.LibsndfileError:
                if not begun:
                    raise
                return
            if not len(block):
                break
            begun = True
            yield block


def channels_first(array: np.ndarray) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """An array of any accepted shape as `(channels, samples)`, and the function that brings back the shape.

    Accepts `(samples,)`, `(channels, samples)` and `(samples, channels)`; of two dimensions the smaller one holds the
    channels, and the first if they are equal. float32 stays float32, other floats become float64.

    Raises UserError for other shapes and for integers, whose full scale nobody can know.
    """
    if not np.issubdtype(array.dtype, np.floating):
        raise UserError(f"Give samples as floating-point numbers in full scale ±1, not {array.dtype}.")
    if not array.size:
        raise UserError("The recording is empty: it has no samples.")
    array = array.astype(np.float32 if array.dtype.itemsize <= 4 else np.float64, copy=False)
    if array.ndim == 1:
        return array[None, :], lambda samples: samples[0]
    if array.ndim != 2:
        raise UserError(f"Give samples as (samples,), (channels, samples) or (samples, channels), not {array.shape}.")
    if array.shape[0] <= array.shape[1]:
        return array, lambda samples: samples
    return array.T, lambda samples: samples.T


def resample(samples: np.ndarray, from_rate: int, to_rate: int, length: int | None = None) -> np.ndarray:
    """Change the sample rate of `(channels, samples)` with soxr's very high quality, without a delay.

    With `length` the result is cut or filled with zeros to exactly that many samples.
    """
    if from_rate != to_rate:
        samples = soxr.resample(samples.T, from_rate, to_rate, quality="VHQ").T
    if length is not None and samples.shape[1] != length:
        samples = np.pad(samples[:, :length], ((0, 0), (0, max(0, length - samples.shape[1]))))
    return samples


def resampled(pieces: Iterable[np.ndarray], from_rate: int, to_rate: int, length: int) -> Iterator[np.ndarray]:
    """`resample` of pieces `(channels, n)` that come one after another, `length` samples in all; to the same bits."""
    left = length
    changed = pieces if from_rate == to_rate else _changed(pieces, from_rate, to_rate)
    piece = np.zeros((1, 0), np.float32)
    for piece in changed:
        if left and piece.shape[1]:
            yield piece[:, :left]
            left -= min(left, piece.shape[1])
    if left:
        yield np.zeros((len(piece), left), piece.dtype)


def _changed(pieces: Iterable[np.ndarray], from_rate: int, to_rate: int) -> Iterator[np.ndarray]:
    converter, none = None, np.zeros((0, 1))
    for piece in pieces:
        if converter is None:
            converter = soxr.ResampleStream(from_rate, to_rate, len(piece), dtype=piece.dtype, quality="VHQ")
            none = piece[:, :0].T
        yield converter.resample_chunk(np.ascontiguousarray(piece.T)).T
    if converter is not None:
        yield converter.resample_chunk(none, last=True).T


def rms(samples: np.ndarray) -> float:
    """Root mean square over all samples, linear."""
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))


def decibel(amplitude: float) -> float:
    """20 log10 of an amplitude, no lower than -200 dB."""
    return 20 * float(np.log10(max(amplitude, 1e-10)))
