"""What a source sounds like elsewhere in the recording tells whose a part of the mixture is."""

import numpy as np
import torch

from conftest import RATE
from sourceprior.likeness import likeness
from sourceprior.local_level import GRID, step_samples

STEP = step_samples(RATE)
BOTH = ~np.eye(2, dtype=bool)


def tones(seconds: int = 8) -> torch.Tensor:
    """Two tones in noise of their own bands; the second one stops half-way, `(2, N)`."""
    time = torch.arange(seconds * RATE) / RATE
    noise = 0.01 * torch.randn(2, len(time), generator=torch.Generator().manual_seed(0))
    waves = torch.stack([torch.sin(2 * torch.pi * f * time) for f in (300.0, 2500.0)]) + noise
    waves[1, len(time) // 2 :] = 0
    return waves


def sure_at(seconds: int, *when: slice) -> np.ndarray:
    evidence = np.zeros((len(when), round(seconds / GRID)))
    for row, place in zip(evidence, when, strict=True):
        row[place] = 1
    return evidence


def test_what_leaks_looks_like_the_other_source():
    true = tones()
    y = true.sum(0)
    # The second stem keeps a third of the first source where its own has stopped.
    stems = torch.stack([0.7 * true[0], true[1] + 0.3 * true[0]])
    first, second, whole = likeness(stems, y, sure_at(8, slice(None), slice(0, 16)), BOTH, STEP)
    assert first.shape == second.shape == whole.shape == (32,)
    gone, there = slice(20, 31), slice(1, 12)
    assert (second[gone] < 1e-3 * whole[gone]).all()
    assert (second[there] > 0.3 * whole[there]).all()
    assert (first + second <= 1.001 * whole).all()
    # Frames reach over the borders of a step.
    energy = y.square().unfold(0, STEP, STEP).sum(1).numpy()
    np.testing.assert_allclose((whole / whole[5])[1:-1], (energy / energy[5])[1:-1], atol=0.02)


def test_the_level_of_a_recording_says_nothing():
    true = tones()
    evidence = sure_at(8, slice(None), slice(0, 16))
    loud, quiet = (likeness(gain * true, gain * true.sum(0), evidence, BOTH, STEP) for gain in (1.0, 1e-3))
    np.testing.assert_allclose(loud[:2] / loud[2], quiet[:2] / quiet[2], atol=1e-4)


def test_silence_and_sources_without_rivals_claim_nothing():
    true = tones()
    one = np.array([[False, True], [False, False]])
    assert likeness(true, true.sum(0), np.ones((2, 32)), one, STEP)[1].max() == 0
    silent = likeness(0 * true, 0 * true[0], np.ones((2, 32)), BOTH, STEP)
    assert np.isfinite(silent).all()
    assert silent.max() < 1e-12
