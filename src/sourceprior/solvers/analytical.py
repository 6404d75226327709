"""UnDiff's gradient-free sampler: ancestral sampling, and after every step a projection onto the mixture."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sourceprior.initial import standard_normal
from sourceprior.mixture import Mixture
from sourceprior.ranges import Count, NonNegative, Positive
from sourceprior.schedules import VP, as_vp


def analytical(
    problem: Mixture,
    schedule: VP | Tensor,
    x: Tensor,
    *,
    generators: Sequence[torch.Generator],
    callback: Callable[[int, int, float, Tensor], None] | None = None,
    trace: Callable[[int, Tensor], None] | None = None,
    rounds: Count = 1,
    weight: NonNegative | None = None,
    scale_mixture: bool = True,
    snr: NonNegative = 0.0,
    langevin_steps: Count = 150,
    clip: Positive | None = None,
    peak: Positive | None = None,
) -> Tensor:
    """Separate without gradients (Iashchenko et al. 2023); the defaults are one exact projection per step.

    After the ancestral samples s_k of a step, `rounds` times: total += target - Σ x_k; x_k = s_k + weight · total.

    Args:
        problem: mixtures `(B, N)` and their denoiser.
        schedule: as for `gradient`.
        x: noisy sources at the first noise level, in units of the waveform, `(B, K, N)`; noise, as a rule.
        generators: one per mixture: a step draws `(K, N)` from each, then `(K, N)` for its Langevin step if it has one.
        callback: called with (step, steps, sigma, x̂_0 (B, K, N)) after every step.
        trace: called with (t, x_{t-1} (B, K, N)) after every step.
        rounds: projections per step.
        weight: share of the accumulated error every source gets; 1 / K by default, which makes one round exact.
        scale_mixture: the target is √ᾱ_{t-1} y, what the variance-preserving states of the sources should add up to
            but for their noise; otherwise y itself at every step, as in the released code.
        snr: size of the Langevin step per source; 0 for none, 1e-5 in the released code.
        langevin_steps: the Langevin steps run for 0 < t < this.
        clip: clamp x̂_0 to ± this.
        peak: scale every mixture, with its x, to this peak before and back after: what the released code does.

    Returns:
        Sources `(B, K, N)`. With one exact projection they add up to the mixture.
    """
    process = as_vp(schedule)
    alpha_bars, levels, stds = process.alpha_bars.tolist(), process.levels.tolist(), process.posterior_std.tolist()
    previous = process.previous_alpha_bars.tolist()
    from_clean, from_state = (value.tolist() for value in process.posterior_mean_coefficients)
    weight = 1 / problem.num_sources if weight is None else weight
    gain = torch.ones_like(problem.y[:, :1])
    if peak is not None:
        gain = peak / problem.y.abs().amax(dim=-1, keepdim=True).clamp_min(1e-12)
    y = gain * problem.y

    steps = len(process)
    # The noise in x has the process's own level whatever the mixture's, so only the state is at the new scale.
    state = x.detach() * alpha_bars[-1] ** 0.5
    for t in reversed(range(steps)):
        denoised = problem.denoise(state / alpha_bars[t] ** 0.5, levels[t])
        clean = denoised if clip is None else denoised.clamp(-clip, clip)
        sample = from_clean[t] * clean + from_state[t] * state
        if t > 0:
            sample = sample + stds[t] * standard_normal(x.shape[1:], generators, x)
        target = previous[t] ** 0.5 * y if scale_mixture else y
        state, total = sample, torch.zeros_like(y)
        for _ in range(rounds):
            total = total + target - state.sum(dim=1)
            state = sample + weight * total[:, None]
        if snr > 0 and 0 < t < langevin_steps:
            # The new state is denoised again, at the step's own level.
            denoised = problem.denoise(state / alpha_bars[t] ** 0.5, levels[t])
            score = (state - alpha_bars[t] ** 0.5 * denoised) / (1 - alpha_bars[t])
            z = standard_normal(x.shape[1:], generators, x)
            state = _langevin(state, score, target, z, snr, 1 - float(process.betas[t]))
        if trace:
            trace(t, state)
        if callback:
            callback(steps - 1 - t, steps, levels[t], clean / gain[:, None])
    return state / gain[:, None]


def _langevin(state: Tensor, score: Tensor, target: Tensor, z: Tensor, snr: float, alpha: float) -> Tensor:
    """One step along score + (target - Σ x) per source, of a size set by the ratio of noise to score.

    As released, "score" is + ε̂ / √(1 - ᾱ): away from the prior's modes, not towards them. At the released size of 1e-5
    the step is noise in all but name.
    """
    score = score + (target - state.sum(dim=1))[:, None]
    ratio = torch.linalg.vector_norm(z, dim=-1) / torch.linalg.vector_norm(score, dim=-1).clamp_min(1e-12)
    size = (2 * alpha * (snr * ratio) ** 2)[..., None]
    return state + size * score + (2 * size).sqrt() * z
