"""Recordings of any length for a denoiser with bounded memory: overlapping windows, denoised and cross-faded."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

JointDenoiser = Callable[[Tensor, float], Tensor]
"""Called as denoise(x (B, K, N), sigma) -> (B, K, N)."""


def windowed(denoise: JointDenoiser, segment: int, overlap: float = 0.25, batch: int = 1) -> JointDenoiser:
    """The same joint denoiser for any length N, run on windows of `segment` samples, `batch` of them at a time.

    Neighbouring windows share at least `overlap` (0 to 0.5) of a window, in which their clean estimates are cross-faded
    with squared-sine flanks. A solver's state stays the whole recording: windows share their noise and agree at every
    step, so that sources neither click nor swap where two of them meet. A recording of up to `segment` samples is one
    window: nothing is done to it. Where a gradient is wanted, windows are denoised again for the backward pass, so that
    it, too, holds no more than `batch` of them in memory.

    Raises ValueError for a segment or batch below 1, or an overlap outside 0 to 0.5.
    """
    if segment < 1 or batch < 1 or not 0 <= overlap <= 0.5:
        raise ValueError(f"windowed needs segment ≥ 1, batch ≥ 1, 0 ≤ overlap ≤ 0.5, got {segment}, {batch}, {overlap}")

    def one_group(x: Tensor, sigma: float) -> Tensor:
        if torch.is_grad_enabled() and x.requires_grad:
            return cast(Tensor, checkpoint(denoise, x, sigma, use_reentrant=False, preserve_rng_state=False))
        return denoise(x, sigma)

    def denoise_windows(x: Tensor, sigma: float) -> Tensor:
        length = x.shape[-1]
        if length <= segment:
            return denoise(x, sigma)
        weight = flanks(segment, round(segment * overlap)).to(x)
        out, total = torch.zeros_like(x), x.new_zeros(length)
        for group in torch.tensor(starts(length, segment, overlap)).split(batch):
            places = [slice(start, start + segment) for start in group.tolist()]
            clean = one_group(torch.cat([x[..., place] for place in places]), sigma)
            for place, window in zip(places, clean.split(x.shape[0]), strict=True):
                out[..., place] += weight * window
                total[place] += weight
        return out / total

    return denoise_windows


def starts(length: int, segment: int, overlap: float) -> list[int]:
    """First samples of equally spaced windows that cover `length` ≥ `segment` samples with at least that overlap."""
    stride = max(1, segment - round(segment * overlap))
    count = 1 + -(-(length - segment) // stride)
    return [round(index * (length - segment) / max(1, count - 1)) for index in range(count)]


def flanks(segment: int, fade: int) -> Tensor:
    """Weights of a window `(segment,)`: 1 in the middle, squared-sine flanks of `fade` samples, never 0."""
    weight = torch.ones(segment, dtype=torch.float64)
    rise = torch.sin(torch.pi / 2 * (torch.arange(fade, dtype=torch.float64) + 0.5) / max(1, fade)) ** 2
    weight[:fade] = rise
    weight[segment - fade :] = rise.flip(0)
    return weight
