"""A recording's loudness around each moment: the same however it is cut, and stems that do not depend on it."""

import numpy as np
import pytest
import torch

from conftest import RATE, band_noise
from sourceprior import separate
from sourceprior.local_level import QUIETEST, Energies, between
from sourceprior.metrics import si_sdr


def energies_of(signal: np.ndarray, cuts: list[int]) -> Energies:
    energies = Energies(RATE)
    for piece in np.split(signal, cuts):
        energies.add(piece)
    return energies


@pytest.mark.parametrize("length", [1, 3999, 4000, 4001, 123_456])
def test_pieces_do_not_matter(length):
    signal = np.random.default_rng(0).normal(size=length)
    whole, cut = energies_of(signal, []), energies_of(signal, sorted({length // 3, length // 2, length - 1}))
    np.testing.assert_allclose(cut.sums(), whole.sums(), rtol=1e-12)
    assert whole.length == cut.length == length
    np.testing.assert_allclose(whole.sums().sum(), np.square(signal).sum())


def test_it_follows_the_loudness_but_not_into_silence():
    parts = [scale * np.random.default_rng(seed).normal(size=20 * RATE) for seed, scale in enumerate((1.0, 0.1, 0.0))]
    signal = np.concatenate(parts)
    energies = energies_of(signal, [])
    rms = between(energies.rms(), energies.step, 0, len(signal)).numpy()
    for middle, expected in ((10, 1.0), (30, 0.1), (50, QUIETEST * np.sqrt(np.square(signal).mean()))):
        assert rms[middle * RATE] == pytest.approx(expected, rel=0.05)
    # Smooth: less than 3 dB in a quarter of a second, so that nothing is heard of it.
    assert np.abs(np.diff(20 * np.log10(rms[:: RATE // 4]))).max() < 3
    whole = between(energies.rms(), energies.step, 0, len(signal))
    torch.testing.assert_close(between(energies.rms(), energies.step, 5000, 9000), whole[5000:9000])


def test_a_quiet_passage_is_separated_as_well_as_a_loud_one(priors):
    """Its sources would lie far below the level that the priors know."""
    samples = 24 * RATE
    loud = np.where(np.arange(samples) < samples // 2, 1.0, 0.1)
    sources = [loud * band_noise(label, samples, seed=seed) for seed, label in enumerate(["speech", "Bark"])]
    stems = separate(sum(sources), RATE, ["speech", "bark"], prior=priors, steps=4, candidates=1, segment=4.0).stems
    halves = [slice(2 * RATE, 8 * RATE), slice(16 * RATE, 22 * RATE)]
    for stem, source in zip(stems.values(), sources, strict=True):
        first, second = (float(si_sdr(stem[half], source[half])) for half in halves)
        assert second > first - 1
