"""The spectral denoiser: untrained it is the Wiener filter of its class."""

import torch

from sourceprior.denoisers import SpectralDenoiser
from sourceprior.networks.conv_unet import ConvUNet
from sourceprior.stft import istft, stft


def denoiser(**options) -> SpectralDenoiser:
    torch.manual_seed(0)
    network = ConvUNet(5, 3, classes=2, widths=(8, 8), depths=(1, 1), bottom=8, dilations=(1,), condition=8)
    spectra = torch.stack((torch.linspace(1, 1e-3, 513), torch.full((513,), 0.02))) * 0.01
    return SpectralDenoiser(network, spectra, level=0.07).eval()


def test_untrained_is_the_wiener_filter() -> None:
    d, x = denoiser(), 0.1 * torch.randn(2, 9000)
    sigma, label = torch.tensor([0.05, 0.5]), torch.tensor([0, 1])
    power = d.spectrum(label)
    gain = power / (power + sigma[:, None] ** 2)
    torch.testing.assert_close(d(x, sigma, label), istft(gain[:, :, None] * stft(x), 9000), rtol=1e-4, atol=1e-6)


def test_no_noise_changes_nothing_and_much_noise_leaves_nothing() -> None:
    d, x = denoiser(), 0.1 * torch.randn(1, 5000)
    label = torch.tensor([0])
    # Bins that the class has no energy in are still noise to it.
    quiet = d(x, torch.tensor([1e-6]), label)
    torch.testing.assert_close(quiet, x, rtol=1e-3, atol=1e-4)
    assert d(x, torch.tensor([100.0]), label).abs().max() < 1e-3


def test_gain_stays_between_nothing_and_everything_whatever_the_network_says() -> None:
    d = denoiser()
    torch.nn.init.normal_(d.network.out.weight, std=10.0)
    noisy = torch.randn(2, 2, 513, 6)
    _, gain = d.denoise_bins(noisy, torch.tensor([0.1, 0.1]), torch.tensor([0, 1]))
    assert gain.min() >= 0
    assert gain.max() <= 1


def test_any_length() -> None:
    d = denoiser()
    for samples in (1, 100, 1023, 4001):
        assert d(torch.randn(1, samples), torch.tensor([0.1]), torch.tensor([1])).shape == (1, samples)
