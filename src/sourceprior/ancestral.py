"""Unconditional generation: ancestral sampling of a prior (the paper's process without a mixture)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sourceprior.initial import Generator, standard_normal
from sourceprior.mixture import Denoise
from sourceprior.schedules import VP, as_vp


@torch.no_grad()
def ancestral(
    denoise: Denoise,
    schedule: VP | Tensor,
    sources: int,
    length: int,
    *,
    generators: Sequence[Generator],
    like: Tensor | None = None,
    callback: Callable[[int, int, float, Tensor], None] | None = None,
) -> Tensor:
    """Draw waveforms from a prior, `(B, K, N)`: one item per generator, one row per source of the joint denoiser.

    Args:
        denoise: the joint denoiser, (B, K, N), sigma -> (B, K, N).
        schedule: the process, or descending noise levels ending in 0; its first level should drown the sources.
        sources: K.
        length: N, in samples.
        generators: one per item: `(K, N)` for the start and for every step but the last.
        like: a tensor with the wanted device and dtype; CPU and float32 by default.
        callback: called with (step, steps, sigma, x̂_0) after every step.
    """
    process = as_vp(schedule)
    alpha_bars, levels, stds = process.alpha_bars.tolist(), process.levels.tolist(), process.posterior_std.tolist()
    from_clean, from_state = (weight.tolist() for weight in process.posterior_mean_coefficients)
    like = torch.empty(0) if like is None else like
    # As wide as the process is at its end, which few steps leave well before ᾱ = 0: more would be taken for sound.
    steps, width = len(process), (1 - alpha_bars[-1]) ** 0.5
    state = width * standard_normal((sources, length), generators, like)
    for t in reversed(range(steps)):
        clean = denoise(state / alpha_bars[t] ** 0.5, levels[t])
        state = from_clean[t] * clean + from_state[t] * state
        if t > 0:
            state = state + stds[t] * standard_normal((sources, length), generators, like)
        if callback:
            callback(steps - 1 - t, steps, levels[t], clean)
    return state
