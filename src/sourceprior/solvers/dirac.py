"""MSDM's solvers (Mariani et al. 2023, arXiv 2302.02257): the mixture enters the score as a constraint."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from sourceprior.errors import UserError
from sourceprior.initial import standard_normal
from sourceprior.mixture import Mixture
from sourceprior.ranges import AtLeastOne, NonNegative, Positive


def dirac(
    problem: Mixture,
    sigmas: Tensor,
    x: Tensor,
    *,
    generators: Sequence[torch.Generator],
    callback: Callable[[int, int, float, Tensor], None] | None = None,
    likelihood: Literal["dirac", "gaussian"] = "dirac",
    constrained: int | None = None,
    gamma: Positive | None = None,
    num_resamples: AtLeastOne = 2,
    churn: NonNegative = 0.0,
) -> Tensor:
    """Separate by Euler steps along the posterior's score, every level done several times with fresh noise.

    With d_k = (x_k - D_k(x_k, σ)) / σ, a step goes

    - for "dirac", along d_k - d_s for every source k, after source s was set to what the others leave of the mixture;
    - for "gaussian", along d_k - σ / (2 γ²) (y - Σ_j x_j).

    Args:
        problem: mixtures `(B, N)` and their denoiser.
        sigmas: descending noise levels ending in 0, `(S + 1,)`; the paper takes 150 Karras levels.
        x: noisy sources at level sigmas[0], `(B, K, N)`.
        generators: one per mixture: a draw of `(K, N)` for every churn and every resampling.
        callback: called with (step, S, sigma, D (B, K, N)) after every level.
        likelihood: which of the two forms.
        constrained: index of the source s of "dirac", the last one by default.
        gamma: standard deviation of the mixture's error in "gaussian", in units of the waveform; σ itself by default.
        num_resamples: how often a level is done; in between, the noise it took away is put back.
        churn: s_churn: before every step the level is raised by min(churn / S, √2 - 1) of itself.

    Returns:
        Sources `(B, K, N)`; for "dirac" they add up to the mixture.

    Raises:
        UserError: an unknown likelihood, an option of the other one, a constrained source that does not exist, or fewer
            than one resampling.
    """
    if likelihood not in ("dirac", "gaussian"):
        raise UserError(f"The likelihood of the solver dirac is 'dirac' or 'gaussian', not {likelihood!r}.")
    idle = {"dirac": "gamma" if gamma is not None else "", "gaussian": "constrained" if constrained is not None else ""}
    if idle[likelihood]:
        raise UserError(
            f"With the likelihood '{likelihood}' the solver dirac does not heed {idle[likelihood]}: leave it out."
        )
    constrained = -1 if constrained is None else constrained
    if not -problem.num_sources <= constrained < problem.num_sources:
        raise UserError(f"The constrained source {constrained} does not exist among {problem.num_sources} sources.")
    if num_resamples < 1:
        raise UserError("The solver dirac does every level at least once: num_resamples must be 1 or more.")
    levels = sigmas.tolist()
    steps = len(levels) - 1
    raise_by = min(churn / steps, 2**0.5 - 1)
    clean = x
    for step in range(steps):
        sigma, target = levels[step], levels[step + 1]
        for repeat in range(num_resamples):
            level = sigma * (1 + raise_by)
            if raise_by > 0:
                x = x + (level**2 - sigma**2) ** 0.5 * standard_normal(x.shape[1:], generators, x)
            if likelihood == "dirac":
                x = _constrain(problem, x, constrained)
            clean = problem.denoise(x, level)
            slope = (x - clean) / level
            if likelihood == "dirac":
                slope = slope - slope[:, constrained].unsqueeze(1)
            else:
                # With γ = σ the pull of the mixture grows as the noise falls, like the score of the prior.
                width = level if gamma is None else gamma
                slope = slope - level / (2 * width**2) * problem.residual(x)[:, None]
            x = x + (target - level) * slope
            if repeat < num_resamples - 1:
                x = x + (sigma**2 - target**2) ** 0.5 * standard_normal(x.shape[1:], generators, x)
        if callback:
            callback(step, steps, sigma, clean)
    return _constrain(problem, x, constrained) if likelihood == "dirac" else x


def _constrain(problem: Mixture, x: Tensor, constrained: int) -> Tensor:
    """The sources with source `constrained` replaced by what the others leave of the mixture."""
    own = x[:, constrained] + problem.residual(x)
    return torch.cat([x[:, :constrained], own[:, None], x[:, constrained:][:, 1:]], dim=1)
