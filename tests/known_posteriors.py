"""Sources whose denoiser and whose posterior given a mixture are known exactly.

A class is a mixture of Gaussians that are all diagonal in one orthonormal time-frequency basis (a circular MDCT). So
both the denoiser and E[x_k | y] follow by enumerating components: Wiener gains in the basis, weighted by evidence.
One component gives a Gaussian source, whose posterior mean is the Wiener filter. Nothing here shares code with the
package: the basis is not the STFT the solvers split with.
"""

from __future__ import annotations

import itertools
import math
from functools import cache

import torch
from torch import Tensor, nn

from sourceprior.mixture import Mixture

BANDS = 256


@cache
def _frame_basis(dtype: torch.dtype) -> Tensor:
    """Windowed cosines of the MDCT with sine window, (BANDS, 2 BANDS): rows of overlapping frames are orthonormal."""
    n = torch.arange(2 * BANDS, dtype=torch.float64) + 0.5
    k = torch.arange(BANDS, dtype=torch.float64)[:, None] + 0.5
    basis = (
        math.sqrt(2 / BANDS) * torch.sin(math.pi * n / (2 * BANDS)) * torch.cos(math.pi / BANDS * (n + BANDS / 2) * k)
    )
    return basis.to(dtype)


def mdct(x: Tensor) -> Tensor:
    """Orthonormal circular MDCT: (..., N) -> (..., N / BANDS, BANDS); N a multiple of BANDS."""
    blocks = x.unflatten(-1, (-1, BANDS))
    return torch.cat([blocks, blocks.roll(-1, dims=-2)], dim=-1) @ _frame_basis(x.dtype).T


def imdct(a: Tensor) -> Tensor:
    """Inverse (= transpose) of `mdct`: (..., T, BANDS) -> (..., T * BANDS)."""
    frames = a @ _frame_basis(a.dtype)
    return (frames[..., :BANDS] + frames[..., BANDS:].roll(1, dims=-2)).flatten(-2)


class KnownDenoiser(nn.Module):
    """A Denoiser in the contract's sense, for classes that are Gaussian mixtures.

    variance: (labels, components, T, BANDS), of the MDCT coefficients, in units of the waveform squared
    mean:     (labels, components, T, BANDS), MDCT coefficients; zero by default
    weight:   (labels, components), prior probability of a component; equal by default
    """

    def __init__(self, variance: Tensor, mean: Tensor | None = None, weight: Tensor | None = None) -> None:
        super().__init__()
        self.variance = variance
        self.mean = torch.zeros_like(variance) if mean is None else mean
        equal = torch.full(variance.shape[:2], 1 / variance.shape[1], dtype=variance.dtype)
        self.weight = equal if weight is None else weight

    def forward(self, x: Tensor, sigma: Tensor, label: Tensor) -> Tensor:
        a = mdct(x)[:, None]
        v, mu = self.variance[label].to(a), self.mean[label].to(a)
        noisy = v + sigma.to(a).square()[:, None, None, None]
        log_p = self.weight[label].to(a).log() - 0.5 * ((a - mu) ** 2 / noisy + noisy.log()).sum(dim=(-2, -1))
        clean = mu + v / noisy * (a - mu)
        return imdct((log_p.softmax(dim=1)[..., None, None] * clean).sum(dim=1))

    def spectrum(self, label: Tensor) -> Tensor:
        power = self.variance + self.mean**2
        bands = (self.weight[..., None, None] * power).sum(dim=1).mean(dim=1)[label]
        # Band m is centred on STFT bin 2 (m + 1/2): nearest band of every bin.
        bins = (torch.arange(513) * BANDS // 512).clamp(max=BANDS - 1)
        return bands[:, bins]

    def sample(self, label: int, generator: torch.Generator) -> Tensor:
        """One source of a class, (N,)."""
        c = int(torch.multinomial(self.weight[label], 1, generator=generator))
        v, mu = self.variance[label, c], self.mean[label, c]
        return imdct(mu + v.sqrt() * torch.randn(v.shape, generator=generator, dtype=v.dtype))

    def problem(self, y: Tensor, labels: list[int], noise_std: float = 0.0) -> Mixture:
        """The inverse problem for mixtures y (B, N) of sources with these labels, one denoiser call per step."""
        label = torch.tensor(labels)

        def denoise(x: Tensor, sigma: float) -> Tensor:
            b, k, n = x.shape
            level = torch.full((b * k,), float(sigma), dtype=x.dtype)
            return self(x.reshape(b * k, n), level, label.repeat(b)).reshape(b, k, n)

        return Mixture(y, denoise, len(labels), self.spectrum(label).to(y), noise_std)

    def posterior_mean(self, y: Tensor, labels: list[int], noise_std: float = 0.0) -> Tensor:
        """E[x_k | y] for mixtures y (B, N): (B, K, N)."""
        return self.posterior(y, labels, noise_std)[0]

    def posterior(self, y: Tensor, labels: list[int], noise_std: float = 0.0) -> tuple[Tensor, Tensor]:
        """E[x_k | y] for mixtures y (B, N), by enumeration of the components: (B, K, N), and E‖x - E[x | y]‖², (B,)."""
        weights, each, spreads = self.modes(y, labels, noise_std)
        mean = (weights[:, :, None, None] * each).sum(dim=0)
        within = (weights * spreads[:, None]).sum(dim=0)
        return mean, within + (weights * (each - mean).square().sum(dim=(-2, -1))).sum(dim=0)

    def modes(self, y: Tensor, labels: list[int], noise_std: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
        """The posterior's components, C of them: probability (C, B), mean (C, B, K, N), total variance (C,)."""
        a = mdct(y)
        log_ps, means, spreads = [], [], []
        for chosen in itertools.product(range(self.variance.shape[1]), repeat=len(labels)):
            v = torch.stack([self.variance[l, c] for l, c in zip(labels, chosen, strict=True)]).to(a)
            mu = torch.stack([self.mean[l, c] for l, c in zip(labels, chosen, strict=True)]).to(a)
            total = v.sum(dim=0) + noise_std**2
            left = a - mu.sum(dim=0)
            log_w = sum(math.log(self.weight[l, c]) for l, c in zip(labels, chosen, strict=True))
            log_ps.append(log_w - 0.5 * (left**2 / total + total.log()).sum(dim=(-2, -1)))
            means.append(imdct(mu + v / total * left[:, None]))
            spreads.append((v - v**2 / total).sum())
        return torch.stack(log_ps).softmax(dim=0), torch.stack(means), torch.stack(spreads)


def gaussian(frames: int = 32, num_labels: int = 2, seed: int = 0, rms: float = 0.08) -> KnownDenoiser:
    """Non-stationary Gaussian classes like real sounds: harmonic stacks or broad noise, switched on and off.

    Length is frames * BANDS samples; every class has about the given RMS over the whole length.
    """
    return KnownDenoiser(torch.stack([_pattern(frames, seed * 100 + i, rms)[None] for i in range(num_labels)]))


def gaussian_mixture(
    frames: int = 8, num_labels: int = 2, components: int = 3, seed: int = 0, rms: float = 0.08
) -> KnownDenoiser:
    """Classes that are one of several Gaussian textures, so that the posterior has several modes."""
    rows = [
        torch.stack([_pattern(frames, seed * 1000 + i * 50 + c, rms) for c in range(components)])
        for i in range(num_labels)
    ]
    return KnownDenoiser(torch.stack(rows))


def _pattern(frames: int, seed: int, rms: float) -> Tensor:
    """A time-frequency variance (frames, BANDS) of a harmonic (even seeds) or broadband (odd seeds) source."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand(1, generator=generator))

    band = torch.arange(BANDS, dtype=torch.float64)
    time = torch.arange(frames, dtype=torch.float64)
    if seed % 2 == 0:
        pitch = uniform(4, 9) * (1 + 0.2 * torch.sin(time * uniform(0.1, 0.5) + uniform(0, 6)))
        shape = (torch.cos(2 * math.pi * band / pitch[:, None]) * 4).exp() * (-band / uniform(20, 50)).exp()
    else:
        centre, width = uniform(10, 150), uniform(15, 80)
        shape = (-(((band - centre) / width) ** 2)).exp().expand(frames, -1) + 1e-3
    envelope = (torch.sin(time * uniform(0.2, 0.8) + uniform(0, 6)) * uniform(2, 5)).exp()
    v = shape * envelope[:, None] + 1e-7
    return v * (rms**2 / v.mean())
