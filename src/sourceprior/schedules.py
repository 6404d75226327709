"""Noise levels as plain descending tensors that end in 0."""

from __future__ import annotations

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
