"""Stems that add up to their mixture: a last step after a solver that does not see to it itself.

One gain per stem fits them to the mixture; what is still missing goes to each time-frequency bin's stems in proportion
to their magnitudes, so that a stem that is silent there gets nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sourceprior.stft import istft, stft


def fit(stems: Tensor, mixture: Tensor) -> Tensor:
    """One gain per stem, `(K,)`, least squares: min ‖y - Σ g_k s_k‖. Of several answers, the smallest gains.

    Args:
        stems: `(K, N)`.
        mixture: `(N,)`.
    """
    own = stems.double()
    # The pseudo-inverse of the K × K products: stems that are alike share a gain, silent ones get none.
    return (torch.linalg.pinv(own @ own.T, rtol=1e-9, hermitian=True) @ (own @ mixture.double())).to(stems.dtype)


def consistent(stems: Tensor, mixture: Tensor) -> Tensor:
    """Stems `(K, N)` with one gain each, and the rest of the mixture `(N,)` handed out; they add up to it.

    Bin by bin, stem k gets |S_k| / Σ_j |S_j| of what is missing; where all are silent, an equal share.
    """
    scaled = fit(stems, mixture)[:, None] * stems
    magnitude = stft(scaled).abs()
    # Relative to the mixture's own level: bins in which all stems are zero are shared equally.
    magnitude = magnitude + 1e-9 * mixture.abs().max().clamp_min(1e-20)
    share = magnitude / magnitude.sum(0)
    return scaled + istft(share * stft(mixture - scaled.sum(0)), mixture.shape[-1])
