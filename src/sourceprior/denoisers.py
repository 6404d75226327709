"""Denoisers D(x, sigma, label) = E[clean | x = clean + sigma z]; the only place that knows a parametrisation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sourceprior.stft import BINS, istft, stft

FEATURES = 5
"""Maps the network sees: real and imaginary part, log magnitude, log prior signal-to-noise ratio, position."""
LOUDEST = 20.0
"""Limit of the spectrogram the network sees, in standard deviations of class and noise; the log goes on beyond it."""
OUTPUTS = 3
"""Maps it returns: log power relative to the class's average spectrum, and a complex correction."""


class SpectralDenoiser(nn.Module):
    """EDM preconditioning (Karras et al. 2022) with a frequency-dependent sigma_data, on the complex STFT.

    With P(c, f) the average power spectrum of class c, an STFT bin X of the noisy signal is denoised to

        D = M X + sigma sqrt(M) F,    M = P e^a / (P e^a + sigma^2),    (a, F) = network(X / sqrt(P + sigma^2), ...)

    For a = 0, F = 0 (a new network) this is EDM's c_skip X with sigma_data(f)^2 = P, the Wiener filter of the class.
    EDM's fixed c_skip would force the network to cancel c_skip X wherever its source is absent and to add nearly all of
    X wherever a partial stands out of the average spectrum; a local log power ``a`` does both with a bounded output,
    and sigma^2 M is then the posterior variance of the bin.

    Args:
        network: called as network(features (B, 5, 512, T), ln(sigma / level) (B,), label (B,)) -> (B, 3, 512, T).
        spectrum: (classes, 513) average power per STFT bin.
        level: RMS of a typical source in training, linear full scale.
    """

    def __init__(self, network: nn.Module, spectrum: Tensor, level: float) -> None:
        super().__init__()
        self.network = network
        self.level = level
        self.average: Tensor
        self.register_buffer("average", spectrum.float())

    @classmethod
    def from_config(cls, network: nn.Module, config: dict[str, Any]) -> SpectralDenoiser:
        """For ``priors.build``: the spectra are part of the weights, loaded afterwards."""
        return cls(network, torch.ones(len(config["labels"]), BINS), float(config["level"]))

    def spectrum(self, label: Tensor) -> Tensor:
        """Average power per STFT bin of each class: label (B,) -> (B, 513)."""
        return self.average[label]

    def forward(self, x: Tensor, sigma: Tensor, label: Tensor) -> Tensor:
        """Denoise x (B, N) at noise levels sigma (B,) > 0, in units of the waveform, for classes label (B,)."""
        noisy = torch.view_as_real(stft(x)).permute(0, 3, 1, 2)
        clean, _ = self.denoise_bins(noisy, sigma, label)
        return istft(torch.view_as_complex(clean.permute(0, 2, 3, 1).contiguous()), x.shape[-1])

    def denoise_bins(self, noisy: Tensor, sigma: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """STFT (B, 2, 513, T) -> its clean estimate (B, 2, 513, T) and the gain M (B, 513, T)."""
        noise = sigma.square()[:, None, None]
        power = self.average[label][:, :, None]
        features = self.features(noisy[:, :, :-1], noise, power[:, :-1])
        out = self.network(features, torch.log(sigma / self.level), label).float()
        # The Nyquist bin is left to the Wiener filter: 512 bins halve nine times, 513 never.
        out = nn.functional.pad(out, (0, 0, 0, 1))
        gain = torch.sigmoid(12 * torch.tanh(out[:, 0] / 12) + torch.log(power / noise))
        clean = gain[:, None] * noisy + (sigma[:, None, None] * gain.sqrt())[:, None] * out[:, 1:]
        return clean, gain

    def features(self, noisy: Tensor, noise: Tensor, power: Tensor) -> Tensor:
        """(B, 2, F, T), noise power (B, 1, 1) and class power (B, F, 1) -> what the network sees, (B, 5, F, T)."""
        unit = noisy * torch.rsqrt(noise + power)[:, None]
        power_of_unit = unit.square().sum(1, keepdim=True)
        magnitude = 0.5 * torch.log(power_of_unit + 1e-3)
        # A click far above its class's average would reach the network a thousand times too loud.
        unit = unit * torch.rsqrt(1 + power_of_unit / LOUDEST**2)
        shape = magnitude.shape
        ratio = (torch.log(power / noise) / 4)[:, None].expand(shape)
        position = torch.linspace(-1, 1, shape[2], device=noisy.device)[None, None, :, None].expand(shape)
        return torch.cat((unit, magnitude, ratio, position), 1)
