"""The paper's solver (Algorithm 1): ancestral sampling of every source, guided by the gradient of the error."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sourceprior.guidance import Rule, rule
from sourceprior.initial import standard_normal
from sourceprior.losses import ReconstructionLoss
from sourceprior.mixture import Mixture
from sourceprior.ranges import NonNegative
from sourceprior.schedules import VP, as_vp


@dataclass(frozen=True)
class Step:
    """Everything one step of the solver computed; signals are (B, K, N).

    Attributes:
        t: index of the step in the process, T-1 … 0.
        state: x_t, before the step.
        clean: x̂_0, the denoised sources, clipped where the solver clips.
        score: ∇ log p(x_t) by Tweedie's formula (paper, eq. 5).
        gradient: ∇_{x_t} L, of the reconstruction loss.
        update: what guidance subtracts, γ(t) ∇L.
        loss: weighted terms of the loss, (B, 3).
        next: x_{t-1}, after the step.
    """

    t: int
    state: Tensor
    clean: Tensor
    score: Tensor
    gradient: Tensor
    update: Tensor
    loss: Tensor
    next: Tensor


def gradient(
    problem: Mixture,
    schedule: VP | Tensor,
    x: Tensor,
    *,
    generators: Sequence[torch.Generator],
    callback: Callable[[int, int, float, Tensor], None] | None = None,
    trace: Callable[[Step], None] | None = None,
    guidance: str | Rule = "hybrid",
    loss: ReconstructionLoss | None = None,
    dps_step: float | None = None,
    std_scale: float = 1.0,
    floor: float = 0.002,
    sharpness: float = 1e3,
    norm: Literal["joint", "source"] = "joint",
    cqt_step: float = 0.001,
    clip: float | None = None,
    guide_last: bool = False,
    jacobian: Literal["network", "identity"] = "network",
    step_noise: NonNegative = 1.0,
) -> Tensor:
    """Separate by guided ancestral sampling; the defaults are the paper's text (the released code's are in `presets`).

    Args:
        problem: mixtures `(B, N)` and their denoiser, which must be differentiable in x.
        schedule: the process to run backwards, from its last step to its first; a plain descending tensor of noise
            levels ending in 0 is read as the variance-preserving process that visits them.
        x: noisy sources at the first noise level, in units of the waveform, `(B, K, N)`.
        generators: one per mixture: a step draws `(K, N)` from each, the last step nothing.
        callback: called with (step, steps, sigma, x̂_0 (B, K, N)) after every step.
        trace: called with a `Step`: every quantity of a step, for diagnostics.
        guidance: "hybrid", "dsg", "dps" or "cqt", or a function as in `guidance`.
        loss: the reconstruction loss; the paper's by default.
        dps_step: DPS's constant, which the paper does not give; 1 / (2 K) by default, see `guidance.dps`.
        std_scale, floor, sharpness, norm: constants of DSG and hybrid, see `guidance`.
        cqt_step: constant of the CQT-Diff rule.
        clip: clamp x̂_0 to ± this before it is used: no gradient passes where it clips.
        guide_last: guide the last step too, after which nothing is denoised any more.
        jacobian: how x̂_0 is taken to move with the state in the gradient: as the network says, or as its argument does
            ("identity"), which saves the backward pass. With priors that decide per cell what is theirs, the network's
            own is a poor guide (docs/experiments.md, "Why guidance gains little on these priors").
        step_noise: scale of the noise that a step adds; 0 follows the mean of the next state instead of sampling it.

    Returns:
        Sources `(B, K, N)`. They need not add up to the mixture.

    Raises:
        UserError: an unknown guidance rule.
    """
    process = as_vp(schedule)
    loss = ReconstructionLoss() if loss is None else loss
    if isinstance(guidance, str):
        guidance = rule(
            guidance, dps_step=dps_step, std_scale=std_scale, floor=floor, sharpness=sharpness, norm=norm,
            cqt_step=cqt_step,
        )  # fmt: skip
    alpha_bars, levels, stds = process.alpha_bars.tolist(), process.levels.tolist(), process.posterior_std.tolist()
    from_clean, from_state = (weight.tolist() for weight in process.posterior_mean_coefficients)

    steps = len(process)
    state = x.detach() * alpha_bars[-1] ** 0.5
    for t in reversed(range(steps)):
        with torch.enable_grad():
            state = state.detach().requires_grad_()
            noisy = state / alpha_bars[t] ** 0.5
            if jacobian == "network":
                denoised = problem.denoise(noisy, levels[t])
            else:
                with torch.no_grad():
                    denoised = problem.denoise(noisy, levels[t])
                denoised = denoised + (noisy - noisy.detach())
            clean = denoised if clip is None else denoised.clamp(-clip, clip)
            terms = loss.terms(problem.y, clean.sum(dim=1))
            (slope,) = torch.autograd.grad(terms.sum(), state)
        clean, before = clean.detach(), state.detach()
        state = from_clean[t] * clean + from_state[t] * before
        if t > 0:
            state = state + step_noise * stds[t] * standard_normal(x.shape[1:], generators, x)
        update = guidance(slope, t, process) if t > 0 or guide_last else torch.zeros_like(slope)
        state = state - update
        if trace:
            score = (alpha_bars[t] ** 0.5 * denoised.detach() - before) / (1 - alpha_bars[t])
            trace(Step(t, before, clean, score, slope, update, terms.detach(), state))
        if callback:
            callback(steps - 1 - t, steps, levels[t], clean)
    return state
