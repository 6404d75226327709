"""Non-negative matrix factorisation with the Kullback-Leibler divergence: spectra V ≈ W H of a few atoms.

The multiplicative updates of Lee and Seung (2001); no update makes the divergence larger.
"""

from __future__ import annotations

from torch import Tensor

EPS = 1e-8
"""Of spectra whose mean is about 1."""


def update_activations(v: Tensor, w: Tensor, h: Tensor) -> Tensor:
    """Better activations `(atoms, T)` of the atoms w `(F, atoms)` in the spectra v `(F, T)`."""
    return h * ((w.T @ (v / (w @ h + EPS))) / (w.sum(0)[:, None] + EPS))


def update_atoms(v: Tensor, w: Tensor, h: Tensor) -> Tensor:
    """Better atoms `(F, atoms)`, columns that sum to 1, for the activations h `(atoms, T)`."""
    w = w * ((v / (w @ h + EPS)) @ h.T) / (h.sum(1) + EPS)
    return w / w.sum(0).clamp_min(EPS)


def fit_activations(v: Tensor, w: Tensor, updates: int) -> Tensor:
    """Activations `(atoms, T)` of the atoms w `(F, atoms)` in the spectra v `(F, T)`, after so many updates."""
    h = _even(v, w.shape[1])
    for _ in range(updates):
        h = update_activations(v, w, h)
    return h


def fit_atoms(v: Tensor, w: Tensor, updates: int) -> Tensor:
    """Atoms `(F, atoms)` that explain the spectra v `(F, T)`, from the first guess w, after so many updates of both."""
    h = _even(v, w.shape[1])
    for _ in range(updates):
        h = update_activations(v, w, h)
        w = update_atoms(v, w, h)
    return w


def _even(v: Tensor, atoms: int) -> Tensor:
    """Where activations start: equal ones, so that of equal atoms each keeps the same share, `(atoms, T)`."""
    return v.sum(0, keepdim=True).expand(atoms, -1) / atoms + EPS
