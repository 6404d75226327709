"""Files, arrays and levels: what goes in comes out, and what cannot be used is refused in one sentence."""

import os

import numpy as np
import pytest
import soundfile as sf

from sourceprior import audio
from sourceprior.errors import UnknownLabel, UserError, nearest

RATE = 16000


def noise(*shape: int, peak: float = 0.5, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-peak, peak, shape)


@pytest.mark.parametrize(
    ("container", "subtype", "extension"),
    [
        ("WAV", "PCM_U8", "wav"),
        ("WAV", "PCM_16", "wav"),
        ("WAV", "PCM_24", "wav"),
        ("WAV", "PCM_32", "wav"),
        ("WAV", "FLOAT", "wav"),
        ("WAV", "DOUBLE", "wav"),
        ("FLAC", "PCM_S8", "flac"),
        ("FLAC", "PCM_16", "flac"),
        ("FLAC", "PCM_24", "flac"),
        ("AIFF", "PCM_16", "aiff"),
        ("CAF", "FLOAT", "caf"),
    ],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_what_is_written_is_what_write_says_it_kept(tmp_path, container, subtype, extension, channels):
    form = audio.FileFormat(container, subtype)
    samples = noise(channels, 300, peak=1.2)
    path = tmp_path / f"a.{form.extension}"
    kept = audio.write(path, samples, RATE, form)
    back = audio.read(path)
    assert form.extension == extension
    assert back.format == form
    assert back.sample_rate == RATE
    np.testing.assert_array_equal(back.samples, kept)
    inside = np.abs(samples) < 0.98
    step = 0 if form.is_float else 2.0 ** -(audio._BITS[subtype] - 1)
    assert np.abs(kept - samples)[inside].max() <= step / 2 + 1e-7
    assert (np.abs(kept).max() > 1) == form.is_float
    assert os.listdir(tmp_path) == [path.name]


def test_a_lossy_file_gives_float_wav(tmp_path):
    path = tmp_path / "a.ogg"
    sf.write(path, noise(4000), RATE, format="OGG", subtype="VORBIS")
    recording = audio.read(path)
    assert recording.samples.shape == (1, 4000)
    assert recording.format == audio.FileFormat("WAV", "FLOAT")


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def interrupted() -> None:
        with audio.replacing(path) as part:
            part.write_text("half")
            raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match="No space left"):
        interrupted()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_bad_files(tmp_path):
    (tmp_path / "text.wav").write_text("not a sound at all\n" * 20)
    (tmp_path / "empty.wav").touch()
    for name, words in [
        ("missing.wav", "no file"),
        (".", "folder"),
        ("text.wav", "not a sound file"),
        ("empty.wav", "is empty"),
    ]:
        with pytest.raises(UserError, match=words):
            audio.read(tmp_path / name)


@pytest.mark.parametrize(
    ("samples", "rate", "words"),
    [
        (np.zeros((1, 0)), RATE, "no samples"),
        (np.zeros((2, 100)), RATE, "silent"),
        (np.full((1, 100), np.nan), RATE, "not finite"),
        (np.full((1, 100), np.inf), RATE, "not finite"),
        (noise(9, 100), RATE, "At most 8 channels"),
        (noise(1, 100), 4000, "sample rate"),
        (noise(1, 100), 384000, "sample rate"),
    ],
)
def test_recordings_that_cannot_be_separated(samples, rate, words):
    with pytest.raises(UserError, match=words):
        audio.check(audio.survey(audio.Stream.of(samples, rate)), rate)


@pytest.mark.parametrize("shape", [(50,), (1, 50), (2, 50), (50, 2), (50, 1), (3, 3)])
def test_shapes_come_back(shape):
    samples = noise(*shape)
    inside, restore = audio.channels_first(samples)
    assert inside.shape[0] == (1 if len(shape) == 1 else min(shape))
    np.testing.assert_array_equal(restore(inside), samples)


def test_integers_and_odd_shapes_are_refused():
    with pytest.raises(UserError, match="int16"):
        audio.channels_first(np.zeros(10, np.int16))
    with pytest.raises(UserError, match="samples"):
        audio.channels_first(np.zeros((1, 2, 3)))


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 192000])
def test_resampling_there_and_back_keeps_a_tone(rate):
    time = np.arange(RATE // 2) / RATE
    tone = np.sin(2 * np.pi * 1000 * time)[None]
    back = audio.resample(audio.resample(tone, RATE, rate), rate, RATE, tone.shape[1])
    assert back.shape == tone.shape
    middle = slice(2000, -2000)
    assert np.abs(back - tone)[:, middle].max() < 1e-4


def test_nearest_names():
    assert nearest("barc", ["speech", "Bark"]) == ["Bark"]
    assert "did you mean Bark or bell?" in str(UnknownLabel("barl", ["Bark", "bell"]))
    assert "sourceprior labels" in str(UnknownLabel("qqq"))
