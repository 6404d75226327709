"""Recordings in and out: files, arrays, sample rates, channels and levels.

Inside the package a recording is a float array `(channels, samples)`; this file is the only one that knows other forms.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile as sf
import soxr

from sourceprior.containers import others
from sourceprior.errors import UserError, alternatives

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

LOWEST_RATE, HIGHEST_RATE = 8_000, 192_000
ENDINGS = frozenset(
    [
        ".wav", ".wave", ".rf64", ".w64", ".bwf", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc",
        ".caf", ".au", ".snd", ".mp1", ".mp2", ".sph", ".nist", ".sd2", ".voc",
        # Not to be read here, which is said of each: nobody should think that it was taken.
        ".m4a", ".mp4", ".mka", ".aac", ".wma", ".amr", ".webm",
    ]
)  # fmt: skip
"""Endings of the files that are taken for recordings in a folder; a file that is named itself may have any."""
MOST_CHANNELS = 8

_EXTENSION = {
    "WAV": "wav",
    "WAVEX": "wav",
    "RF64": "wav",
    "W64": "w64",
    "FLAC": "flac",
    "AIFF": "aiff",
    "CAF": "caf",
    "AU": "au",
}
_BITS = {"PCM_U8": 8, "PCM_S8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32}
_FLOAT = {"FLOAT": np.float32, "DOUBLE": np.float64}
_FLAC_RATES = 65_535
"""Hz above which libsndfile decodes FLAC only at multiples of 10 Hz: what a frame's own header can tell."""
_BLOCK = 4096
PIECE = 65_536
"""Samples per channel that are read, resampled and written at a time."""
_WAV_LIMIT = 4_000_000_000
"""Bytes from which a WAV file is written as RF64: its own length fields hold 32 bits."""
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
_SET_PEAK_CHUNK = 0x1050
"""A command of libsndfile's."""
LOUDEST = 1e12
"""Full scales beyond which no unit makes sense of samples, and their squares leave single precision."""
SHORT = 0.1
"""Seconds below which a recording is reported as too short for the priors to say much."""


@dataclass(frozen=True)
class FileFormat:
    """Container and sample type in libsndfile's names, for example `FLAC` and `PCM_24`."""

    container: str = "WAV"
    subtype: str = "FLOAT"

    @property
    def extension(self) -> str:
        """File name ending without the dot."""
        return _EXTENSION[self.container]

    @property
    def is_float(self) -> bool:
        """Whether samples beyond full scale survive being written."""
        return self.subtype in _FLOAT


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
    def of(cls, samples: np.ndarray, sample_rate: int, form: FileFormat = FileFormat()) -> Stream:
        """A stream of an array `(channels, samples)`."""

        def pieces() -> Iterator[np.ndarray]:
            return (samples[:, start : start + PIECE] for start in range(0, samples.shape[1], PIECE))

        return cls(samples.shape[0], sample_rate, form, samples.dtype, samples.shape[1], "", pieces)


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
        form = _lossless(file.format, file.subtype, file.samplerate)
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


def _lossless(container: str, subtype: str, sample_rate: int) -> FileFormat:
    subtype = {"ALAC_16": "PCM_16", "ALAC_20": "PCM_24", "ALAC_24": "PCM_24", "ALAC_32": "PCM_32"}.get(subtype, subtype)
    if subtype not in (*_BITS, *_FLOAT):
        return FileFormat()
    if container in _EXTENSION and _holds(container, sample_rate) and sf.check_format(container, subtype):
        return FileFormat(container, subtype)
    return FileFormat("WAV", subtype) if sf.check_format("WAV", subtype) else FileFormat()


def _holds(container: str, sample_rate: int) -> bool:
    """Whether a file of that container can be read again at that sample rate, in Hz."""
    return container != "FLAC" or sample_rate <= _FLAC_RATES or sample_rate % 10 == 0


def check_rate(form: FileFormat, sample_rate: int) -> None:
    """Raise UserError for a sample rate, in Hz, that files of that format cannot have."""
    if not _holds(form.container, sample_rate):
        raise UserError(
            f"FLAC holds rates above {_FLAC_RATES} Hz only if they are multiples of 10 Hz, which {sample_rate} Hz is "
            "not: choose another format, for example --format wav."
        )


def choose_format(own: FileFormat, container: str | None = None, subtype: str | None = None) -> FileFormat:
    """`own` with another container or sample type, both in libsndfile's names in any case, such as `flac`, `pcm_24`.

    Without `subtype` the sample type stays if the container can hold it, and is else its widest integer. Lossy types
    are not offered: their stems would not add up to the recording.

    Raises UserError for names that are unknown, or do not go together.
    """
    if container is None and subtype is None:
        return own
    names = {extension: name for name, extension in reversed(_EXTENSION.items())} | {name: name for name in _EXTENSION}
    name = (container or own.container).casefold()
    found = {known.casefold(): value for known, value in names.items()}.get({"aif": "aiff"}.get(name, name))
    if found is None:
        raise UserError(f"There is no format {container!r} for stems; choose {alternatives(_choices(_EXTENSION))}.")
    kinds = [kind for kind in (*_BITS, *_FLOAT) if sf.check_format(found, kind)]
    if subtype is None:
        fits = own.subtype in kinds
        return FileFormat(found, own.subtype if fits else [kind for kind in kinds if kind in _BITS][-1])
    kind = subtype.upper().replace("-", "_")
    if kind not in kinds:
        raise UserError(f"{found} holds no sample type {subtype!r}; choose {alternatives(_choices(kinds))}.")
    return replace(own, container=found, subtype=kind)


def check_names(container: str | None, subtype: str | None) -> None:
    """Raise UserError for names that `choose_format` knows for no recording, or that do not go together for any."""
    if container is None and subtype is not None:
        kinds = (*_BITS, *_FLOAT)
        if subtype.upper().replace("-", "_") not in kinds:
            raise UserError(f"There is no sample type {subtype!r} for stems; choose {alternatives(_choices(kinds))}.")
        return
    choose_format(FileFormat(), container, subtype)


def _choices(names: Iterable[str]) -> list[str]:
    return [name.lower() for name in names]


STRAY = 0.1
"""Offset (DC), relative to the RMS of what varies, from which on it is taken off before a recording is separated."""
FEW = 4000
"""Samples per channel below which there is no telling an offset from a slow sound."""


@dataclass
class Survey:
    """What one pass over a recording tells.

    Attributes:
        length: samples per channel.
        finite: whether all are numbers.
        energy: sum of squares of each channel, `(channels,)`.
        varying: that of each channel without its mean.
        offset: mean of each channel, `(channels,)`.
        mid_energy: that of the mean of the channels.
        peak: greatest absolute value.
        over: samples beyond full scale.
        stuck: samples at the peak that equal the one before.
    """

    length: int
    finite: bool
    energy: np.ndarray
    varying: np.ndarray
    offset: np.ndarray
    mid_energy: float
    peak: float
    over: int
    stuck: int

    @property
    def stray(self) -> bool:
        """Whether the offset is considerable beside what varies; the mean of very few samples tells nothing."""
        stray = float(np.square(self.offset).mean() * self.length)
        return self.length >= FEW and stray > STRAY**2 * float(self.varying.mean())

    @property
    def rms(self) -> float:
        """Root mean square over all channels, linear."""
        return float(np.sqrt(self.energy.mean() / max(1, self.length)))


def survey(source: Stream) -> Survey:
    """Go through a recording once. Stops at the first sample that is no number."""
    energy, offset, shifted = np.zeros((3, source.channels))
    length, mid_energy, peak, over, stuck = 0, 0.0, 0.0, 0, 0
    first = last = np.zeros((source.channels, 0))
    for piece in source.pieces():
        samples = piece.astype(np.float64)
        if not np.isfinite(samples).all():
            return Survey(length, False, energy, energy, offset, mid_energy, peak, over, stuck)
        first = first if length else samples[:, :1]
        length += samples.shape[1]
        energy += np.square(samples).sum(1)
        mid_energy += float(np.square(samples.mean(0)).sum())
        # Without the first sample's value a constant has a variance of exactly 0.
        offset += (samples - first).sum(1)
        shifted += np.square(samples - first).sum(1)
        size = np.abs(samples)
        over += int(np.count_nonzero(size > 1))
        if size.max() > peak:
            peak, stuck = float(size.max()), 0
        # A clipped wave stays at its peak; a normalised one only touches it.
        before = np.concatenate([last, samples[:, :-1]], axis=1)
        now = slice(samples.shape[1] - before.shape[1], None)
        stuck += int(np.count_nonzero((size[:, now] >= peak) & (samples[:, now] == before)))
        last = samples[:, -1:]
    varying = np.maximum(0, shifted - offset**2 / max(1, length))
    mean = offset / max(1, length) + (first[:, 0] if length else 0.0)
    return Survey(length, True, energy, varying, mean, mid_energy, peak, over, stuck)


def check(seen: Survey, sample_rate: int) -> None:
    """Raise UserError unless a recording of which that was seen can be separated."""
    if not LOWEST_RATE <= sample_rate <= HIGHEST_RATE:
        raise UserError(
            f"The sample rate must be {LOWEST_RATE} to {HIGHEST_RATE} Hz; this recording has {sample_rate} Hz."
        )
    if not 1 <= len(seen.energy) <= MOST_CHANNELS:
        raise UserError(f"At most {MOST_CHANNELS} channels can be separated; this recording has {len(seen.energy)}.")
    if not seen.finite:
        raise UserError("The recording has samples that are not finite (NaN or infinity).")
    if seen.length == 0:
        raise UserError("The recording is empty: it has no samples.")
    if seen.peak > LOUDEST:
        raise UserError(f"The recording has samples of up to {seen.peak:.0e} times full scale: it is damaged.")
    if seen.rms < 1e-7:
        raise UserError("The recording is silent: there is nothing to separate.")
    if seen.length > 1 and np.sqrt(seen.varying.mean() / seen.length) < 1e-7:
        raise UserError("The recording is a constant (DC) without any sound: there is nothing to separate.")


def oddities(seen: Survey, sample_rate: int) -> list[str]:
    """Sentences about what a person should know of a recording that can be separated."""
    notes = []
    if seen.stray:
        most = float(np.abs(seen.offset).max())
        notes.append(f"The recording has an offset (DC) of {most:.2g} of full scale, which is left to the residual.")
    if seen.length < SHORT * sample_rate:
        plural = "sample" if seen.length == 1 else "samples"
        notes.append(f"The recording has {seen.length} {plural}: too little for the priors to tell sources apart.")
    if seen.over:
        notes.append(f"The recording has {seen.over} samples beyond full scale.")
    if seen.peak > 0.9 and seen.stuck >= 10:
        notes.append("The recording is clipped; stems hold the distortion, too.")
    return notes


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


def quantise(samples: np.ndarray, subtype: str) -> np.ndarray:
    """Samples as a file of that sample type gives them back: rounded, and limited to full scale unless it is float."""
    if subtype in _FLOAT:
        return samples.astype(_FLOAT[subtype])
    scale = 2.0 ** (_BITS[subtype] - 1)
    return np.clip(np.rint(samples.astype(np.float64) * scale), -scale, scale - 1) / scale


def write(path: Path, samples: np.ndarray, sample_rate: int, form: FileFormat) -> np.ndarray:
    """Write `(channels, samples)` and return the samples as the file gives them back; see `writing`."""
    with writing(path, samples.shape, sample_rate, form) as put:
        return put(samples)


@contextlib.contextmanager
def writing(
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
    size = channels * length * (np.dtype(_FLOAT[form.subtype]).itemsize if form.is_float else _BITS[form.subtype] // 8)
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
    integer: Any = np.int16 if _BITS[form.subtype] <= 16 else np.int32
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
