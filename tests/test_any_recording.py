"""Whatever the recording's length, rate, channels and format: stems of the same form that add up to it."""

import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import RATE, band_noise
from sourceprior import UserError, audio, separate, writing
from sourceprior.audio import decibel, rms
from sourceprior.formats import BITS, EXTENSIONS, FLOATS, FileFormat, choose_format
from sourceprior.separation import separate_file

QUICK = {"steps": 2, "candidates": 1, "segment": 1.0}
FORMS = [("WAV", "PCM_16"), ("WAV", "PCM_24"), ("FLAC", "PCM_24"), ("WAV", "FLOAT"), ("CAF", "DOUBLE")]
RATES = [8000, 11025, 16000, 22050, 32000, 44100, 48000, 96000, 192000]


def recording(samples: int, rate: int, channels: int, seed: int) -> np.ndarray:
    """Noises in two bands, panned differently, peak 0.9, `(channels, samples)`."""
    generator = np.random.default_rng(seed)
    parts = [band_noise(label, max(samples, 64), rate, seed) for label in ("speech", "anything")]
    mixed = generator.uniform(-1, 1, (channels, 2)) @ np.stack(parts)[:, :samples]
    return 0.9 * mixed / max(np.abs(mixed).max(), 1e-9)


# The same draws every time, so that a failure is somebody's doing; EXPLORE=1 draws others. What must be tried every
# time is in WRITTEN.
@settings(max_examples=12, deadline=None, derandomize="EXPLORE" not in os.environ, database=None)
@given(
    seconds=st.sampled_from([0.0, 0.03, 0.3, 1.3]),
    extra=st.integers(1, 700),
    rate=st.sampled_from(RATES),
    channels=st.integers(1, 8),
    form=st.sampled_from(FORMS),
    seed=st.integers(0, 100),
)
def test_stems_have_the_form_of_the_recording_and_add_up_to_it(priors, seconds, extra, rate, channels, form, seed):
    samples = recording(round(seconds * rate) + extra, rate, channels, seed)
    with TemporaryDirectory() as folder:
        path = Path(folder, "mix")
        sf.write(path, samples.T, rate, format=form[0], subtype=form[1])
        mixture = sf.read(path, always_2d=True)[0]

        def stems(name: str, **options: int) -> list[np.ndarray]:
            result = separate(path, None, ["speech", "anything"], prior=priors, seed=seed, **QUICK, **options)
            place = result.save(Path(folder, name), picture=False)
            files = [place / file for file in json.loads((place / "report.json").read_text())["files"]]
            assert {(sf.info(file).format, sf.info(file).subtype) for file in files} == {form}
            assert {sf.info(file).samplerate for file in files} == {rate}
            return [sf.read(file, always_2d=True)[0] for file in files]

        first = stems("a", batch=1)
        again = stems("b", batch=1)
        batched = stems("c", batch=3)
    for stem, same, other in zip(first, again, batched, strict=True):
        assert stem.shape == mixture.shape
        assert np.isfinite(stem).all()
        np.testing.assert_array_equal(stem, same)
        # One step of the sample type, where rounding may fall to either side.
        step = {"PCM_16": 2**-15, "PCM_24": 2**-23}.get(form[1], 0)
        assert np.abs(stem - other).max() <= step or decibel(rms(stem - other)) < decibel(rms(mixture)) - 90
    assert decibel(rms(sum(first) - mixture)) < decibel(rms(mixture)) - (90 if form[1] != "PCM_16" else 80)


# Windows of a second and blocks of four: whatever is done from one window or block to the next is done here.
@settings(max_examples=6, deadline=None, derandomize="EXPLORE" not in os.environ, database=None)
@given(
    seconds=st.floats(4.5, 13),
    rate=st.integers(8000, 24000),
    channels=st.integers(1, 2),
    pause=st.floats(0, 0.9),
    labels=st.sampled_from([["speech", "Bark"], ["speech", "anything"], ["Bark", "speech", "rain"], ["Bark", "Bark"]]),
    form=st.sampled_from([("WAV", "FLOAT"), ("FLAC", "PCM_24")]),
    seed=st.integers(0, 100),
)
def test_files_of_several_blocks_keep_their_form_and_add_up(priors, seconds, rate, channels, pause, labels, form, seed):
    samples = recording(round(seconds * rate), rate, channels, seed)
    # One of the two noises stops: the speech band goes on alone.
    alone = 0.5 * band_noise("speech", samples.shape[1], rate, seed + 1)
    place = slice(round(pause * samples.shape[1] / 2), round((pause / 2 + 0.5) * samples.shape[1]))
    samples[:, place] = alone[place]
    options = {"segment": 1.0, "block": 4.0, "preset": "fast", "steps": 2, "picture": False, "overwrite": False}
    with TemporaryDirectory() as folder:
        path = Path(folder, "mix")
        sf.write(path, 0.9 * samples.T / np.abs(samples).max(), rate, format=form[0], subtype=form[1])
        mixture = sf.read(path, always_2d=True)[0]

        def stems(name: str, batch: int) -> list[np.ndarray]:
            report = separate_file(path, Path(folder, name), labels, prior=priors, seed=seed, batch=batch, **options)
            return [sf.read(Path(folder, name, file), always_2d=True)[0] for file in report["files"]]

        first, again, batched = stems("a", 1), stems("b", 1), stems("c", 3)
    for stem, same, other in zip(first, again, batched, strict=True):
        assert stem.shape == mixture.shape
        assert np.isfinite(stem).all()
        np.testing.assert_array_equal(stem, same)
        assert np.abs(stem - other).max() <= 2**-23 or decibel(rms(stem - other)) < decibel(rms(mixture)) - 90
    assert decibel(rms(sum(first) - mixture)) < decibel(rms(mixture)) - 90


WRITTEN = [
    ("WAV", "PCM_U8"),
    ("WAV", "PCM_16"),
    ("WAV", "PCM_24"),
    ("WAV", "PCM_32"),
    ("WAV", "FLOAT"),
    ("WAV", "DOUBLE"),
    ("WAVEX", "PCM_24"),
    ("RF64", "PCM_16"),
    ("W64", "PCM_24"),
    ("FLAC", "PCM_S8"),
    ("FLAC", "PCM_24"),
    ("AIFF", "PCM_S8"),
    ("AIFF", "PCM_24"),
    ("AIFF", "FLOAT"),
    ("CAF", "PCM_32"),
    ("AU", "PCM_16"),
    ("AU", "DOUBLE"),
]
"""Every container and every sample type that stems are written in."""


def test_every_container_and_sample_type_is_among_those_tried():
    assert {container for container, _ in WRITTEN} == set(EXTENSIONS)
    assert {subtype for _, subtype in WRITTEN} == {*BITS, *FLOATS}
    assert len(WRITTEN) >= max(len(RATES), 8)


@pytest.mark.parametrize("number", range(len(WRITTEN)), ids=lambda number: "-".join(WRITTEN[number]))
def test_stems_of_every_form_rate_and_number_of_channels(tmp_path, priors, number):
    """Rates and channels take turns, so that each comes at least once; 20 ms of 192 kHz are as good as a second."""
    (container, subtype), rate, channels = WRITTEN[number], RATES[number % len(RATES)], 1 + number % 8
    exact = stored(recording(rate // 50 + number, rate, channels, number), subtype)
    put(tmp_path / "mix", exact, rate, container, subtype)
    result = separate(tmp_path / "mix", None, ["speech", "anything"], prior=priors, **QUICK)
    place = result.save(tmp_path / "out", picture=False)
    files = [place / file for file in json.loads((place / "report.json").read_text())["files"]]
    assert len(files) == 3
    for file in files:
        known = sf.info(file)
        assert (known.format, known.subtype) == (container, subtype)
        assert (known.samplerate, known.channels, known.frames) == (rate, *exact.shape)
    total = sum(sf.read(file, always_2d=True)[0].T for file in files)
    if subtype in BITS:
        # Sums of a few integers are exact in float64.
        np.testing.assert_array_equal(total, exact)
    else:
        assert decibel(rms(total - exact)) < decibel(rms(exact)) - 120


def stored(samples: np.ndarray, subtype: str) -> np.ndarray:
    """What a file of that sample type holds of samples: multiples of 2^-(bits - 1), or floats."""
    if subtype in ("FLOAT", "DOUBLE"):
        return samples.astype({"FLOAT": np.float32, "DOUBLE": np.float64}[subtype])
    steps = 2.0 ** (int(subtype.lstrip("PCMALUS_")) - 1)
    return np.rint(samples * steps) / steps


def put(path: Path, exact: np.ndarray, rate: int, container: str, subtype: str) -> None:
    """Write samples as `stored` gives them; as integers of 32 bits, of which libsndfile takes the upper ones."""
    data = exact if exact.dtype == np.float32 or subtype == "DOUBLE" else (exact * 2.0**31).astype(np.int32)
    sf.write(path, data.T, rate, format=container, subtype=subtype)


LOSSLESS = [*WRITTEN, ("FLAC", "PCM_16"), ("CAF", "PCM_16"), ("CAF", "ALAC_16"), ("CAF", "ALAC_24")]


@pytest.mark.parametrize(("container", "subtype"), LOSSLESS, ids="-".join)
def test_lossless_formats_are_read_to_the_last_bit(tmp_path, container, subtype):
    exact = stored(recording(5000, 44100, 3, 1), subtype)
    put(tmp_path / "mix", exact, 44100, container, subtype)
    got = audio.read(tmp_path / "mix")
    assert got.warnings == ()
    assert got.samples.dtype == (np.float64 if subtype in ("PCM_32", "DOUBLE") else np.float32)
    np.testing.assert_array_equal(got.samples, exact)


READABLE = [
    ("WAV", "PCM_U8"),
    ("WAV", "PCM_16"),
    ("WAV", "PCM_24"),
    ("WAV", "PCM_32"),
    ("WAV", "DOUBLE"),
    ("WAV", "ULAW"),
    ("RF64", "PCM_24"),
    ("W64", "FLOAT"),
    ("FLAC", "PCM_16"),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
    ("MP3", "MPEG_LAYER_III"),
    ("AIFF", "PCM_24"),
    ("CAF", "PCM_16"),
    ("CAF", "ALAC_16"),
    ("CAF", "ALAC_24"),
    ("NIST", "PCM_24"),
    ("AU", "PCM_16"),
]


@pytest.mark.parametrize(("container", "subtype"), READABLE)
def test_every_format_is_read_without_a_complaint(tmp_path, container, subtype):
    samples = recording(24000, 48000, 2, 0).astype(np.float32)
    sf.write(tmp_path / "mix", samples.T, 48000, format=container, subtype=subtype)
    got = audio.read(tmp_path / "mix")
    assert got.warnings == ()
    assert got.samples.shape[0] == 2
    assert abs(got.samples.shape[1] - 24000) <= 2400
    assert abs(decibel(rms(got.samples)) - decibel(rms(samples))) < 1.5
    lossless = subtype not in ("ULAW", "VORBIS", "OPUS", "MPEG_LAYER_III")
    kept = FileFormat("WAV" if container == "NIST" else container, subtype.replace("ALAC", "PCM"))
    assert got.format == (kept if lossless else FileFormat("WAV", "FLOAT"))
    assert audio.format_of(tmp_path / "mix") == got.format


@pytest.mark.parametrize("form", [("MP3", "MPEG_LAYER_III"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("FLAC", "PCM_16")])
def test_read_piece_by_piece_a_file_is_what_it_is_in_one_go(tmp_path, form):
    """A tone that comes and goes, whose MP3 frames borrow bits from one another: a decoder that seeks has none left."""
    time = np.arange(3 * 48000) / 48000
    sf.write(
        tmp_path / "mix", np.sin(880 * np.pi * time) * (time % 1 > 0.5) / 2, 48000, format=form[0], subtype=form[1]
    )
    np.testing.assert_allclose(audio.read(tmp_path / "mix").samples[0], sf.read(tmp_path / "mix")[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("own", "container", "subtype", "chosen"),
    [
        (("WAV", "PCM_16"), None, None, ("WAV", "PCM_16")),
        (("WAV", "PCM_16"), "flac", None, ("FLAC", "PCM_16")),
        (("WAV", "FLOAT"), "FLAC", None, ("FLAC", "PCM_24")),
        (("FLAC", "PCM_16"), None, "pcm-24", ("FLAC", "PCM_24")),
        (("FLAC", "PCM_16"), "wav", "float", ("WAV", "FLOAT")),
        (("WAV", "PCM_24"), "aif", None, ("AIFF", "PCM_24")),
        (("WAV", "PCM_24"), "rf64", None, ("RF64", "PCM_24")),
    ],
)
def test_another_format(own, container, subtype, chosen):
    assert choose_format(FileFormat(*own), container, subtype) == FileFormat(*chosen)


def test_formats_that_would_lose_something_are_refused():
    for container, subtype, says in [
        ("mp3", None, "no format"),
        ("wav", "ulaw", "no sample type"),
        ("flac", "x", "pcm_24"),
    ]:
        with pytest.raises(UserError, match=says):
            choose_format(FileFormat(), container, subtype)


def test_a_wav_file_that_would_be_too_long_becomes_rf64(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "_WAV_LIMIT", 1000)
    writing.write(tmp_path / "a.wav", recording(1000, RATE, 1, 0), RATE, FileFormat("WAV", "PCM_16"))
    assert sf.info(tmp_path / "a.wav").format == "RF64"


def test_a_file_shorter_than_what_was_written_is_an_error(tmp_path, monkeypatch):
    whole = sf.SoundFile.write
    monkeypatch.setattr(writing.sf.SoundFile, "write", lambda file, data: whole(file, data[:10]))
    with pytest.raises(UserError, match="No space left"):
        writing.write(tmp_path / "a.wav", recording(1000, RATE, 1, 0), RATE, FileFormat())
    assert not list(tmp_path.iterdir())
