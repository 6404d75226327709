"""How much of a mixture looks like what a source sounds like elsewhere in the same recording.

A prior knows what dogs sound like, not this dog. Where its stem is surely the dog's it shows that, and what a stem
holds of another source looks like that one. So each stem gets a few spectra (atoms), learned where it is most surely
its source's; the mixture is explained by the atoms of a source and of its rivals together, and they are asked for their
shares of its energy.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from sourceprior.factorisation import fit_activations, fit_atoms
from sourceprior.stft import BINS, HOP, energy, stft

BANDS, ATOMS, UPDATES = 64, 4, 30
SURE_SHARE = 0.5
"""A source is shown by this share of the moments, those at which it is surest."""


def likeness(stems: Tensor, y: Tensor, evidence: np.ndarray, rivals: np.ndarray, step: int) -> np.ndarray:
    """Energy of the mixture that looks like each source, and the mixture's, every `step` samples: `(K + 1, steps)`.

    Args:
        stems: `(K, N)`, as a solver left them.
        y: the mixture `(N,)`.
        evidence: how sure each source is around every step, `(K, steps)`, on any scale.
        rivals: whether source j is a rival of source k, `(K, K)`; what looks like others than these counts for nobody.
    """
    spectra = in_bands(torch.cat([stems, y[None]]))
    moment = (np.arange(spectra.shape[-1]) * HOP // step).clip(max=evidence.shape[1] - 1)
    surest = (evidence >= np.quantile(evidence, 1 - SURE_SHARE, axis=1, keepdims=True))[:, moment]
    atoms = [learn_atoms(spectrum[:, torch.from_numpy(s)]) for spectrum, s in zip(spectra[:-1], surest, strict=True)]
    mixture = spectra[-1]
    energies = [torch.zeros(len(moment), dtype=mixture.dtype) for _ in atoms] + [mixture.square().sum(0)]
    for k in np.flatnonzero(rivals.any(1)):
        energies[k] = share(mixture, [atoms[k], *(atoms[j] for j in np.flatnonzero(rivals[k]))])
    # Frames are no whole number of steps: their sums are read off between frames.
    total = np.pad(torch.stack(energies).cumsum(1).numpy(), ((0, 0), (1, 0)))
    edges = np.arange(evidence.shape[1] + 1) * step / HOP + 0.5
    return np.diff(np.stack([np.interp(edges, np.arange(len(moment) + 1), row) for row in total]), axis=1)


def in_bands(signals: Tensor) -> Tensor:
    """Square roots of the energies of signals `(K, N)` in BANDS bands, as wide as the ear's: `(K, BANDS, T)`.

    They are relative to the mean of the last one, the mixture, as the factorisation's small constants are not.
    """
    position = torch.log1p(torch.arange(BINS) / 45)
    band = (position / position[-1] * BANDS).long().clamp_max(BANDS - 1)
    found = []
    for signal in signals:
        power = energy(stft(signal)).cpu().double()
        found.append(torch.zeros(BANDS, power.shape[1], dtype=power.dtype).index_add_(0, band, power).sqrt())
    spectra = torch.stack(found)
    return spectra / spectra[-1].mean().clamp_min(1e-12)


def learn_atoms(v: Tensor) -> Tensor:
    """ATOMS spectra that explain those of v `(BANDS, T)`: `(BANDS, ATOMS)`, columns that sum to 1."""
    start = torch.rand(len(v), ATOMS, generator=torch.Generator().manual_seed(0), dtype=v.dtype) + 0.1
    return fit_atoms(v, start / start.sum(0), UPDATES)


def share(v: Tensor, atoms: Sequence[Tensor]) -> Tensor:
    """Energy `(T,)` that the first of some sources has of a mixture v `(BANDS, T)`, given the atoms of all of them."""
    h = fit_activations(v, torch.cat(list(atoms), 1), UPDATES)
    first, *rest = ((a @ part).square() for a, part in zip(atoms, h.split(ATOMS), strict=True))
    return (v.square() * first / (first + sum(rest) + 1e-20)).sum(0)
