"""Stems brought nearer to what each source sounds like in this very recording.

A prior knows a class of sounds. A recording has one dog, whose barks are alike, and one engine: the power of source k
in bin (f, t) is about w_k(f) h_k(t), its average spectrum here, at a gain that changes with time. With the average
spectra of the stems as w, the gains h are fitted to all of them together (`factorisation`), and every source's share of
a bin, which is that of its power P_k in the stems, becomes that of

    P_k (w_k h_k)^STRENGTH

What a stem gains in a bin the others lose: their sum stays as it is. One profile is of the whole signal and one of the
seconds around each moment, as a voice is not one spectrum for long; of the two the geometric mean is taken.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sourceprior.factorisation import fit_activations
from sourceprior.stft import energy, istft, smoothed, stft

STRENGTH = 0.25
WINDOW = 250
"""Frames of a profile's surroundings: 4 s at 16 kHz."""
UPDATES = 10
"""Of the gains: more of them fit two profiles that are alike to chance."""
LEAST = -8.0
"""Of the logarithm of a share: no profile denies a source a bin altogether."""


def nearer(stems: Tensor, times: int = 1) -> Tensor:
    """Stems `(K, N)` that sum to the same, nearer to their profiles, taken so many times anew."""
    mixture = stft(stems.sum(0, keepdim=True))
    for _ in range(times if len(stems) > 1 else 0):
        spectra = stft(stems)
        power = energy(torch.cat([spectra, mixture]))
        own = torch.log(smoothed(spectra) + 1e-12)
        change = torch.softmax(own + STRENGTH * around_each(power), 0) - torch.softmax(own, 0)
        stems = stems + istft(change * mixture, stems.shape[-1])
    return stems


def around_each(power: Tensor) -> Tensor:
    """Logarithms of the shares by profiles of all of it and of WINDOW frames: power `(K + 1, F, T)` -> `(K, F, T)`."""
    whole, frames = log_shares(power), power.shape[-1]
    if frames <= WINDOW:
        return whole
    total, weight = torch.zeros_like(whole), whole.new_zeros(frames)
    fade = torch.hann_window(WINDOW, periodic=False, device=power.device) + 1e-3
    for start in [*range(0, frames - WINDOW, WINDOW // 2), frames - WINDOW]:
        place = slice(start, start + WINDOW)
        total[..., place] += fade * log_shares(power[..., place])
        weight[place] += fade
    return (whole + total / weight) / 2


def log_shares(power: Tensor) -> Tensor:
    """Logarithms of the shares `(K, F, T)` that sources with the profiles of their powers have of the mixture's.

    Args:
        power: of the stems and of the mixture, `(K + 1, F, T)`.
    """
    power = power / power[-1].mean().clamp_min(1e-20)
    profiles = power[:-1].sum(-1).T
    profiles = profiles / profiles.sum(0).clamp_min(1e-12)
    gains = fit_activations(power[-1], profiles, UPDATES)
    return torch.log_softmax(torch.log(profiles.T[:, :, None] * gains[:, None] + 1e-12), 0).clamp_min(LEAST)
