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

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from sourceprior.audio import resample, rms

TOP_OF_BAND = (0.75, 0.93)
"""Part of the prior's band whose weights go on above it; over 0.93 resampling has begun to fade."""


def downmix(samples: np.ndarray) -> np.ndarray:
    """The signal to separate, `(1, samples)`: the mean of the channels, or the loudest one where they cancel out."""
    mid = samples.mean(axis=0, keepdims=True)
    loudest = max(samples, key=rms)[None, :]
    return mid if rms(mid) > 0.1 * rms(loudest) else loudest


def spread(stems: np.ndarray, stem_rate: int, mixture: np.ndarray, rate: int) -> np.ndarray:
    """Stems `(sources, samples)` of the mid signal at `stem_rate` to `(sources, channels, samples)` of the mixture.

    Args:
        mixture: the recording, `(channels, samples)` at `rate` Hz; the result adds up to it.
    """
    channels, length = mixture.shape
    if channels == 1 and rate == stem_rate:
        # The solver's own output: nothing is lost, nothing needs handing out.
        return stems[:, None, :].astype(mixture.dtype, copy=False)
    transform = Transform(rate, length)
    spectra = transform.forward(resample(stems, stem_rate, rate, length))
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


class Transform:
    """A short-time Fourier transform of about 50 ms at any rate, and its inverse for one length."""

    def __init__(self, rate: int, length: int) -> None:
        self.rate, self.length = rate, length
        self.size = 2 ** round(math.log2(0.05 * rate))
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
