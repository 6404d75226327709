"""Guidance: how far the gradient of the reconstruction loss moves the state in one step (paper, Table 1).

A rule is called as rule(gradient (B, K, N), t, process) and returns what is subtracted from the state, (B, K, N).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from sourceprior.errors import UserError
from sourceprior.ranges import NonNegative, Positive
from sourceprior.schedules import VP

Rule = Callable[[Tensor, int, VP], Tensor]
Norm = Literal["joint", "source"]
CONSTANTS = {
    "hybrid": ("std_scale", "floor", "sharpness", "norm"),
    "dsg": ("std_scale", "norm"),
    "dps": ("dps_step",),
    "cqt": ("cqt_step",),
}
"""The rules by name, and which of the arguments of `rule` each of them has."""


def direction(gradient: Tensor, norm: Norm) -> Tensor:
    """√N times the gradient (B, K, N) over its norm: that of the whole state, or of every source on its own.

    The state is what the paper's ∇_{x_t} is taken to; the released code takes every source's own norm, and so loses
    how much of the error each source answers for. A gradient of zero (everything clipped) stays zero.
    """
    over = (-2, -1) if norm == "joint" else -1
    length = torch.linalg.vector_norm(gradient, dim=over, keepdim=True)
    return math.sqrt(gradient.shape[-1]) * gradient / length.clamp_min(torch.finfo(gradient.dtype).tiny)


def smooth_max(a: float, b: float, sharpness: float) -> float:
    """SmoothMax_c(a, b) = log(exp(c a) + exp(c b)) / c (paper, eq. 10), without overflow."""
    return max(a, b) + math.log1p(math.exp(-sharpness * abs(a - b))) / sharpness


def dps(gradient: Tensor, t: int, process: VP, *, step: float | None = None) -> Tensor:
    """A constant times the gradient (Chung et al. 2023).

    Args:
        step: the constant, which the paper does not give. By default 1 / (2 K): a step down ‖y - Σ x̂_k‖² moves each of
            the K sources by 2 · step times the residual, and this one takes it away where x̂_0 follows the state.
    """
    return (1 / (2 * gradient.shape[-2]) if step is None else step) * gradient


def dsg(gradient: Tensor, t: int, process: VP, *, std_scale: float = 1.0, norm: Norm = "joint") -> Tensor:
    """A step of length σ(t) √N (Yang et al. 2024): vanishes with the noise.

    Args:
        std_scale: factor on σ(t).
        norm: what the gradient is divided by, see `direction`.
    """
    return std_scale * float(process.posterior_std[t]) * direction(gradient, norm)


def hybrid(
    gradient: Tensor,
    t: int,
    process: VP,
    *,
    std_scale: float = 1.0,
    floor: float = 0.002,
    sharpness: float = 1e3,
    norm: Norm = "joint",
) -> Tensor:
    """A step of length SmoothMax_c(σ(t), s_floor) √N (paper, eq. 11): DSG that never vanishes.

    Args:
        std_scale: factor on σ(t).
        floor: s_floor, the step length that is left when the noise is gone, per √sample in waveform units.
        sharpness: c of the smooth maximum.
        norm: what the gradient is divided by, see `direction`.
    """
    length = smooth_max(std_scale * float(process.posterior_std[t]), floor, sharpness)
    return length * direction(gradient, norm)


def cqt_diff(gradient: Tensor, t: int, process: VP, *, step: float = 0.001) -> Tensor:
    """A step of `step` · √N / √(1 - ᾱ_t) per source (Moliner et al. 2023); in the released code, but unused there."""
    return step / math.sqrt(1 - float(process.alpha_bars[t])) * direction(gradient, "source")


def rule(
    name: str,
    *,
    dps_step: NonNegative | None = None,
    std_scale: NonNegative = 1.0,
    floor: NonNegative = 0.002,
    sharpness: Positive = 1e3,
    norm: Norm = "joint",
    cqt_step: NonNegative = 0.001,
) -> Rule:
    """The rule of a name, "dps", "dsg", "hybrid" or "cqt" in any case, with its constants bound.

    Args:
        name: of the rule.
        dps_step: `step` of "dps".
        std_scale, norm: of "dsg" and "hybrid".
        floor, sharpness: of "hybrid".
        cqt_step: `step` of "cqt".

    Raises:
        UserError: a name that is none of these.
    """
    rules: dict[str, Rule] = {
        "dps": partial(dps, step=dps_step),
        "dsg": partial(dsg, std_scale=std_scale, norm=norm),
        "hybrid": partial(hybrid, std_scale=std_scale, floor=floor, sharpness=sharpness, norm=norm),
        "cqt": partial(cqt_diff, step=cqt_step),
    }
    if name.lower() not in rules:
        raise UserError(f"There is no guidance rule {name!r}: choose one of {', '.join(rules)}.")
    return rules[name.lower()]
