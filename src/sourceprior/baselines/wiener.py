"""The fixed Wiener filter: what average spectra alone can do, and what an untrained prior does."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sourceprior.datasets import Clip, read_clip
from sourceprior.errors import UserError
from sourceprior.stft import istft, stft


def separate(mixture: Tensor, spectra: Tensor) -> Tensor:
    """Cut a mixture `(N,)` by average powers `(K, 513)` into stems `(K, N)` that add up to it."""
    weights = spectra / spectra.sum(0).clamp_min(1e-30)
    return istft(weights[:, :, None] * stft(mixture), mixture.shape[-1])


def learn(
    clips: Sequence[Clip], labels: Sequence[str], *, sample_rate: int = 16000, max_clips: int = 200
) -> dict[str, Tensor]:
    """Average power spectrum `(513,)` of each label's clips, every clip at RMS 1.

    Raises UserError for a label without a clip.
    """
    spectra = {}
    for label in labels:
        own = [clip for clip in clips if clip.label == label]
        if not own:
            raise UserError(f"There is no training clip of '{label}' to learn a spectrum from.")
        total = torch.zeros(513)
        for clip in own[:: -(-len(own) // max_clips)]:
            wave = torch.from_numpy(read_clip(clip.path, sample_rate)).float()
            total += stft(wave / wave.square().mean().sqrt().clamp_min(1.0)).abs().square().mean(1)
        spectra[label] = total / total.mean()
    return spectra
