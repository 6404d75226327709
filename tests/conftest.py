"""Small priors whose separation is known: the conv U-Net untrained, which makes each class its own Wiener filter."""

from pathlib import Path

import numpy as np
import pytest
import torch

from sourceprior.denoisers import SpectralDenoiser
from sourceprior.networks.conv_unet import ConvUNet
from sourceprior.priors import SourcePrior

RATE = 16000
LEVEL = 0.1
BANDS = {"speech": (200, 1500), "anything": (50, 7900), "Bark": (2500, 4500), "rain": (5000, 7500)}
"""Hz in which the sources of each label have their energy."""


def tiny_prior(name: str, labels: tuple[str, ...], rate: int = RATE) -> SourcePrior:
    """A prior of band-limited noises at RMS `LEVEL`."""
    bins = torch.arange(513) * rate / 1024
    spectra = []
    for label in labels:
        low, high = BANDS[label]
        inside = (bins >= low) & (bins <= high)
        # White noise of unit variance has power 1 in each of the 512 bins.
        spectra.append(torch.where(inside, LEVEL**2 * 512 / inside.sum(), 1e-9))
    torch.manual_seed(0)
    network = ConvUNet(
        inputs=5, outputs=3, classes=len(labels), widths=(4, 4), depths=(1, 1), bottom=8, dilations=(1,), condition=8
    )
    config = {
        "denoiser": {"class": "denoisers.SpectralDenoiser"},
        "network": {"class": "conv_unet.ConvUNet", "options": network.config},
    }
    denoiser = SpectralDenoiser(network, torch.stack(spectra), LEVEL).eval()
    return SourcePrior(name, denoiser, labels, rate, LEVEL, "CC-BY-4.0", config, f"# {name}\n")


def band_noise(label: str, samples: int, rate: int = RATE, seed: int = 0, level: float = 0.05) -> np.ndarray:
    """Noise `(samples,)` in the band of a label, at that RMS."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).normal(size=samples))
    frequency = np.fft.rfftfreq(samples, 1 / rate)
    low, high = BANDS[label]
    noise = np.fft.irfft(np.where((frequency >= low) & (frequency <= high), spectrum, 0), samples)
    return noise * level / np.sqrt(np.mean(noise**2))


@pytest.fixture(scope="session")
def priors() -> list[SourcePrior]:
    """A speech prior and a sound prior."""
    return [tiny_prior("speech", ("speech",)), tiny_prior("sounds", ("anything", "Bark", "rain"))]


@pytest.fixture(scope="session")
def prior_folders(priors, tmp_path_factory) -> list[Path]:
    """The same priors on disk."""
    folders = []
    for prior in priors:
        folders.append(tmp_path_factory.mktemp("priors") / prior.name)
        prior.save_pretrained(folders[-1])
    return folders


@pytest.fixture
def mixture() -> dict[str, np.ndarray]:
    """Half a second of speech and bark noises: "mixture" and the two sources, `(8000,)` each at 16 kHz."""
    sources = {label: band_noise(label, 8000, seed=seed) for seed, label in enumerate(["speech", "Bark"])}
    return {"mixture": sum(sources.values()), **sources}
