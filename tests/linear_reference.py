"""What the solvers that are linear for Gaussian sources must give: mean and variance, from linear algebra.

In the basis of `known_posteriors` every coefficient of K Gaussian sources is a problem of its own with K unknowns. The
reference follows mean and covariance of their variance-preserving states through a solver's steps, written with the
conditional moments of Gaussian variables instead of denoisers, coefficients of schedules and gradients.
"""

from __future__ import annotations

import torch
from torch import Tensor

from known_posteriors import KnownDenoiser, imdct, mdct
from sourceprior.schedules import VP


def conditional_step(known: KnownDenoiser, process: VP, t: int) -> tuple[Tensor, Tensor, float]:
    """For every coefficient: x_{t-1} = A x_t + noise, x̂_0 = G x_t, both (T, BANDS, K), and the noise's variance."""
    after, before, beta = (float(v[t]) for v in (process.alpha_bars, process.previous_alpha_bars, process.betas))
    v = known.variance[:, 0].permute(1, 2, 0)
    var_t, var_before = after * v + 1 - after, before * v + 1 - before
    # x_t = √(1 - β) x_{t-1} + noise and x_t = √ᾱ x_0 + noise: regressions of Gaussian variables on x_t.
    noise = beta * (1 - before) / (1 - after) if t > 0 else 0.0
    return (1 - beta) ** 0.5 * var_before / var_t, after**0.5 * v / var_t, noise


def analytical(known: KnownDenoiser, process: VP, y: Tensor) -> tuple[Tensor, float]:
    """Ancestral steps from noise, the error handed out equally after each: mean (B, K, N) and total variance."""
    sources = len(known.variance)
    a = mdct(y.double())
    mean = torch.zeros(*a.shape, sources, dtype=a.dtype)
    eye = torch.eye(sources, dtype=a.dtype)
    spread = eye.expand(*a.shape[1:], -1, -1)
    project = eye - 1 / sources
    for t in reversed(range(len(process))):
        step, _, noise = conditional_step(known, process, t)
        mean = step * mean
        wanted = float(process.previous_alpha_bars[t]) ** 0.5 * a
        mean = mean + ((wanted - mean.sum(-1)) / sources)[..., None]
        spread = project @ (step[..., None] * spread * step[..., None, :] + noise * eye) @ project
    return imdct(mean.movedim(-1, 1)), float(spread.diagonal(dim1=-2, dim2=-1).sum())


def dps(known: KnownDenoiser, process: VP, y: Tensor, size: float) -> tuple[Tensor, float]:
    """Ancestral steps from the noised mixture, each followed by one of steepest descent of ‖y - Σ x̂_0‖²."""
    sources = len(known.variance)
    a = mdct(y.double())
    last = float(process.alpha_bars[-1])
    mean = (last**0.5 * a)[..., None].expand(*a.shape, sources)
    # All sources start from the same noise.
    spread = torch.full((*a.shape[1:], sources, sources), 1 - last, dtype=a.dtype)
    eye = torch.eye(sources, dtype=a.dtype)
    for t in reversed(range(len(process))):
        step, clean, noise = conditional_step(known, process, t)
        own = size if t > 0 else 0.0
        matrix = torch.diag_embed(step) - 2 * own * clean[..., :, None] * clean[..., None, :]
        mean = (matrix @ mean[..., None])[..., 0] + 2 * own * clean * a[..., None]
        spread = matrix @ spread @ matrix.mT + noise * eye
    return imdct(mean.movedim(-1, 1)), float(spread.diagonal(dim1=-2, dim2=-1).sum())
