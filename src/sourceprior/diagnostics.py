"""Why a guidance rule works or fails: the paper's guidance bound and its companions, step by step (Figures 2 and 3)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sourceprior.guidance import smooth_max
from sourceprior.schedules import VP
from sourceprior.solvers.gradient import Step


def guidance_bound(prior: Tensor, conditional: Tensor) -> Tensor:
    """g_bound = -⟨g_prior, g_cond⟩ / ‖g_cond‖² (paper, eq. 9): (..., N), (..., N) -> (...).

    Guidance makes progress where γ(t) is above it. A positive bound is a conflict: the prior moves the state against
    the mixture. A conditional gradient of zero has a bound of 0, for there is nothing to be in conflict with.
    """
    energy = conditional.square().sum(-1)
    bound = -(prior * conditional).sum(-1) / energy.clamp_min(torch.finfo(energy.dtype).tiny)
    return torch.where(energy > 0, bound, torch.zeros_like(bound))


def gamma_schedules(process: VP, *, floor: float = 0.002, sharpness: float = 1e3, std_scale: float = 1.0) -> Any:
    """Guidance strength per step without its normalisation and √N (paper, Figure 3).

    Returns:
        Name to (T,) tensor: DPS's constant (drawn at `floor`, for it has no scale of its own here), DSG and hybrid.
    """
    std = std_scale * process.posterior_std
    hybrid = torch.tensor([smooth_max(value, floor, sharpness) for value in std.tolist()], dtype=std.dtype)
    return {"DPS": torch.full_like(std, floor), "DSG": std, "hybrid": hybrid}


@dataclass
class Trace:
    """Collects the diagnostics of a run: give it to the gradient solver as `trace`.

    Args:
        process: the process that is run.
        references: the true sources (B, K, N), where they are known.

    After a run, every list has one entry per step, in the order they were taken (t = T-1 … 0):

    - `bound`, (B, K): the guidance bound with the prior's part of the step, β_t ∇ log p(x_t), as g_prior and the
      descending -∇L as g_cond, so that it is compared with γ(t) directly;
    - `prior_norm`, `guidance_norm`, `gamma`, (B, K): ‖g_prior‖, ‖∇L‖ and the strength that was used;
    - `loss`, (B, 3): the weighted terms; `error`, (B,): ‖y - Σ x̂_0‖ needs `mixture`;
    - `si_sdr`, (B, K): of x̂_0, in dB, with references only.
    """

    process: VP
    references: Tensor | None = None
    mixture: Tensor | None = None
    keep: tuple[int, ...] = ()
    t: list[int] = field(default_factory=list)
    bound: list[Tensor] = field(default_factory=list)
    prior_norm: list[Tensor] = field(default_factory=list)
    guidance_norm: list[Tensor] = field(default_factory=list)
    gamma: list[Tensor] = field(default_factory=list)
    loss: list[Tensor] = field(default_factory=list)
    error: list[Tensor] = field(default_factory=list)
    si_sdr: list[Tensor] = field(default_factory=list)
    states: dict[int, Tensor] = field(default_factory=dict)

    def __call__(self, step: Step) -> None:
        """Take in one step of the solver."""
        prior = float(self.process.betas[step.t]) * step.score
        norm = torch.linalg.vector_norm(step.gradient, dim=-1)
        self.t.append(step.t)
        self.bound.append(guidance_bound(prior, -step.gradient))
        self.prior_norm.append(torch.linalg.vector_norm(prior, dim=-1))
        self.guidance_norm.append(norm)
        self.gamma.append(torch.linalg.vector_norm(step.update, dim=-1) / norm.clamp_min(torch.finfo(norm.dtype).tiny))
        self.loss.append(step.loss)
        if self.mixture is not None:
            self.error.append(torch.linalg.vector_norm(self.mixture - step.clean.sum(dim=1), dim=-1))
        if self.references is not None:
            self.si_sdr.append(si_sdr(step.clean, self.references))
        if step.t in self.keep:
            self.states[step.t] = step.clean

    def table(self) -> dict[str, list[Any]]:
        """Everything as plain lists, for a JSON file: name to one entry per step."""
        series = ("bound", "prior_norm", "guidance_norm", "gamma", "loss", "error", "si_sdr")
        return {"t": self.t} | {name: [value.tolist() for value in getattr(self, name)] for name in series}


def conflicts(trace: Trace) -> Tensor:
    """Shares of the steps per source, (2, K): prior against guidance (bound > 0); and guidance too weak (bound > γ)."""
    bound, gamma = (torch.stack(series)[:, 0].cpu() for series in (trace.bound, trace.gamma))
    return torch.stack([(bound > 0).float().mean(0), (bound > gamma).float().mean(0)])


def si_sdr(estimate: Tensor, target: Tensor) -> Tensor:
    """SI-SDR in dB of (..., N): as in `metrics`, on the tensors' own device."""
    scale = (estimate * target).sum(-1, keepdim=True) / target.square().sum(-1, keepdim=True).clamp_min(1e-12)
    wanted = scale * target
    rest = (estimate - wanted).square().sum(-1)
    return 10 * torch.log10(wanted.square().sum(-1).clamp_min(1e-20) / rest.clamp_min(1e-20))


def with_null(value: Any) -> Any:
    """Nested dicts and lists with None for what is not finite, which JSON has no numbers for."""
    if isinstance(value, dict):
        return {key: with_null(item) for key, item in value.items()}
    if isinstance(value, list):
        return [with_null(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
