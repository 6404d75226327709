"""Metrics against an independent implementation, and against values known by hand."""

import numpy as np
import pytest
import torch

from sourceprior.errors import UserError
from sourceprior.metrics import (
    best_permutation,
    bootstrap_interval,
    oracle_blocks,
    pesq_wideband,
    residual_db,
    si_sdr,
    si_sdr_improvement,
)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("zero_mean", [False, True])
def test_si_sdr_agrees_with_torchmetrics(zero_mean):
    functional = pytest.importorskip("torchmetrics.functional.audio")
    target = noise(5, 16000) + 0.1
    estimate = target * 0.3 + noise(5, 16000, seed=1) * np.array([0.01, 0.1, 0.5, 2, 20])[:, None] - 0.05
    theirs = functional.scale_invariant_signal_distortion_ratio(
        torch.from_numpy(estimate), torch.from_numpy(target), zero_mean=zero_mean
    )
    np.testing.assert_allclose(si_sdr(estimate, target, zero_mean), theirs.numpy(), atol=1e-4)


def test_best_permutation_agrees_with_torchmetrics():
    functional = pytest.importorskip("torchmetrics.functional.audio")
    sources = noise(3, 4000)
    stems = sources[[2, 0, 1]] + 0.5 * noise(3, 4000, seed=1)
    best, order = functional.permutation_invariant_training(
        torch.from_numpy(stems)[None],
        torch.from_numpy(sources)[None],
        functional.scale_invariant_signal_distortion_ratio,
        eval_func="max",
    )
    ours = best_permutation(stems, sources)
    assert list(ours) == order[0].tolist() == [1, 2, 0]
    assert si_sdr(stems[list(ours)], sources).mean() == pytest.approx(float(best), abs=1e-4)


def test_known_ratios():
    target = np.array([1.0, 0, 0, 0])
    assert si_sdr(np.array([5.0, 0.5, 0, 0]), target) == pytest.approx(20)
    assert si_sdr(np.array([-5.0, 0.5, 0, 0]), target) == pytest.approx(20)
    assert si_sdr(2 * target, target) == np.inf
    assert si_sdr(0 * target, target) == -np.inf
    assert si_sdr(np.array([0.0, 1, 0, 0]), target) == -np.inf
    assert np.isnan(si_sdr(target, 0 * target))


def test_improvement_is_the_difference_to_the_mixture():
    a, b = noise(2, 16000)
    assert si_sdr(a + b, a) == pytest.approx(0, abs=0.2)
    assert si_sdr_improvement(a + 0.1 * b, a, a + b) == pytest.approx(20, abs=0.1)


def test_permutation_stays_within_a_label():
    sources = noise(3, 1000)
    stems = sources[[1, 2, 0]] + 0.1 * noise(3, 1000, seed=2)
    assert best_permutation(stems, sources) == (2, 0, 1)
    assert best_permutation(stems, sources, ["a", "b", "c"]) == (0, 1, 2)
    assert best_permutation(stems, sources, ["a", "a", "b"])[2] == 2


def test_permutation_with_perfect_and_silent_stems():
    sources = noise(2, 1000)
    assert best_permutation(np.stack([0 * sources[0], sources[0]]), sources) == (1, 0)


def test_bootstrap_interval_covers_the_mean_as_often_as_it_says():
    hits = 0
    for seed in range(200):
        low, high = bootstrap_interval(noise(50, seed=seed), draws=500)
        hits += low <= 0 <= high
    assert 0.88 <= hits / 200 <= 0.98
    assert bootstrap_interval(noise(50)) == bootstrap_interval(noise(50))
    low, high = bootstrap_interval(noise(400))
    assert high - low == pytest.approx(2 * 1.96 / 20, rel=0.15)


def test_what_stems_leave_of_the_mixture():
    sources = noise(2, 16000)
    mixture = sources.sum(0)
    assert residual_db(sources, mixture) < -250
    assert residual_db(0 * sources, mixture) == pytest.approx(0)
    assert residual_db(0.9 * sources, mixture) == pytest.approx(-20)


def test_an_oracle_mends_swaps_and_leaves_leakage():
    sources = noise(2, 16000)
    swapped = sources.copy()
    swapped[:, 4000:6000] = swapped[::-1, 4000:6000]
    mended, exchanged = oracle_blocks(swapped, sources, 2000)
    np.testing.assert_array_equal(mended, sources)
    assert exchanged == pytest.approx(2000 / 16000, abs=0.01)
    # Sources of different labels are not exchanged.
    assert (oracle_blocks(swapped, sources, 2000, ["a", "b"])[0] == swapped).all()
    leaking = sources + 0.3 * sources[::-1]
    mended, exchanged = oracle_blocks(leaking, sources, 2000)
    assert exchanged == 0
    np.testing.assert_array_equal(mended, leaking)
    # Stems that are alike are no swap, and the last block may be shorter.
    same = np.stack([sources.sum(0)] * 2)[:, :15001] / 2
    assert oracle_blocks(same, sources[:, :15001], 2000)[1] == 0


def test_pesq_is_that_of_the_package_and_says_what_it_needs():
    functional = pytest.importorskip("torchmetrics.functional.audio.pesq")
    from pathlib import Path

    import soundfile

    data = Path(__file__).parent / "data" / "speech" / "test" / "so1027"
    target = soundfile.read(data / "010270131.flac", dtype="float32")[0]
    estimate = target + 0.01 * noise(len(target)).astype(np.float32)
    theirs = functional.perceptual_evaluation_speech_quality(
        torch.from_numpy(estimate), torch.from_numpy(target), 16000, "wb"
    )
    ours = pesq_wideband(estimate, target, 16000)
    assert ours == pytest.approx(float(theirs), abs=1e-4)
    assert 1 < ours < pesq_wideband(target, target, 16000) == pytest.approx(4.64, abs=0.01)
    assert np.isnan(pesq_wideband(0 * target, 0 * target, 16000))
    with pytest.raises(UserError, match="16000 Hz"):
        pesq_wideband(target, target, 8000)
