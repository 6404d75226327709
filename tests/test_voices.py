"""Two sources of one label: told apart by the parts of it that the prior knows."""

from dataclasses import replace

import pytest
import torch

from conftest import BANDS, LEVEL, band_noise, tiny_prior
from sourceprior.mixture import Mixture
from sourceprior.priors import Source, joint
from sourceprior.sampling import Settings, solve
from sourceprior.voices import assignments, tell_apart


@pytest.fixture
def prior(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(BANDS, "low", (200, 900))
    monkeypatch.setitem(BANDS, "high", (1500, 3500))
    monkeypatch.setitem(BANDS, "top", (5000, 7000))
    monkeypatch.setitem(BANDS, "speech", (200, 7000))
    made = tiny_prior("speech", ("speech", "low", "high", "top"))
    return replace(made, config=made.config | {"parts": {"speech": ["low", "high", "top"]}})


def mixture_of(*labels: str) -> torch.Tensor:
    waves = [band_noise(label, 32000, seed=i, level=LEVEL) for i, label in enumerate(labels)]
    return torch.stack([torch.as_tensor(wave, dtype=torch.float32) for wave in waves])


def test_every_assignment_once(prior) -> None:
    two = [Source(prior, 0, "speech_1"), Source(prior, 0, "speech_2")]
    found = [tuple(source.index for source in trial) for trial in assignments(two)]
    assert found == [(0, 0), (1, 2), (1, 3), (2, 3)]
    assert [s.name for s in assignments(two)[1]] == ["speech_1", "speech_2"]


def test_sources_of_different_labels_or_without_parts_stay(prior) -> None:
    other = tiny_prior("sounds", ("anything", "Bark"))
    for sources in (
        [Source(prior, 0, "speech")],
        [Source(prior, 0, "speech"), Source(prior, 1, "low")],
        [Source(other, 1, "Bark_1"), Source(other, 1, "Bark_2")],
        [Source(prior, 0, f"speech_{k}") for k in range(4)],
    ):
        assert assignments(sources) == [sources]


def test_the_parts_that_are_there_are_found(prior) -> None:
    sources = [Source(prior, 0, "speech_1"), Source(prior, 0, "speech_2")]
    for pair, labels in (((1, 2), ("low", "high")), ((2, 3), ("high", "top"))):
        y = mixture_of(*labels).sum(0)[None]

        def problem(chosen, y=y):
            denoise = joint(chosen)
            return Mixture(y, denoise, len(chosen), denoise.spectra)

        assert tuple(s.index for s in tell_apart(sources, problem, LEVEL)) == pair


def test_told_apart_sources_are_separated(prior) -> None:
    truth = mixture_of("low", "top")
    sources = [Source(prior, 0, "speech_1"), Source(prior, 0, "speech_2")]
    stems, _ = solve(truth.sum(0), sources, Settings(steps=6, candidates=1))
    blind, _ = solve(truth.sum(0), sources, Settings(steps=6, candidates=1, tell_apart=False))

    def error(found: torch.Tensor) -> float:
        return min(float((found - truth).square().sum()), float((found.flip(0) - truth).square().sum()))

    assert error(stems) < 0.1 * error(blind)


def test_voices_that_sound_alike_keep_their_label(prior) -> None:
    y = torch.stack([mixture_of("low")[0], mixture_of("high", "low")[1]]).sum(0)[None]
    sources = [Source(prior, 0, "speech_1"), Source(prior, 0, "speech_2")]

    def problem(chosen):
        denoise = joint(chosen)
        return Mixture(y, denoise, len(chosen), denoise.spectra)

    assert tell_apart(sources, problem, LEVEL) == sources
