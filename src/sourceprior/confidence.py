"""How far a stem is what its prior takes for that source, and which sources a recording could hold at all."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sourceprior.initial import standard_normal
from sourceprior.priors import Source, joint
from sourceprior.windows import windowed

NOISE = 0.5
"""Its level, in units of the stem's RMS."""


def confidence(
    stems: Tensor,
    sources: Sequence[Source],
    *,
    segment: float = 8.0,
    overlap: float = 0.25,
    batch: int = 1,
    device: torch.device | None = None,
) -> Tensor:
    """Self-consistency of stems `(K, N)` at the priors' rate: the part of each that survives its own denoiser, `(K,)`.

    White noise of level sigma is added to the stem m, at the level the prior was trained at, and taken away again:
    1 - ‖D(m + sigma z) - m‖² / ‖m‖², no lower than 0. A stem the prior could have made keeps at least
    1 - sigma² / rms(m)², 0.75, and mostly 0.9 and more; what the prior would never make is taken for noise and is lost.
    Silence has 0. It says nothing of loudness, and is no probability.

    Args:
        segment: seconds of a window; `overlap` and `batch` as in `sampling.Settings`.
    """
    device = device or torch.device("cpu")
    denoiser = joint(sources, device)
    denoise = windowed(denoiser, round(segment * sources[0].prior.sample_rate), overlap, batch)
    level = sum(source.prior.level for source in sources) / len(sources)
    # On the CPU: some accelerators have no float64.
    rms = stems.cpu().double().square().mean(-1, keepdim=True).sqrt()
    m = (stems.cpu() * (level / rms.clamp_min(1e-12))).to(device, torch.float32)[None]
    with torch.no_grad():
        z = standard_normal(m.shape[1:], [torch.Generator().manual_seed(0)], m)
        error = denoise(m + NOISE * level * z, NOISE * level) - m
        kept = (1 - error.square().sum(-1) / m.square().sum(-1).clamp_min(1e-12))[0].cpu().double()
    return kept.clamp(0, 1) * (rms[:, 0] > 1e-7)
