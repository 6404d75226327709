"""The default solver: a diffusion sampler whose denoised signal is the posterior mean given the mixture.

With d_k = D_k(x_k, sigma), r = y - Σ d_k and, per STFT bin, V_k = sigma² P_k / (sigma² + P_k) for power P_k,

    m_k = d_k + iSTFT(V_k / (Σ_j V_j + sigma_y²) · STFT(r))

takes the place of d_k in an unconditional sampler: E[x_k | noisy sources, y] under a Gaussian closure of the denoising
posterior whose covariance is taken to be diagonal in time-frequency. It costs K denoisings a step and no
back-propagation. For sigma_y = 0 the weights add up to one, and so the stems to the mixture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import log
from typing import Literal

import torch
from torch import Tensor

from sourceprior.initial import standard_normal
from sourceprior.mixture import Mixture
from sourceprior.profiles import nearer
from sourceprior.ranges import Count, NonNegative
from sourceprior.stft import istft, smoothed, stft

Power = Callable[[Tensor, Mixture, float], Tensor]
"""Called as power(STFT of d (B, K, 513, T), problem, sigma) -> P_k, the sources' power per bin (B, K, 513, T)."""


def floored_power(spectrum: Tensor, problem: Mixture, sigma: float) -> Tensor:
    """|STFT d_k|² smoothed over 3×3 bins, and nowhere below the class's average spectrum.

    At high sigma the denoiser shrinks to nothing and the average decides: the Wiener split.
    """
    smooth = smoothed(spectrum)
    return smooth if problem.spectra is None else smooth.maximum(problem.spectra[:, :, None])


def second_moment(spectrum: Tensor, problem: Mixture, sigma: float) -> Tensor:
    """E|x_k|² = |d_k|² + posterior variance, the latter from the average spectrum S: sigma² S / (sigma² + S).

    The floor falls with sigma, so that at low sigma a source that is silent in a bin no longer takes part in the split.
    """
    smooth = smoothed(spectrum)
    if problem.spectra is None:
        return smooth
    average = problem.spectra[:, :, None]
    return smooth + sigma**2 * average / (sigma**2 + average)


def posterior_mean(
    problem: Mixture,
    sigmas: Tensor,
    x: Tensor,
    *,
    generators: Sequence[torch.Generator],
    callback: Callable[[int, int, float, Tensor], None] | None = None,
    split: Literal["tf", "equal"] = "tf",
    power: Power = second_moment,
    method: Literal["2m", "euler", "heun"] = "2m",
    churn: NonNegative = 0.0,
    temperature: NonNegative = 1.0,
    start: Literal["share", "mixture"] = "share",
    profiles: Count = 0,
) -> Tensor:
    """Separate by sampling from the posterior of the sources given the mixture.

    Args:
        problem: mixtures `(B, N)` and their denoiser. `problem.noise_std` is sigma_y: 0 makes the stems add up to y.
        sigmas: descending noise levels ending in 0, `(S + 1,)`, in units of the waveform.
        x: noisy sources at level sigmas[0], `(B, K, N)`.
        generators: one per mixture; used by `churn` only.
        callback: called with (step, S, sigma, m (B, K, N)) after every step.
        split: "tf" hands the residual out per time-frequency bin, "equal" gives every source r/K (to compare with).
        power: the estimate of the sources' power behind the "tf" split.
        method: "2m" is DPM-Solver++(2M), "euler" its first-order form (DDIM), "heun" takes two denoisings a step.
        churn: before every step the noise level is raised by this fraction, at most √2 - 1, with fresh noise.
        temperature: factor of the start's distance from y/K. 1 draws samples of the posterior, 0 follows the path of
            the mean, exactly so for Gaussian sources; what lies between gives up spread for accuracy. With known
            Gaussian mixtures, one run: 5.4 dB at 1, 8.5 at 0.5, 9.3 at 0.3, 9.8 at 0, and 8.6 for a pair at 1. A
            trained denoiser expects noise of level sigma, so how low one may go is a matter of measurement.
        start: "share" begins from y/K as every source's part, "mixture" from all of y, as the paper does.
        profiles: times that the stems are brought nearer to what each source sounds like in this recording, at the end;
            no part of the posterior under the priors, see `profiles`.

    Returns:
        Stems `(B, K, N)`: the last m, or what its profiles make of it.
    """
    steps, m = len(sigmas) - 1, x
    previous: tuple[float, Tensor] | None = None
    centre = problem.y[:, None] / problem.num_sources
    x = (problem.y[:, None] if start == "mixture" else centre) + temperature * (x - centre)
    for step in range(steps):
        sigma, target = float(sigmas[step]), float(sigmas[step + 1])
        if churn > 0 and target > 0:
            raised = sigma * (1 + min(churn, 2**0.5 - 1))
            x = x + (raised**2 - sigma**2) ** 0.5 * standard_normal(x.shape[1:], generators, x)
            sigma = raised
        m = conditioned(problem, x, sigma, split, power)
        if callback:
            callback(step, steps, sigma, m)
        # In units of m, x moves on the line from itself to m; the second order only corrects m.
        ratio, target_m = target / sigma, m
        if method == "heun" and target > 0:
            ahead = conditioned(problem, ratio * x + (1 - ratio) * m, target, split, power)
            # Karras et al. 2022, algorithm 1: the mean of the slopes (x - m) / sigma at both ends.
            slope = ((x - m) / sigma + (ratio * x + (1 - ratio) * m - ahead) / target) / 2
            target_m = x - sigma * slope
        elif method == "2m" and previous is not None and target > 0 and previous[0] != sigma:
            # Lu et al. 2022: linear extrapolation of m in log sigma to the middle of the step.
            last_sigma, last_m = previous
            target_m = m + log(sigma / target) / log(last_sigma / sigma) / 2 * (m - last_m)
        x, previous = ratio * x + (1 - ratio) * target_m, (sigma, m)
    return torch.stack([nearer(stems, profiles) for stems in m]) if profiles else m


def conditioned(problem: Mixture, x: Tensor, sigma: float, split: str, power: Power) -> Tensor:
    """m_k = E[x_k | noisy sources at level sigma, y] (the equation at the top), `(B, K, N)`."""
    d = problem.denoise(x, sigma)
    r = problem.residual(d)
    noise = problem.noise_std**2
    if split == "equal":
        # One variance sigma² for every source and bin.
        return d + (r * (sigma**2 / (problem.num_sources * sigma**2 + noise)))[:, None]
    p = power(stft(d), problem, sigma)
    # A bin in which all powers are zero would be 0/0: the tiny floor makes it an equal split.
    v = (sigma**2 * p / (sigma**2 + p)).clamp_min(1e-12 * sigma**2)
    weights = v / (v.sum(dim=1, keepdim=True) + noise)
    return d + istft(weights * stft(r)[:, None], d.shape[-1])
