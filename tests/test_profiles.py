"""Stems are brought nearer to their sources' average spectra in the recording, and still sum to the same."""

import pytest
import torch

from conftest import LEVEL, RATE
from sourceprior import separate
from sourceprior.metrics import si_sdr
from sourceprior.profiles import LEAST, WINDOW, log_shares, nearer
from sourceprior.stft import HOP


def two(seconds: float = 3.0) -> torch.Tensor:
    """Low and high noise that swell in turns, `(2, N)`: each is a spectrum times a gain."""
    count = round(seconds * RATE)
    spectrum = torch.fft.rfft(torch.randn(2, count, generator=torch.Generator().manual_seed(0)))
    frequency = torch.arange(spectrum.shape[1]) / spectrum.shape[1]
    slopes = torch.stack([(1 + frequency * 20) ** -1.0, (1 + (1 - frequency) * 20) ** -1.0])
    swell = torch.sin(torch.arange(count) / RATE * 2 * torch.pi) * 0.45
    waves = torch.fft.irfft(spectrum * slopes, n=count) * torch.stack([0.5 + swell, 0.5 - swell])
    return LEVEL * waves / waves.square().mean(1, keepdim=True).sqrt()


def leaky(true: torch.Tensor) -> torch.Tensor:
    return 0.7 * true + 0.3 * true.flip(0)


def quality(stems: torch.Tensor, true: torch.Tensor) -> float:
    return float(si_sdr(stems.numpy(), true.numpy()).mean())


@pytest.mark.parametrize("seconds", [3.0, 11.0])
def test_what_leaks_goes_where_it_sounds_right(seconds: float) -> None:
    true = two(seconds)
    stems = leaky(true)
    once, twice = nearer(stems, 1), nearer(stems, 2)
    assert quality(stems, true) + 0.4 < quality(once, true) < quality(twice, true)
    torch.testing.assert_close(twice.sum(0), stems.sum(0), rtol=0, atol=1e-5)


def test_the_seconds_around_a_moment_count_as_the_whole_does() -> None:
    # Two sources that exchange their spectra half-way: on the whole they are alike, around each moment they are not.
    true = two(12.0)
    half = true.shape[1] // 2
    true = torch.cat([true[:, :half], true.flip(0)[:, half:]], 1)
    assert true.shape[1] / HOP > 2 * WINDOW
    assert quality(nearer(leaky(true)), true) > quality(leaky(true), true) + 0.2


def test_nothing_to_go_by_changes_nothing() -> None:
    true = two()
    alone, alike = true[:1], torch.stack([true[0], true[0]]) / 2
    assert torch.equal(nearer(alone, 2), alone)
    torch.testing.assert_close(nearer(alike, 2), alike, rtol=0, atol=1e-6)
    assert torch.equal(nearer(true, 0), true)
    silent = torch.zeros(3, RATE)
    assert torch.equal(nearer(silent, 2), silent)
    for few in (1, 100, 5000):
        assert nearer(true[:, :few], 2).isfinite().all()


def test_the_level_of_a_recording_says_nothing() -> None:
    stems = leaky(two())
    torch.testing.assert_close(nearer(stems * 0.01, 2) * 100, nearer(stems, 2), rtol=0, atol=1e-4)


def test_shares_are_those_of_the_fitted_gains() -> None:
    # Two lines of a spectrum that never sound together: each frame belongs to one source.
    power = torch.zeros(3, 513, 8)
    power[0, 10, :4], power[1, 200, 4:] = 1.0, 4.0
    power[2] = power[0] + power[1]
    shares = log_shares(power)
    assert shares[0, 10, 0] == pytest.approx(0, abs=1e-3)
    assert shares[1, 10, 0] == LEAST
    assert shares[1, 200, 6] == pytest.approx(0, abs=1e-3)


def test_presets_use_them_and_an_option_leaves_them_out() -> None:
    mixture = two(2.0).sum(0).numpy()
    with_them = separate(mixture, RATE, ["speech", "rain"], preset="fast")
    without = separate(mixture, RATE, ["speech", "rain"], preset="fast", options={"profiles": 0})
    difference = with_them.stems["speech"] - without.stems["speech"]
    assert abs(difference).max() > 1e-4
    for result in (with_them, without):
        assert abs(sum(result.stems.values()) + result.residual - mixture).max() < 1e-5
