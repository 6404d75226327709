"""What a solver is given: the observation y = Σ_k x_k + n and the denoisers of its sources."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

Denoise = Callable[[Tensor, float], Tensor]
"""Called as denoise(x (B, K, N), sigma) -> E[clean | x = clean + sigma z], (B, K, N)."""


@dataclass(frozen=True)
class Mixture:
    """The inverse problem y = Σ_k x_k + n, with everything a solver may know about it.

    Attributes:
        y: the mixtures, `(B, N)`.
        denoise: the joint denoiser of the K sources.
        num_sources: K.
        spectra: average power of each source per STFT bin, `(K, 513)`, or None where unknown.
        noise_std: standard deviation of the white noise n, in units of the waveform.
    """

    y: Tensor
    denoise: Denoise
    num_sources: int
    spectra: Tensor | None = None
    noise_std: float = 0.0

    def residual(self, x: Tensor) -> Tensor:
        """What sources `(B, K, N)` leave unexplained of the mixture: y - Σ_k x_k, `(B, N)`."""
        return self.y - x.sum(dim=1)
