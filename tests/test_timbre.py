"""Voices that sound alike: found among speakers, learned as labels of their own."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sourceprior.datasets import SPEECH, ClipBank, read_manifest
from sourceprior.examples import ExampleMaker
from sourceprior.runs import known_as, labels_of
from sourceprior.timbre import Timbre, describe_voice

DATA = Path(__file__).parent / "data"
RATE = 16000


def buzz(pitch: float, seconds: float = 2.0, vibrato: float = 0.03) -> np.ndarray:
    """A periodic sound with 30 harmonics that fall by 6 dB per octave, its pitch wandering."""
    time = np.arange(round(seconds * RATE)) / RATE
    phase = 2 * np.pi * pitch * (time + vibrato / (2 * np.pi * 3) * np.sin(2 * np.pi * 3 * time))
    return np.asarray(sum(np.sin(k * phase) / k for k in range(1, 31) if k * pitch < RATE / 2) * 3000)


@pytest.mark.parametrize("pitch", [80.0, 120.0, 200.0, 330.0])
def test_pitch_is_that_of_a_voice(pitch: float) -> None:
    assert 100 * 2 ** describe_voice(buzz(pitch), RATE)[0] == pytest.approx(pitch, rel=0.03)


def test_level_does_not_matter_and_silence_and_noise_have_a_description() -> None:
    wave = buzz(150)
    np.testing.assert_allclose(describe_voice(wave, RATE), describe_voice(wave / 20, RATE), atol=1e-3)
    for odd in (np.zeros(100), np.zeros(RATE), np.random.default_rng(0).normal(size=RATE) * 1000):
        assert np.isfinite(describe_voice(odd, RATE)).all()


@pytest.fixture
def bank() -> ClipBank:
    """Eight made-up speakers, four low and four high, and a "Bark" that is higher than all of them."""
    clip = next(clip for clip in read_manifest(DATA, "train") if clip.label == SPEECH)
    pitch = {f"low{i}": 85 + 4 * i for i in range(4)} | {f"high{i}": 260 + 9 * i for i in range(4)} | {"bark": 900}
    made = [replace(clip, path=Path(name), speaker=name, label="Bark" if name == "bark" else SPEECH) for name in pitch]

    def read(path: Path, rate: int) -> np.ndarray:
        return buzz(pitch[path.name]).astype(np.int16)

    return ClipBank(made, [SPEECH, "Bark"], read=read)


def test_low_and_high_voices_are_two_groups(bank: ClipBank) -> None:
    timbre = Timbre.fit(bank, 2)
    timbre.assign(bank)
    assert timbre.labels == bank.voices == ("voice_1", "voice_2")
    assert bank.voice.tolist() == [0] * 4 + [1] * 4 + [-1]
    assert bank.weights(["voice_2"]).tolist() == [0] * 4 + [0.25] * 4 + [0]
    again = Timbre.fit(bank, 2)
    np.testing.assert_array_equal(again.centres, timbre.centres)


def test_a_group_denies_the_other_group(bank: ClipBank) -> None:
    Timbre.fit(bank, 2).assign(bank)
    labels = labels_of("speech", [SPEECH], bank.voices)
    assert labels == (SPEECH, "voice_1", "voice_2")
    maker = ExampleMaker(bank, labels, negatives="whole", voice_among_others=1.0, any_voice_share=0.3)
    examples = maker.draw(64, 0)
    assert set(examples.label.tolist()) == {0, 1, 2}

    def has(low: int, high: int) -> torch.Tensor:
        """Whether there is a fundamental in this range of bins of 15.6 Hz."""
        power = examples.signal.abs().square().mean(2)
        return power[:, low:high].sum(1) > 0.05 * power[:, :80].sum(1)

    is_low = has(4, 8)
    is_high = has(14, 23) & ~is_low
    for label, own, other in ((1, is_low, is_high), (2, is_high, is_low)):
        denied = examples.has_other & (examples.label == label)
        assert (other & denied).any()
        assert not (own & denied).any()


def test_a_group_starts_from_speech() -> None:
    assert known_as("voice_7", ["speech", "rain"]) == SPEECH
    assert known_as("voice_7", ["speech", "voice_7"]) == "voice_7"
