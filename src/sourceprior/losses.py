"""The paper's reconstruction loss L(y, ŷ) between a mixture and the sum of the estimated sources."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from sourceprior.errors import UserError
from sourceprior.ranges import AtLeastOne, NonNegative, Range


def _norm(x: Tensor, squared: bool) -> Tensor:
    """L2 norm of the last dimension, or its square. At zero the norm's gradient is zero, not undefined."""
    return x.square().sum(-1) if squared else torch.linalg.vector_norm(x, dim=-1)


def time_loss(y: Tensor, estimate: Tensor, squared: bool = True) -> Tensor:
    """‖y - ŷ‖², or the norm itself: (B, N), (B, N) -> (B,)."""
    return _norm(y - estimate, squared)


def group_loss(y: Tensor, estimate: Tensor, segments: int = 512, squared: bool = True) -> Tensor:
    """Error per segment: the mean of ‖y_n - ŷ_n‖² over the segments, or the sum of the norms: (B, N) x 2 -> (B,).

    A recording is cut into at most `segments` pieces of ⌈N / segments⌉ samples; the last one may be shorter.
    """
    residual = y - estimate
    size = -(-residual.shape[-1] // segments)
    pieces = F.pad(residual, (0, -residual.shape[-1] % size)).unflatten(-1, (-1, size))
    errors = _norm(pieces, squared)
    return errors.mean(-1) if squared else errors.sum(-1)


def stft_loss(
    y: Tensor, estimate: Tensor, n_fft: int = 512, hop: int = 256, squared: bool = True, unit: bool = True
) -> Tensor:
    """‖|STFT y| - |STFT ŷ|‖² (Frobenius), or the norm itself: (B, N), (B, N) -> (B,). Periodic Hann, centred.

    With `unit` the window has norm 1, so that the spectrogram of a signal has about the signal's own energy; without,
    192 times that (at 512 points), the plain transform.
    """
    window = torch.hann_window(n_fft, periodic=True, dtype=y.dtype, device=y.device)
    if unit:
        window = window / window.norm()
    # A reflection needs more samples than it adds.
    mode = "reflect" if y.shape[-1] > n_fft // 2 else "constant"

    def magnitude(x: Tensor) -> Tensor:
        return torch.stft(x, n_fft, hop, window=window, center=True, pad_mode=mode, return_complex=True).abs()

    return _norm((magnitude(y) - magnitude(estimate)).flatten(1), squared)


@dataclass(frozen=True)
class ReconstructionLoss:
    """λ_time L_time + λ_group L_group + λ_stft L_stft (paper, "Audio Separation as a Diffusion Inverse Problem").

    The defaults are the paper's; `released()` is what the authors' code computes. The paper does not scale its STFT.
    A plain one makes its squared L_stft, which is blind to phase, outweigh L_time nineteen to one, and then no guidance
    separates even Gaussian sources (docs/parity.md); so it is scaled to unit power here.

    Attributes:
        time, group, stft: the weights λ; a term of weight 0 is not computed.
        squared: squared norms and a mean over segments (the paper), or norms and a sum (the released code).
        segments: number of segments of L_group.
        n_fft, hop: transform of L_stft, in samples.
        unit: scale that transform to unit power, see `stft_loss`.
    """

    time: float = 1.0
    group: float = 0.05
    stft: float = 0.1
    squared: bool = True
    segments: int = 512
    n_fft: int = 512
    hop: int = 256
    unit: bool = True

    def __post_init__(self) -> None:
        weights = (self.time, self.group, self.stft)
        if not all(0 <= weight < math.inf for weight in weights) or sum(weights) == 0:
            raise UserError("The weights of the reconstruction loss must not be negative, and one must be positive.")
        if min(self.segments, self.n_fft, self.hop) < 1:
            raise UserError("Segments, transform size and hop of the reconstruction loss must be at least 1.")

    @classmethod
    def released(cls, time: float = 1.0, group: float = 0.05, stft: float = 0.1) -> ReconstructionLoss:
        """The loss of the released code: norms instead of their squares, a sum over segments instead of a mean."""
        return cls(time, group, stft, squared=False, unit=False)

    def terms(self, y: Tensor, estimate: Tensor) -> Tensor:
        """The three weighted terms, time, group and STFT, of every item: (B, N), (B, N) -> (B, 3)."""
        zero = y.new_zeros(len(y))
        return torch.stack(
            (
                self.time * time_loss(y, estimate, self.squared) if self.time else zero,
                self.group * group_loss(y, estimate, self.segments, self.squared) if self.group else zero,
                self.stft * stft_loss(y, estimate, self.n_fft, self.hop, self.squared, self.unit)
                if self.stft
                else zero,
            ),
            dim=-1,
        )

    def __call__(self, y: Tensor, estimate: Tensor) -> Tensor:
        """Sum of the weighted terms of every item: mixtures (B, N) and their estimates (B, N) -> (B,)."""
        return self.terms(y, estimate).sum(-1)


def loss_of(
    *,
    lambda_time: NonNegative = 1.0,
    lambda_group: NonNegative = 0.05,
    lambda_stft: NonNegative = 0.1,
    squared: bool = True,
    segments: AtLeastOne = 512,
    n_fft: Annotated[int, Range(1, 2**16)] = 512,
    hop: AtLeastOne = 256,
    unit: bool = True,
) -> ReconstructionLoss:
    """The loss with these constants, by the names that they have among a solver's options; the paper's by default.

    Raises:
        UserError: as `ReconstructionLoss`.
    """
    return ReconstructionLoss(lambda_time, lambda_group, lambda_stft, squared, segments, n_fft, hop, unit)
