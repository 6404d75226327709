"""`released.solve` against Algorithm 1 written down once more: three sources, another length, both presets.

The loop below shares nothing with the package but the networks.
"""

import numpy as np
import pytest
import torch

from golden_case import filled, relative
from sourceprior.networks.attention_unet import AttentionUNet
from sourceprior.released import solve

STEPS, LENGTH, LABELS, START = 4, 3001, [0, 2, 1], 2


def spectrogram(x: torch.Tensor) -> torch.Tensor:
    return torch.stft(x, 512, 256, window=torch.hann_window(512), center=True, return_complex=True).abs()


def loss(y: torch.Tensor, estimate: torch.Tensor, released: bool) -> torch.Tensor:
    error = y - estimate
    parts = torch.stack([part.square().sum() for part in error.chunk(512)])
    difference = (spectrogram(y) - spectrogram(estimate)).square().sum()
    if released:
        return error.norm() + 0.05 * parts.sqrt().sum() + 0.1 * difference.sqrt()
    return error.square().sum() + 0.05 * parts.mean() + 0.1 * difference / torch.hann_window(512).square().sum()


def loop(networks, y: torch.Tensor, noise: torch.Tensor, preset: str, guidance: str) -> torch.Tensor:
    """The sources (3, N); `noise` as the released code draws it, with a draw per step that it makes for nothing."""
    released, draws, count = preset == "released", iter(noise), len(networks)
    betas = np.linspace(1e-4, 2e-2, STEPS, dtype=np.float32)
    bars = np.cumprod(1 - betas).astype(np.float64)
    betas, before = betas.astype(np.float64), np.append(1.0, bars[:-1])
    std = np.sqrt(betas * (1 - before) / (1 - bars))
    x = bars[START] ** 0.5 * y.expand(count, -1) + (1 - bars[START]) ** 0.5 * next(draws)
    for t in range(STEPS - 1 if released else START, -1, -1):
        x = x.detach().requires_grad_()
        told = torch.tensor([t * 1000 // STEPS])
        eps = torch.cat([net(x[k : k + 1], told, torch.tensor([LABELS[k]])) for k, net in enumerate(networks)])
        clean = (x - (1 - bars[t]) ** 0.5 * eps) / bars[t] ** 0.5
        clean = clean.clamp(-1, 1) if released else clean
        (slope,) = torch.autograd.grad(loss(y, clean.sum(0), released), x)
        mean = (betas[t] * before[t] ** 0.5 * clean + (1 - before[t]) * (1 - betas[t]) ** 0.5 * x) / (1 - bars[t])
        z = torch.stack([next(draws) for _ in range(count)])
        next(draws)
        x = mean + std[t] * z if t else mean
        if t == 0 and not released:
            continue
        if guidance == "DPS":
            x = x - (1.5 if released else 1 / (2 * count)) * slope
            continue
        length = np.logaddexp(1e3 * (0.09 if released else 1) * std[t], 1e3 * 0.002) / 1e3
        norm = slope.norm(dim=1, keepdim=True) if released else slope.norm()
        x = x - length * LENGTH**0.5 * slope / norm
    return x.detach()


@pytest.fixture(scope="module")
def networks():
    return [filled(AttentionUNet(8, classes, blocks=(1, 1, 1, 1, 1))) for classes in (1, 4, 3)]


@pytest.mark.parametrize(("preset", "guidance"), [("paper", "hybrid"), ("released", "hybrid"), ("paper", "DPS")])
def test_three_sources_at_another_length(networks, preset, guidance):
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(1 + STEPS * 4, LENGTH, generator=generator)
    y = 0.15 * torch.randn(LENGTH, generator=generator)
    wanted = loop(networks, y, noise, preset, guidance)
    found = solve(networks, LABELS, y, STEPS, preset, guidance, START, noise)
    error = relative(found, wanted)
    print(preset, guidance, error)
    assert found.shape == (3, LENGTH)
    assert error < 1e-3
    if preset == "released":
        # The loop can tell: a step a tenth too long is far from it.
        longer = solve(networks, LABELS, y, STEPS, preset, guidance, START, noise, std_scale=0.1)
        assert relative(longer, wanted) > 3e-3
