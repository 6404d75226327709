"""Recordings out: files that are whole or not there, and give back what was written."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile as sf

from sourceprior.audio import native
from sourceprior.errors import UserError
from sourceprior.formats import BITS, FLOATS, FileFormat, check_rate, quantise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_WAV_LIMIT = 4_000_000_000
"""Bytes from which a WAV file is written as RF64: its own length fields hold 32 bits."""
_SET_PEAK_CHUNK = 0x1050
"""A command of libsndfile's."""


def write(path: Path, samples: np.ndarray, sample_rate: int, form: FileFormat) -> np.ndarray:
    """Write `(channels, samples)` and return the samples as the file gives them back; see `in_pieces`."""
    with in_pieces(path, samples.shape, sample_rate, form) as put:
        return put(samples)


@contextlib.contextmanager
def in_pieces(
    path: Path, shape: tuple[int, ...], sample_rate: int, form: FileFormat
) -> Iterator[Callable[[np.ndarray], np.ndarray]]:
    """Give a function that writes the next samples `(channels, n)` and returns them as the file gives them back.

    The file is written beside its place and moved there when it is whole, so that an interruption leaves no half file.
    Integers are rounded here, not by libsndfile, whose scale for writing (2^n - 1) is not that for reading (2^n).

    Args:
        shape: channels and samples of the whole.

    Raises UserError where the file cannot be written, and before anything is given for a sample rate it cannot have.
    """
    check_rate(form, sample_rate)
    channels, length = shape
    size = channels * length * (np.dtype(FLOATS[form.subtype]).itemsize if form.is_float else BITS[form.subtype] // 8)
    container = "RF64" if form.container in ("WAV", "WAVEX") and size > _WAV_LIMIT else form.container
    with replacing(path) as part:
        with sf.SoundFile(native(part), "w", sample_rate, channels, form.subtype, format=container) as file:
            if form.is_float and container in ("WAV", "WAVEX", "AIFF"):
                _without_time(file)

            def put(samples: np.ndarray) -> np.ndarray:
                kept = quantise(samples, form.subtype)
                try:
                    file.write(_encoded(kept, form).T)
                except (OSError, sf.LibsndfileError) as error:
                    # Several files may be written at once: the error tells of this one.
                    raise _unwritable(path, error) from error
                return kept

            yield put
        # A header that no longer fitted onto the disk raises nothing.
        if sf.info(native(part)).frames < length:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if container == "AIFF" and size % 2:
            _without_fill(part, length, size)


def _without_fill(file: Path, length: int, size: int) -> None:
    """Correct the header of an AIFF file with an odd number of bytes of samples.

    A byte fills it up to an even number, and libsndfile counts that among the samples.

    Args:
        length: samples per channel.
        size: bytes of all samples.
    """
    with file.open("r+b") as opened:
        head = opened.read(512)
        # The chunk SSND counts the eight bytes of its offset and block size, too.
        for place, number in [(head.index(b"COMM") + 10, length), (head.index(b"SSND") + 4, size + 8)]:
            opened.seek(place)
            opened.write(number.to_bytes(4, "big"))


def _encoded(kept: np.ndarray, form: FileFormat) -> np.ndarray:
    """Quantised samples as libsndfile takes them: floats, or integers of which it takes the upper bits."""
    if form.is_float:
        return kept
    integer: Any = np.int16 if BITS[form.subtype] <= 16 else np.int32
    data = np.clip(kept * 2.0 ** (8 * integer().itemsize - 1), np.iinfo(integer).min, np.iinfo(integer).max)
    return np.asarray(data.astype(integer))


def _without_time(file: sf.SoundFile) -> None:
    """Leave out the chunk with the peak of a file of floats, which holds the second it was written in: a run that is
    repeated gives the same file. soundfile has no word for that; a version that lacks these names writes the chunk."""
    with contextlib.suppress(AttributeError):
        sf._snd.sf_command(file._file, _SET_PEAK_CHUNK, sf._ffi.NULL, 0)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path beside `path` to write to; move it to `path` if the block ends well, else remove it.

    Raises UserError where the file cannot be written.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        yield part
        part.replace(path)
    except (OSError, sf.LibsndfileError) as error:
        raise _unwritable(path, error) from error
    finally:
        part.unlink(missing_ok=True)


def _unwritable(path: Path, error: Exception) -> UserError:
    reason = getattr(error, "strerror", None) or str(error)
    return UserError(f"{path} cannot be written: {reason}.")
