"""Files, arrays and levels: what goes in comes out, and what cannot be used is refused in one sentence."""

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from sourceprior import audio, writing
from sourceprior.errors import UnknownLabel, UserError, nearest
from sourceprior.formats import BITS, FileFormat
from sourceprior.survey import check_recording, survey

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
    form = FileFormat(container, subtype)
    samples = noise(channels, 300, peak=1.2)
    path = tmp_path / f"a.{form.extension}"
    kept = writing.write(path, samples, RATE, form)
    back = audio.read(path)
    assert form.extension == extension
    assert back.format == form
    assert back.sample_rate == RATE
    np.testing.assert_array_equal(back.samples, kept)
    inside = np.abs(samples) < 0.98
    step = 0 if form.is_float else 2.0 ** -(BITS[subtype] - 1)
    assert np.abs(kept - samples)[inside].max() <= step / 2 + 1e-7
    assert (np.abs(kept).max() > 1) == form.is_float
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize(("container", "subtype"), [("WAV", "FLOAT"), ("WAV", "DOUBLE"), ("AIFF", "FLOAT")])
def test_a_file_of_floats_does_not_tell_when_it_was_written(tmp_path, container, subtype):
    # libsndfile's chunk of the peak, which holds the second: the same stems would be other files a second later.
    writing.write(tmp_path / "one", noise(1, 100), RATE, FileFormat(container, subtype))
    assert b"PEAK" not in (tmp_path / "one").read_bytes()
    assert len(sf.read(tmp_path / "one")[0]) == 100


def test_a_lossy_file_gives_float_wav(tmp_path):
    path = tmp_path / "a.ogg"
    sf.write(path, noise(4000), RATE, format="OGG", subtype="VORBIS")
    recording = audio.read(path)
    assert recording.samples.shape == (1, 4000)
    assert recording.format == FileFormat("WAV", "FLOAT")


@pytest.mark.parametrize("subtype", ["PCM_S8", "PCM_U8"])
@pytest.mark.parametrize("shape", [(1, 301), (3, 101), (2, 300)])
def test_eight_bit_aiff_has_no_sample_more_than_was_written(tmp_path, shape, subtype):
    kept = writing.write(tmp_path / "a.aiff", noise(*shape), RATE, FileFormat("AIFF", subtype))
    np.testing.assert_array_equal(audio.read(tmp_path / "a.aiff").samples, kept)


@pytest.mark.parametrize("rate", [65536, 88201, 191999])
def test_flac_refuses_what_it_cannot_hold_before_anything_is_written(tmp_path, rate):
    form = FileFormat("FLAC", "PCM_16")
    with pytest.raises(UserError, match="only if they are multiples of 10 Hz"):
        writing.in_pieces(tmp_path / "a.flac", (1, 10), rate, form).__enter__()
    assert not os.listdir(tmp_path)
    for holds in (rate - rate % 10, 65535, 44101):
        writing.write(tmp_path / "a.flac", noise(1, 10), holds, form)
        assert audio.stream(tmp_path / "a.flac").sample_rate == holds


def unfinished(path: Path, samples: np.ndarray, subtype: str, riff: int) -> None:
    """A WAV file as it lies on the disk before its writer comes back to fill in the lengths."""
    sf.write(path, samples.T, RATE, subtype=subtype, format="WAV")
    content = bytearray(path.read_bytes())
    place = content.find(b"data") + 4
    content[place : place + 4], content[4:8] = bytes(4), riff.to_bytes(4, "little")
    path.write_bytes(content)


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
@pytest.mark.parametrize("riff", [0, 36, 2**32 - 1])
@pytest.mark.parametrize("silent", [0, 200])
def test_an_unfinished_header_hides_no_samples(tmp_path, subtype, riff, silent):
    samples = noise(2, 5000)
    samples[:, :silent] = 0
    unfinished(tmp_path / "a.wav", samples, subtype, riff)
    recording = audio.read(tmp_path / "a.wav")
    step = 2.0**-15
    np.testing.assert_allclose(recording.samples, samples, atol=step)
    assert recording.format == FileFormat("WAV", subtype)
    (warning,) = recording.warnings
    assert "wrong header; 0.31 s of it could be read" in warning


def unfinished_long(path: Path, samples: np.ndarray, more: bytes = b"") -> None:
    """The same of an RF64 file, whose lengths stand in a chunk of their own."""
    sf.write(path, samples.T, RATE, subtype="PCM_16", format="RF64")
    content = bytearray(path.read_bytes())
    place = content.find(b"ds64") + 8
    content[place : place + 24] = bytes(24)
    path.write_bytes(content + more)


def test_an_unfinished_header_of_a_long_recording_hides_no_samples(tmp_path):
    samples = noise(2, 5000)
    unfinished_long(tmp_path / "a.wav", samples)
    recording = audio.read(tmp_path / "a.wav")
    np.testing.assert_allclose(recording.samples, samples, atol=2.0**-15)
    assert recording.format == FileFormat("RF64", "PCM_16")
    assert "wrong header; 0.31 s of it could be read" in recording.warnings[0]
    for more in (b"", b"LIST\4\0\0\0INFO"):
        unfinished_long(tmp_path / "a.wav", samples[:, :0], more)
        assert audio.read(tmp_path / "a.wav").samples.shape == (2, 0)


def test_a_recording_of_nothing_is_empty_whatever_chunks_follow(tmp_path):
    path = tmp_path / "a.wav"
    unfinished(path, noise(1, 0), "PCM_16", 36)
    for more in (b"", b"LIST\4\0\0\0INFO", b"LIST\5\0\0\0INFO\0"):
        path.write_bytes(path.read_bytes() + more)
        assert audio.read(path).samples.shape == (1, 0)


def test_what_is_read_whole_has_no_wrong_header(tmp_path):
    samples = noise(1, 20_000)
    for name, form in (("a.wav", "WAV"), ("a.wavex", "WAVEX"), ("a.rf64", "RF64")):
        writing.write(tmp_path / name, samples, RATE, FileFormat(form, "PCM_16"))
        whole = (tmp_path / name).read_bytes()
        for tag in (b"ID3\3\0\0\0\0\0\x0a" + bytes(10), b"ID3\4\0\0\0\0\0\x0a" + b"TIT2" * 5):
            (tmp_path / name).write_bytes(whole + tag)
            assert audio.read(tmp_path / name).samples.shape == samples.shape
            assert audio.read(tmp_path / name).warnings == ()
    (tmp_path / "a.wav").write_bytes(whole_of(tmp_path / "b.wav", samples) + b"TAG" + bytes(125))
    assert audio.read(tmp_path / "a.wav").warnings == ()
    # Without the tag: more samples than the header tells of.
    (tmp_path / "a.wav").write_bytes(whole_of(tmp_path / "b.wav", samples) + bytes(range(128, 256)))
    assert len(audio.read(tmp_path / "a.wav").warnings) == 1


def whole_of(path: Path, samples: np.ndarray) -> bytes:
    writing.write(path, samples, RATE, FileFormat("WAV", "PCM_16"))
    return path.read_bytes()


def test_flac_that_tells_no_length(tmp_path):
    path = tmp_path / "a.flac"
    kept = writing.write(path, noise(1, 20_000), RATE, FileFormat("FLAC", "PCM_16"))
    content = bytearray(path.read_bytes())
    # The last 36 bits of what STREAMINFO says of the samples.
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    path.write_bytes(content)
    np.testing.assert_array_equal(audio.read(path).samples, kept)
    assert audio.read(path).warnings == ()
    path.write_bytes(content[: len(content) * 2 // 3])
    (warning,) = audio.read(path).warnings
    assert "breaks off" in warning


def test_a_name_that_ends_in_raw_is_no_traceback(tmp_path):
    (tmp_path / "a.raw").write_bytes(bytes(1000))
    with pytest.raises(UserError, match="is not a sound file"):
        audio.read(tmp_path / "a.raw")


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def interrupted() -> None:
        with writing.replacing(path) as part:
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
        check_recording(survey(audio.Stream.of(samples, rate)), rate)


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
