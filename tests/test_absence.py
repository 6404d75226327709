"""The stem of a source that is absent for some seconds is silent there; one that is there keeps what it has."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

from conftest import LEVEL, RATE
from sourceprior import separate
from sourceprior.absence import LASTING, SILENT, lasting, rivals_of, silence_absent
from sourceprior.audio import decibel, rms
from sourceprior.local_level import GRID
from sourceprior.mixture import Mixture
from sourceprior.priors import Source

BOTH = ~np.eye(2, dtype=bool)
"""Each is the other's rival."""
DEMO = Path(__file__).parent.parent / "examples" / "demo"


def sources(second: float, seconds: int = 16) -> torch.Tensor:
    """White noise at the priors' level, and another so many times as loud that stops half-way, `(2, N)`."""
    noise = LEVEL * torch.randn(2, seconds * RATE, generator=torch.Generator().manual_seed(0))
    noise[1] *= second
    noise[1, seconds * RATE // 2 :] = 0
    return noise


def coloured(seconds: int) -> torch.Tensor:
    """Low and high noise at the priors' level, `(2, N)`."""
    spectrum = torch.fft.rfft(torch.randn(2, seconds * RATE, generator=torch.Generator().manual_seed(1)))
    low = torch.arange(spectrum.shape[1]) < spectrum.shape[1] // 4
    waves = torch.fft.irfft(torch.stack([spectrum[0] * low, spectrum[1] * ~low]))
    return LEVEL * waves / waves.square().mean(1, keepdim=True).sqrt()


def leaky(true: torch.Tensor, leak: float) -> torch.Tensor:
    """Stems that hold a part of each other."""
    return (1 - leak) * true + leak * true.flip(0)


def knowing(true: torch.Tensor, noise_std: float = 0.0) -> Mixture:
    """A mixture whose denoiser finds every source as it is."""
    return Mixture(true.sum(0)[None], lambda x, sigma: true[None], 2, noise_std=noise_std)


def test_silent_where_it_is_absent_and_unchanged_where_it_is_there():
    true = sources(1.0)
    stems = leaky(true, 0.1)
    found = silence_absent(stems, knowing(true), LEVEL, RATE, BOTH)
    torch.testing.assert_close(found.sum(0), stems.sum(0), rtol=0, atol=1e-5)
    absent, there = slice(11 * RATE, 16 * RATE), slice(0, 5 * RATE)
    assert rms(found[1, absent].numpy()) < 1.1 * SILENT * rms(stems[1, absent].numpy())
    torch.testing.assert_close(found[:, there], stems[:, there], rtol=0, atol=1e-5)
    # Fades, no steps: the gain falls over a quarter of a second or more.
    gain = (found[1] / stems[1]).clamp(0, 2)
    assert gain.unfold(0, 200, 200).median(1).values.diff().abs().max() < 0.06


def test_a_source_that_is_quiet_but_there_is_kept():
    true = sources(0.3)[:, : 8 * RATE]
    stems = leaky(true, 0.01)
    assert torch.equal(silence_absent(stems, knowing(true), LEVEL, RATE, BOTH), stems)


def judged(y: torch.Tensor, level: float, *answers: tuple[float, float]) -> float:
    """What is left of a stem `level * y` where the looks answer with so much of y, the last one again and again."""
    left = list(answers)

    def look(_: torch.Tensor, sigma: float) -> torch.Tensor:
        own, other = left.pop(0) if len(left) > 1 else left[0]
        return torch.stack([other * y, own * y])[None]

    stems = torch.stack([(1 - level) * y, level * y])
    return rms(silence_absent(stems, Mixture(y[None], look, 2), LEVEL, RATE, BOTH)[1].numpy()) / rms(stems[1].numpy())


def test_the_same_looks_silence_a_faint_stem_and_keep_a_louder_one():
    # U is -13 dB: neither clearly there nor clearly absent; the other one would take the stem by 3 dB more.
    y = sources(1.0)[0]
    assert judged(y, 0.1, (0.45, 0.9)) == pytest.approx(SILENT, rel=0.2)
    assert judged(y, 0.45, (0.45, 0.9)) == pytest.approx(1, abs=0.01)


def test_a_stem_that_another_source_would_take_is_silenced():
    y = sources(1.0)[0]
    look = (0.316, 0.9)
    assert judged(y, 0.25, look, (0.25, 0.0), (0.0, 0.01)) == pytest.approx(1, abs=0.01)
    assert judged(y, 0.25, look, (0.05, 0.0), (0.0, 0.25)) == pytest.approx(SILENT, rel=0.2)


def test_a_stem_that_sounds_like_the_other_source_elsewhere_is_silenced():
    # The looks say the same of all of it; only what the second source sounds like while it is there tells the halves.
    low, high = coloured(16)
    high[8 * RATE :] = 0
    true = torch.stack([low, high])
    for alike, expected in ((0.0, SILENT), (1.0, 1.0)):
        heard = true.clone()
        heard[1, 8 * RATE :] = alike * coloured(16)[1][8 * RATE :]
        y = heard.sum(0)
        stems = 0.1 * y + 0.8 * heard
        stems[1, 8 * RATE :] = 0.1 * y[8 * RATE :] + 0.2 * heard[1, 8 * RATE :]
        stems[0] = y - stems[1]
        problem = Mixture(y[None], lambda x, sigma, y=y: torch.stack([0.5 * y, 0.6 * y])[None], 2)
        found = silence_absent(stems, problem, LEVEL, RATE, BOTH)
        gone = slice(11 * RATE, 16 * RATE)
        assert rms(found[1, gone].numpy()) / rms(stems[1, gone].numpy()) == pytest.approx(expected, rel=0.2)


def test_a_source_is_not_absent_for_a_moment():
    longest = round(LASTING / GRID)
    for gap in (1, longest, longest + 1, 40):
        there = np.ones((1, 100))
        there[:, 30 : 30 + gap] = 0.2
        filled = np.ones_like(there) if gap <= longest else there
        np.testing.assert_array_equal(lasting(there), filled)
    # What lies beyond the end is not known.
    there = np.ones((2, 100))
    there[0, : longest // 2 + 1], there[1, 100 - longest // 2 :] = 0, 0
    np.testing.assert_array_equal(lasting(there)[0], there[0])
    assert lasting(there)[1].min() == 1
    assert lasting(np.zeros((1, 3))).max() == 0


def test_nobody_asks_about_a_loud_stem_or_a_single_one():
    def never(*_: object) -> torch.Tensor:
        raise AssertionError("asked")

    stems = sources(1.0)[:, : 8 * RATE]
    for few in (stems, stems[:1]):
        own = BOTH[: len(few), : len(few)]
        assert silence_absent(few, Mixture(few.sum(0)[None], never, len(few)), LEVEL, RATE, own) is few


def test_sources_that_are_alike_do_not_silence_each_other(priors):
    # Of two speakers and a dog each speaker's prior claims both of them, and would take the other's stem.
    speech, sounds = priors
    pair = [Source(speech, speech.index("speech"), name) for name in ("speech_1", "speech_2")]
    dog, rest = (Source(sounds, sounds.index(label), label) for label in ("Bark", "anything"))
    expected = [
        [False, False, True, False],
        [False, False, True, False],
        [True, True, False, False],
        [True] * 3 + [False],
    ]
    assert rivals_of([*pair, dog, rest]).tolist() == expected
    parted = replace(
        speech, labels=("speech", "voice_1", "voice_2"), config={"parts": {"speech": ["voice_1", "voice_2"]}}
    )
    three = [Source(parted, index, label) for index, label in enumerate(parted.labels)]
    assert rivals_of(three).astype(int).tolist() == [[0, 0, 0], [0, 0, 1], [0, 1, 0]]
    clips = {name: np.tile(sf.read(DEMO / f"{name}.flac", dtype="float32")[0], 2) for name in ("speech", "dog_bark")}
    stems = separate(sum(clips.values()), RATE, ["speech", "speech", "dog_bark"], preset="fast").stems
    both = sum(stem for name, stem in stems.items() if name != "dog_bark")
    assert decibel(rms(both)) > decibel(rms(clips["speech"])) - 3


def test_what_is_unexplained_takes_its_share():
    true = sources(1.0)
    stems = 0.8 * leaky(true, 0.1)
    found = silence_absent(stems, knowing(true, noise_std=0.01), LEVEL, RATE, BOTH)
    absent = slice(11 * RATE, 16 * RATE)
    left, right = (rms((true.sum(0) - signals.sum(0))[absent].numpy()) for signals in (found, stems))
    assert left > right


@pytest.mark.parametrize("absent", ["dog_bark", "speech"])
def test_real_clips_with_pauses(absent):
    """The bundled priors: one of two sources is there for the first five seconds only."""
    clips = {name: np.tile(sf.read(DEMO / f"{name}.flac", dtype="float32")[0], 3) for name in ("speech", "dog_bark")}
    clips[absent][5 * RATE :] = 0
    mixture = sum(clips.values())
    stem = separate(mixture, RATE, list(clips), preset="fast").stems[absent]
    there, gone = slice(0, 5 * RATE), slice(8 * RATE, 14 * RATE)
    # Without the rule 13 dB (dog_bark) and 17 dB (speech) below.
    assert decibel(rms(stem[gone])) < decibel(rms(mixture[gone])) - 40
    assert decibel(rms(stem[there])) > decibel(rms(clips[absent][there])) - 3
