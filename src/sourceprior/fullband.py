"""From one channel at the prior's sample rate back to every channel and the full band of the recording.

Solvers separate one signal: the mid signal of all channels. What the stems of that signal say about time and frequency
is then used for the rest: with U_k the stems' spectra at the recording's rate, U = Σ U_k, and X_c that of channel c,

    S_kc = a_c U_k + W_k (X_c - a_c U),    W_k = |U_k|² / Σ_j |U_j|²,    a_c = Re<X_c, U> / <U, U>

with powers and products averaged over neighbouring bins. The first term is the solver's own stem, panned as the bin is
panned; the second hands out by the Wiener weights what that leaves, so that ΣS_kc = X_c holds for every channel. In a
bin of one source S_kc is that source in its place in the image, and equal channels get the solver's stems unchanged.

Above the band of the prior there is nothing to tell sources apart by, and W_k goes on as it is at the top of the band:
what rustles or hisses at 7 kHz usually does so at 9 kHz, and a stem that lost its air would sound muffled, whereas the
band in a stem of its own would be of no use.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from sourceprior.audio import PIECE, resampled, rms
from sourceprior.pieces import Pieces
from sourceprior.survey import Survey

TOP_OF_BAND = (0.75, 0.93)
"""Part of the prior's band whose weights go on above it; over 0.93 resampling has begun to fade."""
STEP = 2 * PIECE
"""Samples per channel that are handed out at a time; a multiple of every hop."""


def downmix(samples: np.ndarray) -> np.ndarray:
    """The signal to separate, `(1, samples)`: the mean of the channels, or the loudest one where they cancel out."""
    mid = samples.mean(axis=0, keepdims=True)
    loudest = max(samples, key=rms)[None, :]
    return mid if rms(mid) > 0.1 * rms(loudest) else loudest


def levelled(pieces: Iterable[np.ndarray], seen: Survey) -> Iterator[np.ndarray]:
    """Pieces `(channels, n)` of a recording without its offset."""
    return ((piece - seen.offset[:, None]).astype(piece.dtype) for piece in pieces)


def mid(pieces: Iterable[np.ndarray], seen: Survey) -> Iterator[np.ndarray]:
    """`downmix` of a recording `(channels, n)` in pieces that was gone through before: pieces `(1, n)`.

    An offset is no source, but counts in the level, by which a recording is scaled for its priors: a considerable one
    is taken off here, and so stays out of the stems.
    """
    if seen.stray:
        pieces = levelled(pieces, seen)
        mid_energy = max(0.0, seen.mid_energy - seen.length * float(seen.offset.mean()) ** 2)
        seen = replace(seen, energy=seen.varying, mid_energy=mid_energy, offset=0 * seen.offset)
    loudest = int(seen.energy.argmax())
    if math.sqrt(seen.mid_energy) > 0.1 * math.sqrt(seen.energy[loudest]):
        return (piece.mean(axis=0, keepdims=True) for piece in pieces)
    return (piece[loudest : loudest + 1] for piece in pieces)


def spread(
    stems: Iterable[np.ndarray], stem_rate: int, mixture: Iterable[np.ndarray], rate: int, length: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Stems of the mid signal to every channel and the full band: pairs of the mixture's next samples and the stems'.

    Args:
        stems: `(sources, n)` at `stem_rate` Hz, one after another.
        mixture: the recording, `(channels, n)` at `rate` Hz, one after another; what is handed out adds up to it.
        length: samples of the recording.

    Yields:
        `(channels, n)` and `(sources, channels, n)`, with n up to STEP. Short-time frames are the same wherever the
        recording is cut, and so is the result.
    """
    recording = Pieces(mixture)
    own = Pieces(resampled(_short(stems), stem_rate, rate, length))
    part = recording.take(STEP)
    if len(part) == 1 and rate == stem_rate:
        # The solver's own output: nothing is lost, nothing needs handing out.
        while part.shape[1]:
            yield part, own.take(part.shape[1])[:, None, :].astype(part.dtype, copy=False)
            part = recording.take(STEP)
        return
    size = _size(rate)
    # A sample depends on frames half a window away, their weights on two frames more, and those on their windows.
    margin = 3 * size // 2
    waves = own.take(part.shape[1])
    begin = 0
    for start in range(0, length, STEP):
        stop, end = min(start + STEP, length), min(start + STEP + margin, length)
        missing = end - begin - part.shape[1]
        part = np.concatenate([part, recording.take(missing)], axis=1)
        waves = np.concatenate([waves, own.take(missing)], axis=1)
        inside = slice(start - begin, stop - begin)
        yield part[:, inside], _handed_out(waves, stem_rate, part, rate)[..., inside]
        keep = max(0, stop - margin)
        part, waves, begin = part[:, keep - begin :], waves[:, keep - begin :], keep


def _short(arrays: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The same signal in pieces of at most PIECE samples."""
    for array in arrays:
        for start in range(0, array.shape[-1], PIECE):
            yield array[..., start : start + PIECE]


def _handed_out(stems: np.ndarray, stem_rate: int, mixture: np.ndarray, rate: int) -> np.ndarray:
    """The equation at the top for stems `(sources, N)` and mixture `(channels, N)`: `(sources, channels, N)`."""
    channels, length = mixture.shape
    transform = Transform(rate, length)
    spectra = transform.forward(stems)
    total = spectra.sum(0)
    weights = shares(spectra, transform.top_of_band(stem_rate))
    out = np.empty((len(stems), channels, length), mixture.dtype)
    for channel in range(channels):
        target = transform.forward(mixture[channel])
        gain = panning(target, total, channels)
        for source in range(len(stems)):
            part = gain * spectra[source] + weights[source] * (target - gain * total)
            out[source, channel] = transform.inverse(part)
    return out


def _size(rate: int) -> int:
    """Samples of a window of about 50 ms, a power of two."""
    return int(2 ** round(math.log2(0.05 * rate)))


class Transform:
    """A short-time Fourier transform of about 50 ms at any rate, and its inverse for one length."""

    def __init__(self, rate: int, length: int) -> None:
        self.rate, self.length = rate, length
        self.size = _size(rate)
        self.window = torch.hann_window(self.size).sqrt()

    def forward(self, samples: np.ndarray) -> Tensor:
        """Waveforms `(..., N)` to complex64 spectra `(..., bins, frames)`."""
        wave = torch.from_numpy(np.ascontiguousarray(samples, np.float32))
        return torch.stft(
            wave, self.size, self.size // 4, window=self.window, center=True, pad_mode="constant", return_complex=True
        )

    def inverse(self, spectrum: Tensor) -> np.ndarray:
        """Spectrum `(bins, frames)` to the waveform `(N,)`."""
        return torch.istft(
            spectrum, self.size, self.size // 4, window=self.window, center=True, length=self.length
        ).numpy()

    def top_of_band(self, stem_rate: int) -> slice:
        """The bins at the top of a band that was limited to half of `stem_rate`."""
        low, high = (round(part * stem_rate / self.rate * self.size / 2) for part in TOP_OF_BAND)
        return slice(low, high)


def shares(spectra: Tensor, top: slice) -> Tensor:
    """W_k of spectra `(sources, bins, frames)`, which add up to 1; above `top` they go on as they are there."""
    power = avg_pool2d(spectra.abs().square(), 3, stride=1, padding=1)
    if top.stop < power.shape[1]:
        power[:, top.stop :] = power[:, top].mean(1, keepdim=True)
    # Where all are silent to the last bit everyone gets the same.
    power += 1e-20
    return power / power.sum(0)


def panning(target: Tensor, total: Tensor, channels: int) -> Tensor:
    """a_c, the gain with which `total` best explains the channel `target`, from 3×5 bins; `(bins, frames)`."""
    if channels == 1:
        return torch.ones(())
    products = torch.stack([(target * total.conj()).real, total.abs().square()])
    cross, power = avg_pool2d(products, (3, 5), stride=1, padding=(1, 2))
    # The mean of the channels holds at least 1/channels of a source that is in one of them only.
    return (cross / (power + 1e-12)).clamp(-channels, channels)
