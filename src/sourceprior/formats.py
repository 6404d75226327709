"""Formats of stems: containers and sample types that lose nothing, in libsndfile's names."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import soundfile as sf

from sourceprior.errors import UserError, alternatives

if TYPE_CHECKING:
    from collections.abc import Iterable

EXTENSIONS = {
    "WAV": "wav",
    "WAVEX": "wav",
    "RF64": "wav",
    "W64": "w64",
    "FLAC": "flac",
    "AIFF": "aiff",
    "CAF": "caf",
    "AU": "au",
}
BITS = {"PCM_U8": 8, "PCM_S8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32}
FLOATS = {"FLOAT": np.float32, "DOUBLE": np.float64}
_FLAC_RATES = 65_535
"""Hz above which libsndfile decodes FLAC only at multiples of 10 Hz: what a frame's own header can tell."""


@dataclass(frozen=True)
class FileFormat:
    """Container and sample type in libsndfile's names, for example `FLAC` and `PCM_24`."""

    container: str = "WAV"
    subtype: str = "FLOAT"

    @property
    def extension(self) -> str:
        """File name ending without the dot."""
        return EXTENSIONS[self.container]

    @property
    def is_float(self) -> bool:
        """Whether samples beyond full scale survive being written."""
        return self.subtype in FLOATS


def lossless(container: str, subtype: str, sample_rate: int) -> FileFormat:
    """A file's own format, or the nearest one that loses nothing and holds that sample rate, in Hz."""
    subtype = {"ALAC_16": "PCM_16", "ALAC_20": "PCM_24", "ALAC_24": "PCM_24", "ALAC_32": "PCM_32"}.get(subtype, subtype)
    if subtype not in (*BITS, *FLOATS):
        return FileFormat()
    if container in EXTENSIONS and _holds(container, sample_rate) and sf.check_format(container, subtype):
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
    names = {extension: name for name, extension in reversed(EXTENSIONS.items())} | {name: name for name in EXTENSIONS}
    name = (container or own.container).casefold()
    found = {known.casefold(): value for known, value in names.items()}.get({"aif": "aiff"}.get(name, name))
    if found is None:
        raise UserError(f"There is no format {container!r} for stems; choose {alternatives(_choices(EXTENSIONS))}.")
    kinds = [kind for kind in (*BITS, *FLOATS) if sf.check_format(found, kind)]
    if subtype is None:
        fits = own.subtype in kinds
        return FileFormat(found, own.subtype if fits else [kind for kind in kinds if kind in BITS][-1])
    kind = subtype.upper().replace("-", "_")
    if kind not in kinds:
        raise UserError(f"{found} holds no sample type {subtype!r}; choose {alternatives(_choices(kinds))}.")
    return replace(own, container=found, subtype=kind)


def check_names(container: str | None, subtype: str | None) -> None:
    """Raise UserError for names that `choose_format` knows for no recording, or that do not go together for any."""
    if container is None and subtype is not None:
        kinds = (*BITS, *FLOATS)
        if subtype.upper().replace("-", "_") not in kinds:
            raise UserError(f"There is no sample type {subtype!r} for stems; choose {alternatives(_choices(kinds))}.")
        return
    choose_format(FileFormat(), container, subtype)


def _choices(names: Iterable[str]) -> list[str]:
    return [name.lower() for name in names]


def quantise(samples: np.ndarray, subtype: str) -> np.ndarray:
    """Samples as a file of that sample type gives them back: rounded, and limited to full scale unless it is float."""
    if subtype in FLOATS:
        return samples.astype(FLOATS[subtype])
    scale = 2.0 ** (BITS[subtype] - 1)
    return np.clip(np.rint(samples.astype(np.float64) * scale), -scale, scale - 1) / scale
