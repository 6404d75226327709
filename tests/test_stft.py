"""The shared STFT: its scale, its exact inverse at any length."""

import pytest
import torch

from sourceprior.stft import BINS, HOP, istft, stft


@pytest.mark.parametrize("length", [1, 2, 100, 255, 256, 257, 511, 513, 1023, 1024, 1025, 5000, 16000])
def test_inverse_is_exact_at_any_length(length):
    x = torch.randn(2, 3, length, generator=torch.Generator().manual_seed(length), dtype=torch.float64)
    spectrum = stft(x)
    assert spectrum.shape == (2, 3, BINS, 1 + length // HOP)
    torch.testing.assert_close(istft(spectrum, length), x, rtol=0, atol=1e-12)


def test_single_precision_inverse():
    x = torch.randn(16001, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(istft(stft(x), 16001), x, rtol=0, atol=2e-6)


def test_white_noise_has_unit_power_in_every_bin():
    x = torch.randn(64, 16384, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    power = stft(x).abs().square()[..., 4:-4].mean(dim=(0, -1))
    assert (power - 1).abs().max() < 0.1
    assert power.mean() == pytest.approx(1, abs=0.01)


def test_linear_and_independent_of_leading_shape():
    x = torch.randn(2, 700, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    torch.testing.assert_close(stft(x[0] - 2 * x[1]), stft(x)[0] - 2 * stft(x)[1])
    torch.testing.assert_close(stft(x[1]), stft(x)[1])
