"""Classifier-free guidance: labels exaggerated under every solver, and a clear word where there is no null label."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile as sf
import torch
from torch import nn

from conftest import LEVEL, RATE, tiny_prior
from sourceprior.commands.sample import sample
from sourceprior.conditioning import guided, null_of
from sourceprior.errors import UserError
from sourceprior.priors import Source, SourcePrior, joint
from sourceprior.sampling import settings_of, solve
from sourceprior.separation import separate


class Shrink(nn.Module):
    """Denoises to x times a gain per row: what a scale does to it can be told by hand."""

    def __init__(self, gains: list[float]) -> None:
        super().__init__()
        self.gains = torch.tensor(gains)

    def forward(self, x, sigma, label):
        return self.gains[label][:, None] * x

    def spectrum(self, label):
        return torch.full((len(label), 513), LEVEL**2)


def shrinking(labels, gains, config=None) -> SourcePrior:
    return SourcePrior("shrink", Shrink(gains), tuple(labels), RATE, LEVEL, "CC0-1.0", config or {})


def test_only_sources_with_a_wider_label_are_exaggerated():
    sounds = shrinking(["anything", "Bark", "rain"], [0.5, 0.8, 0.4])
    speech = shrinking(["speech"], [0.9])
    sources = [Source(speech, 0, "speech"), Source(sounds, 1, "Bark"), Source(sounds, 0, "anything")]
    x = torch.ones(2, 3, 4)
    for scale, bark in ((0.0, 0.5), (1.0, 0.8), (2.0, 1.1)):
        out = guided(joint(sources), sources, scale)(x, 0.1)
        torch.testing.assert_close(out[0, :, 0], torch.tensor([0.9, bark, 0.5]))


def test_the_null_label_is_the_wider_one_of_training():
    voices = shrinking(["speech", "male", "female"], [1, 1, 1], {"parts": {"speech": ["male", "female"]}})
    assert null_of(Source(voices, 2, "x")).index == 0
    assert null_of(Source(voices, 0, "x")) is None
    # In a prior of speech and sounds, "anything" denies speech.
    both = shrinking(["anything", "speech", "Bark"], [1, 1, 1])
    assert null_of(Source(both, 1, "x")) is None
    assert null_of(Source(both, 2, "x")).index == 0
    table = shrinking(["Bark", "rain"], [1, 1])
    with pytest.raises(UserError, match="no label that stands for any source"):
        null_of(Source(table, 0, "x"))
    table.denoiser.network = nn.Module()
    table.denoiser.network.null_label = 7
    assert null_of(Source(table, 0, "x")).index == 7


OPTIONS = {"dirac": {}, "posterior_mean": {}, "gradient": {"guidance": "dsg"}, "analytical": {}}


@pytest.mark.parametrize("solver", OPTIONS)
def test_every_solver_sees_the_exaggerated_denoiser(solver):
    # With a scale of 2, rows 0.5 and 0.6 are 0.7: the same run as with a prior whose own row is 0.7.
    y = 0.1 * torch.randn(800, generator=torch.Generator().manual_seed(0))
    outs = []
    for gain, scale in ((0.6, 2.0), (0.7, None), (0.6, None)):
        prior = shrinking(["anything", "Bark", "rain"], [0.5, gain, gain])
        sources = [Source(prior, 1, "Bark"), Source(prior, 2, "rain")]
        chosen = settings_of("sample", solver=solver, steps=6, options=OPTIONS[solver], label_scale=scale)
        outs.append(solve(y, sources, chosen)[0])
    torch.testing.assert_close(outs[0], outs[1], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(outs[0], outs[2], rtol=1e-2, atol=1e-3)


def test_a_scale_without_a_null_label_is_refused(mixture):
    both = [tiny_prior("speech", ("speech",)), tiny_prior("sounds", ("anything", "Bark"))]
    with pytest.raises(UserError, match="not speech, anything: leave it at 1"):
        separate(mixture["mixture"], RATE, ["speech", "anything"], prior=both, steps=2, label_scale=2)
    nameless = [replace(both[1], labels=("rain", "Bark"))]
    with pytest.raises(UserError, match="sounds has no label that stands for any"):
        separate(mixture["mixture"], RATE, ["rain", "bark"], prior=nameless, steps=2, label_scale=2)
    with pytest.raises(UserError, match="label_scale must lie between"):
        separate(mixture["mixture"], RATE, ["speech"], prior=both, label_scale=-1)


def test_sampling_follows_the_label_more_with_a_scale(prior_folders, tmp_path):
    shares = []
    for scale in (0.0, 1.0, 1.5):
        out = tmp_path / str(scale)
        sample("Bark", 1, out, 0.5, 20, 0, scale, [str(prior_folders[1])], "cpu", quiet=True)
        wave = sf.read(out / "Bark_1.wav")[0]
        power, frequency = np.abs(np.fft.rfft(wave)) ** 2, np.fft.rfftfreq(len(wave), 1 / RATE)
        shares.append(power[(frequency > 2500) & (frequency < 4500)].sum() / power.sum())
    # "anything" has a quarter of its power in the band of a bark.
    assert shares[0] < 0.4
    assert shares[1] > 0.95
    assert shares[2] >= shares[1] - 0.01
