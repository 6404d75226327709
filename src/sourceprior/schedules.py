"""Noise levels as plain descending tensors that end in 0."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def karras(n: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> Tensor:
    """`n` noise levels from `sigma_max` down to `sigma_min`, and a final 0: `(n + 1,)` float32, in waveform units.

    Karras et al. 2022, eq. 5: levels evenly spaced in sigma^(1/rho).

    Raises ValueError for n < 1, rho ≤ 0, or levels that are not 0 < sigma_min ≤ sigma_max.
    """
    if n < 1 or rho <= 0 or not 0 < sigma_min <= sigma_max:
        raise ValueError(
            f"karras needs n ≥ 1, rho > 0 and 0 < sigma_min ≤ sigma_max, got {n}, {rho}, {sigma_min}, {sigma_max}"
        )
    top, bottom = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    levels = torch.linspace(top, bottom, n, dtype=torch.float64) ** rho
    return torch.cat([levels, levels.new_zeros(1)]).float()


@dataclass(frozen=True)
class VP:
    """A discrete variance-preserving process x_t = √ᾱ_t x_0 + √(1 - ᾱ_t) ε, t = 0 … T-1 (paper, eq. 1).

    Attributes:
        betas: β_t, (T,) float64, ascending in t.
        alpha_bars: ᾱ_t, the products of 1 - β, (T,) float64, descending in t.
    """

    betas: Tensor
    alpha_bars: Tensor

    def __len__(self) -> int:
        return len(self.betas)

    @property
    def previous_alpha_bars(self) -> Tensor:
        """ᾱ_{t-1}, (T,), with ᾱ_{-1} = 1."""
        return torch.cat([self.alpha_bars.new_ones(1), self.alpha_bars[:-1]])

    @property
    def levels(self) -> Tensor:
        """Noise level σ_t = √((1 - ᾱ_t) / ᾱ_t) of x_t / √ᾱ_t, (T,), in waveform units, ascending in t."""
        return ((1 - self.alpha_bars) / self.alpha_bars).sqrt()

    @property
    def sigmas(self) -> Tensor:
        """The same levels as a schedule: (T + 1,), descending, last 0."""
        return torch.cat([self.levels.flip(0), self.levels.new_zeros(1)])

    @property
    def posterior_variance(self) -> Tensor:
        """Variance of x_{t-1} given x_t and x_0, (T,): β_t (1 - ᾱ_{t-1}) / (1 - ᾱ_t); 0 at t = 0."""
        return self.betas * (1 - self.previous_alpha_bars) / (1 - self.alpha_bars)

    @property
    def posterior_std(self) -> Tensor:
        """The paper's σ(t) (below eq. 11), (T,): square root of the posterior variance."""
        return self.posterior_variance.sqrt()

    @property
    def posterior_log_variance_clipped(self) -> Tensor:
        """Log of the posterior variance, (T,); index 0, where it is 0, takes the value of index 1."""
        variance = self.posterior_variance
        return torch.cat([variance[1:2] if len(variance) > 1 else self.betas[:1], variance[1:]]).log()

    @property
    def posterior_mean_coefficients(self) -> tuple[Tensor, Tensor]:
        """Weights (T,) of x_0 and of x_t in the mean of x_{t-1} given both (paper, Algorithm 1, line 8)."""
        previous = self.previous_alpha_bars
        clean = self.betas * previous.sqrt() / (1 - self.alpha_bars)
        return clean, (1 - previous) * (1 - self.betas).sqrt() / (1 - self.alpha_bars)

    def first(self, steps: int) -> VP:
        """The process up to noise index `steps` - 1: what is left to run from there on."""
        if not 1 <= steps <= len(self):
            raise ValueError(f"A process of {len(self)} steps has no first {steps}.")
        return VP(self.betas[:steps], self.alpha_bars[:steps])


def vp_linear(steps: int = 200, beta_min: float = 1e-4, beta_max: float = 2e-2) -> VP:
    """The paper's process: T = `steps` with β linear from `beta_min` to `beta_max`.

    β and ᾱ are computed in single precision, as the published checkpoints were trained with; the rest in double.

    Raises ValueError for steps < 1 or a range that is not 0 < beta_min ≤ beta_max < 1.
    """
    if steps < 1 or not 0 < beta_min <= beta_max < 1:
        raise ValueError(f"vp_linear needs steps ≥ 1, 0 < beta_min ≤ beta_max < 1, got {steps}, {beta_min}, {beta_max}")
    betas = torch.linspace(beta_min, beta_max, steps, dtype=torch.float32)
    # One product after the other, as NumPy does; torch.cumprod accumulates in double precision and ends 3e-7 away.
    alpha_bars = torch.from_numpy((1 - betas).numpy().cumprod())
    return VP(betas.double(), alpha_bars.double())


def vp_from_sigmas(sigmas: Tensor) -> VP:
    """The variance-preserving process that visits the levels of a schedule `(S + 1,)`, descending and ending in 0.

    Raises ValueError for anything but a strictly descending tensor of at least two levels with a last level of 0.
    """
    if sigmas.ndim != 1 or len(sigmas) < 2 or sigmas[-1] != 0 or not bool((sigmas.diff() < 0).all()):
        raise ValueError("A schedule is a one-dimensional tensor of descending noise levels whose last is 0.")
    alpha_bars = 1 / (1 + sigmas[:-1].flip(0).double().square())
    previous = torch.cat([alpha_bars.new_ones(1), alpha_bars[:-1]])
    return VP(1 - alpha_bars / previous, alpha_bars)


def as_vp(schedule: VP | Tensor) -> VP:
    """A process as it is, a plain tensor of noise levels through `vp_from_sigmas`."""
    return vp_from_sigmas(schedule) if isinstance(schedule, Tensor) else schedule
