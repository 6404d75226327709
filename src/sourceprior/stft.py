"""The one short-time Fourier transform of the project, used by the conv U-Net and by the posterior-mean split.

1024-point periodic square-root Hann, hop 256, centred with zeros outside the recording, scaled by
1/sqrt(sum(window**2)): white noise of standard deviation 1 has E|Z|² = 1 in every bin, so that powers of spectra and
noise levels sigma² compare directly.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

N_FFT = 1024
HOP = 256
BINS = N_FFT // 2 + 1


def window(like: Tensor) -> Tensor:
    """Square-root periodic Hann window divided by its norm, `(N_FFT,)`, on the device and real dtype of `like`."""
    dtype = like.real.dtype if like.is_complex() else like.dtype
    hann = torch.hann_window(N_FFT, periodic=True, dtype=torch.float64)
    return (hann / hann.sum()).sqrt().to(dtype).to(like.device)


def stft(x: Tensor) -> Tensor:
    """Waveforms `(..., N)` to complex spectra `(..., 513, T)` with T = 1 + N // 256 frames; any N ≥ 1."""
    # Zeros, not reflections, outside: they work for recordings shorter than half a window and keep the map linear.
    spectrum = torch.stft(
        x.reshape(-1, x.shape[-1]),
        N_FFT,
        HOP,
        window=window(x),
        center=True,
        pad_mode="constant",
        return_complex=True,
    )
    return spectrum.reshape(*x.shape[:-1], *spectrum.shape[-2:])


def istft(spectrum: Tensor, length: int) -> Tensor:
    """Complex spectra `(..., 513, T)` to waveforms `(..., length)`: the exact inverse of `stft` for that length.

    For spectra that no waveform has (masked ones), the waveform whose STFT is nearest in the least-squares sense.
    """
    wave = torch.istft(
        spectrum.reshape(-1, *spectrum.shape[-2:]), N_FFT, HOP, window=window(spectrum), center=True, length=length
    )
    return wave.reshape(*spectrum.shape[:-2], length)


def energy(spectrum: Tensor) -> Tensor:
    """Power of complex spectra, of the same shape."""
    return spectrum.real.square() + spectrum.imag.square()


def smoothed(spectrum: Tensor) -> Tensor:
    """Power of complex spectra `(..., 513, T)`, averaged over 3×3 bins (edges: over those that exist)."""
    power = energy(spectrum)
    return avg_pool2d(power.flatten(0, -3), 3, stride=1, padding=1, count_include_pad=False).view_as(power)
