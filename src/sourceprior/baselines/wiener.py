"""The fixed Wiener filter: what average spectra alone can do, and what an untrained prior does."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence

import torch
from torch import Tensor

from sourceprior.baselines.listening import heard
from sourceprior.datasets import Clip
from sourceprior.stft import istft, stft


def separate(mixture: Tensor, spectra: Tensor) -> Tensor:
    """Cut a mixture `(N,)` by average powers `(K, 513)` into stems `(K, N)` that add up to it."""
    weights = spectra / spectra.sum(0).clamp_min(1e-30)
    return istft(weights[:, :, None] * stft(mixture), mixture.shape[-1])


def learn(
    clips: Sequence[Clip],
    labels: Sequence[str],
    *,
    sample_rate: int = 16000,
    max_clips: int = 200,
    bad: MutableMapping[str, str] | None = None,
) -> dict[str, Tensor]:
    """Average power spectrum `(513,)` of each label's clips, every clip at RMS 1.

    Args:
        bad: takes path and reason of the clips that are left out, unreadable or silent ones.

    Raises NothingToLearn, a UserError, for a label without a clip that can be used.
    """
    spectra = {}
    for label in labels:
        total = torch.zeros(513)
        for wave in heard(clips, label, max_clips, "a spectrum", sample_rate=sample_rate, bad=bad):
            total += stft(wave / wave.square().mean().sqrt().clamp_min(2.0**-15)).abs().square().mean(1)
        spectra[label] = total / total.mean()
    return spectra
