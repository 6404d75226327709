"""The consistency step: stems that add up to the mixture, better for it, and unchanged where they did before."""

import numpy as np
import torch

from sourceprior.consistency import consistent, fit
from sourceprior.metrics import si_sdr


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def bursts(seed=0):
    """Two sources that take turns, and noise of their own in estimates of them."""
    sources = noise(2, 16000, seed=seed)
    gate = (torch.arange(16000) // 2000 % 2).float()
    return sources * torch.stack((gate, 1 - gate))


def test_stems_add_up_and_come_nearer():
    sources = bursts()
    mixture = sources.sum(0)
    # A part of every source is lost, and the levels are wrong.
    stems = torch.tensor([[0.5], [2.0]]) * sources * (noise(2, 16000, seed=1) > -0.5)
    repaired = consistent(stems, mixture)
    torch.testing.assert_close(repaired.sum(0), mixture, rtol=0, atol=1e-4)
    before, after = (si_sdr(x.numpy(), sources.numpy()).mean() for x in (stems, repaired))
    assert after > before + 3


def test_stems_that_add_up_stay():
    sources = bursts()
    repaired = consistent(sources, sources.sum(0))
    torch.testing.assert_close(repaired, sources, rtol=0, atol=1e-4)


def test_gains_are_least_squares_and_share_what_is_alike():
    stems = noise(3, 5000)
    mixture = noise(5000, seed=1)
    gains = fit(stems, mixture).numpy()
    exact, *_ = np.linalg.lstsq(stems.numpy().T, mixture.numpy(), rcond=None)
    np.testing.assert_allclose(gains, exact, atol=1e-4)
    twice = fit(torch.stack([mixture, mixture, 0 * mixture]), mixture)
    torch.testing.assert_close(twice, torch.tensor([0.5, 0.5, 0.0]), atol=1e-5, rtol=0)


def test_silence():
    assert consistent(torch.zeros(2, 600), torch.zeros(600)).abs().max() == 0
    mixture = noise(600)
    torch.testing.assert_close(consistent(torch.zeros(2, 600), mixture), mixture.expand(2, -1) / 2, atol=1e-4, rtol=0)
