"""The pipeline on priors whose answer is known: whatever the recording's form, stems keep it and add up to it."""

import json
import os

import numpy as np
import pytest
import soundfile as sf
import torch

from conftest import RATE, band_noise, tiny_prior
from sourceprior import UserError, separate
from sourceprior.audio import decibel, rms
from sourceprior.formats import FileFormat
from sourceprior.metrics import si_sdr
from sourceprior.separation import Separation

QUICK = {"steps": 6, "candidates": 1}


def sum_error_db(result: Separation, mixture: np.ndarray) -> float:
    total = np.sum([*result.stems.values(), result.residual], axis=0, dtype=np.float64)
    return decibel(rms(total - mixture)) - decibel(rms(mixture))


def test_sources_are_found_at_their_level(mixture, priors):
    result = separate(mixture["mixture"], RATE, ["speech", "dog_bark"], prior=priors, **QUICK)
    assert list(result.stems) == ["speech", "dog_bark"]
    assert result.sample_rate == RATE
    for name, label in [("speech", "speech"), ("dog_bark", "Bark")]:
        assert si_sdr(result.stems[name], mixture[label]) > 20
        assert abs(decibel(rms(result.stems[name])) - decibel(rms(mixture[label]))) < 0.2
    # At the prior's own rate and in mono the solver's stems add up by themselves.
    assert decibel(rms(result.residual)) - decibel(rms(mixture["mixture"])) < -90


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 192000])
@pytest.mark.parametrize("form", ["mono", "channels first", "channels last", "one channel"])
def test_any_rate_and_shape(rate, form, priors):
    label = "speech"
    samples = rate // 4
    parts = [band_noise(label, samples, rate, seed) for seed in (0, 1)]
    mixture = {
        "mono": parts[0],
        "channels first": np.stack(parts),
        "channels last": np.stack(parts, 1),
        "one channel": parts[0][None],
    }[form].astype(np.float32)
    result = separate(mixture, rate, ["speech", "anything"], prior=priors, **QUICK)
    for array in [*result.stems.values(), result.residual]:
        assert array.shape == mixture.shape
        assert array.dtype == np.float32
        assert np.isfinite(array).all()
    assert result.sample_rate == rate
    assert sum_error_db(result, mixture) < -120
    assert decibel(rms(result.residual)) - decibel(rms(mixture)) < -90


def test_the_image_is_kept(priors):
    """Speech on the left, a bark on the right, a third of each on the other side, at 44.1 kHz."""
    rate, samples = 44100, 44100
    speech, bark = (band_noise(label, samples, rate, seed) for seed, label in enumerate(["speech", "Bark"]))
    left, right = speech + bark / 3, speech / 3 + bark
    stems = separate(np.stack([left, right]), rate, ["speech", "bark"], prior=priors, **QUICK).stems
    for stem, true in [(stems["speech"], [speech, speech / 3]), (stems["bark"], [bark / 3, bark])]:
        for channel in range(2):
            assert si_sdr(stem[channel], true[channel]) > 15
            assert abs(decibel(rms(stem[channel])) - decibel(rms(true[channel]))) < 0.5


def test_equal_channels_give_the_mono_result(mixture, priors):
    mono = separate(mixture["mixture"], RATE, ["speech", "bark"], prior=priors, **QUICK).stems
    both = separate(np.stack([mixture["mixture"]] * 2), RATE, ["speech", "bark"], prior=priors, **QUICK).stems
    for name, stem in mono.items():
        assert decibel(rms(both[name] - stem)) - decibel(rms(stem)) < -60


def test_channels_that_cancel_out(mixture, priors):
    samples = np.stack([mixture["mixture"], -mixture["mixture"]])
    stems = separate(samples, RATE, ["speech", "bark"], prior=priors, **QUICK).stems
    assert si_sdr(stems["speech"][0], mixture["speech"]) > 15
    assert si_sdr(stems["speech"][1], -mixture["speech"]) > 15


def test_the_band_above_goes_where_the_top_of_the_band_goes(priors):
    """Rain is all there is at the top of the prior's band, so what lies above is rain's."""
    rate, samples = 44100, 22050
    high = np.fft.irfft(
        np.where(np.fft.rfftfreq(samples, 1 / rate) > 9000, np.fft.rfft(band_noise("anything", samples)), 0), samples
    )
    rain, speech = band_noise("rain", samples, rate) + high, band_noise("speech", samples, rate, 1)
    stems = separate(rain + speech, rate, ["rain", "speech"], prior=priors, **QUICK).stems
    spectrum = {name: np.abs(np.fft.rfft(stem))[samples * 9000 // rate :] ** 2 for name, stem in stems.items()}
    assert spectrum["speech"].sum() < 0.01 * spectrum["rain"].sum()


def test_seeds(mixture, priors):
    def stem(**changes):
        settings = {**QUICK, "candidates": 2, "seed": 3} | changes
        return separate(mixture["mixture"], RATE, ["speech", "speech"], prior=priors, **settings).stems["speech_1"]

    first = stem()
    np.testing.assert_array_equal(first, stem())
    assert si_sdr(stem(seed=4), first) < 40


def test_windows_in_flight_do_not_matter(priors):
    samples = (band_noise("speech", 3 * RATE) + band_noise("Bark", 3 * RATE)).astype(np.float32)
    results = [
        separate(samples, RATE, ["speech", "bark"], prior=priors, segment=1.0, batch=batch, **QUICK).stems["speech"]
        for batch in (1, 4)
    ]
    whole = separate(samples, RATE, ["speech", "bark"], prior=priors, **QUICK).stems["speech"]
    assert decibel(rms(results[0] - results[1])) - decibel(rms(whole)) < -90
    assert decibel(rms(results[0] - whole)) - decibel(rms(whole)) < -25


def test_input_kinds_agree(mixture, priors, tmp_path):
    samples = mixture["mixture"].astype(np.float32)
    path = tmp_path / "mix.wav"
    sf.write(path, samples, RATE, subtype="FLOAT")
    array = separate(samples, RATE, "speech", prior=priors, **QUICK)
    for other in [
        separate(torch.from_numpy(samples), RATE, ["Speech"], prior=priors, **QUICK),
        separate(path, None, ["speech "], prior=priors, **QUICK),
        separate(str(path), RATE, ["s p-E_ech"], prior=priors, **QUICK),
    ]:
        np.testing.assert_array_equal(*(next(iter(result.stems.values())) for result in (array, other)))


def test_repeated_labels_are_numbered(mixture, priors):
    result = separate(mixture["mixture"], RATE, ["speech", "bark", "Speech"], prior=priors, **QUICK)
    assert list(result.stems) == ["speech_1", "bark", "speech_2"]


@pytest.mark.parametrize("samples", [1, 2, 100, 800])
def test_very_short_recordings(samples, priors):
    mixture = band_noise("speech", 8000)[-samples:]
    result = separate(mixture, 44100, ["speech", "bark"], prior=priors, **QUICK)
    assert result.stems["bark"].shape == (samples,)
    assert sum_error_db(result, mixture) < -120


def test_levels_come_and_go(mixture, priors):
    """Forty dB less in is forty dB less out, and nothing else."""
    loud = separate(mixture["mixture"], RATE, ["speech", "bark"], prior=priors, **QUICK).stems["speech"]
    soft = separate(mixture["mixture"] / 100, RATE, ["speech", "bark"], prior=priors, **QUICK).stems["speech"]
    assert decibel(rms(soft * 100 - loud)) - decibel(rms(loud)) < -60


def test_callback_counts_to_the_end(mixture, priors):
    calls = []
    separate(
        mixture["mixture"], RATE, ["speech"], prior=priors, callback=lambda done, total: calls.append((done, total)),
        steps=4,
    )  # fmt: skip
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labels": []}, "at least one source"),
        ({"labels": ["barc"]}, "did you mean Bark"),
        ({"labels": ["xylophone"]}, "No prior knows"),
        ({"sample_rate": None}, "sample rate"),
        ({"sample_rate": 100}, "sample rate"),
        ({"mixture": np.zeros(1000)}, "silent"),
        ({"mixture": "no-such.wav"}, "no file"),
        ({"mixture": np.zeros((2, 0))}, "no samples"),
        ({"mixture": np.append(np.ones(1000), 1e30)}, "times full scale"),
        ({"mixture": np.ones(1000, np.int16)}, "floating-point"),
        ({"preset": "defautl"}, "no preset"),
        ({"steps": 0}, "steps must lie"),
        ({"candidates": 1000}, "candidates must lie"),
        ({"segment": 0.0}, "segment must lie"),
        ({"solver": "magic"}, "no solver 'magic'"),
        ({"options": {"chrun": 0.1}}, "did you mean churn"),
        ({"options": {"churn": "much"}}, "does not fit"),
        ({"options": {"power": "none_such"}}, "'none_such' does not fit"),
        ({"device": "tpu"}, "no device"),
        ({"seed": -1}, "seed must not be negative"),
    ],
)
def test_mistakes_are_one_sentence(mixture, priors, changes, words):
    call = {"mixture": mixture["mixture"], "sample_rate": RATE, "labels": ["speech"]} | changes
    with pytest.raises(UserError, match=words) as caught:
        separate(call.pop("mixture"), call.pop("sample_rate"), call.pop("labels"), prior=priors, **call)
    assert "\n" not in str(caught.value)


def test_where_the_recording_is_still_its_stems_are(mixture, priors):
    gap = np.concatenate([mixture["mixture"], np.zeros(RATE, np.float32), mixture["mixture"]])
    result = separate(gap, RATE, ["speech", "dog_bark"], prior=priors, **QUICK)
    start, stop = len(mixture["mixture"]), len(mixture["mixture"]) + RATE
    for stem in result.stems.values():
        assert not stem[start:stop].any()
        assert decibel(rms(stem[:start])) > decibel(rms(gap)) - 20
    assert sum_error_db(result, gap) < -120


def test_priors_of_different_rates_are_refused(mixture):
    both = [tiny_prior("speech", ("speech",)), tiny_prior("sounds", ("Bark",), 22050)]
    with pytest.raises(UserError, match="sample rate"):
        separate(mixture["mixture"], RATE, ["speech", "Bark"], prior=both)


def test_solver_options_reach_the_solver(mixture, priors):
    plain, churned, other = (
        separate(mixture["mixture"], RATE, ["speech"] * 2, prior=priors, options=options, **QUICK).stems["speech_1"]
        for options in ({}, {"churn": 0.3}, {"power": "second_moment", "method": "euler"})
    )
    assert not np.array_equal(plain, churned)
    assert not np.array_equal(plain, other)


@pytest.mark.parametrize(
    ("subtype", "container", "bound"),
    [("PCM_16", "WAV", -60), ("PCM_24", "FLAC", -90), ("FLOAT", "WAV", -90), ("DOUBLE", "WAV", -90)],
)
@pytest.mark.parametrize("rate", [16000, 44100])
def test_files_add_up_to_the_file(tmp_path, priors, subtype, container, bound, rate):
    form = FileFormat(container, subtype)
    path = tmp_path / f"mix.{form.extension}"
    samples = np.stack([band_noise("speech", rate // 2, rate), band_noise("Bark", rate // 2, rate)], 1)
    sf.write(path, samples, rate, format=container, subtype=subtype)
    folder = separate(path, None, ["speech", "bark"], prior=priors, **QUICK).save(tmp_path / "out", picture=False)
    assert sorted(os.listdir(folder)) == sorted(
        ["report.json", *(f"{name}.{form.extension}" for name in ("speech", "bark", "residual"))]
    )
    total = -sf.read(path)[0]
    for name in ("speech", "bark", "residual"):
        with sf.SoundFile(folder / f"{name}.{form.extension}") as file:
            assert (file.samplerate, file.channels, file.subtype, file.format) == (rate, 2, subtype, container)
            total = total + file.read()
    assert decibel(rms(total)) - decibel(rms(samples)) < bound
    if not form.is_float:
        assert np.abs(total).max() == 0


def test_what_integers_cannot_hold_is_in_the_residual(tmp_path):
    over = np.array([0.5, 1.5, -1.5, 0.0])
    mixture = np.array([0.6, 0.9, -0.9, 0.1])
    result = Separation(
        {"a": over, "b": mixture - over}, np.zeros(4), RATE, {"warnings": []}, FileFormat("WAV", "PCM_16")
    )
    folder = result.save(tmp_path, picture=False)
    total = sum(sf.read(folder / f"{name}.wav")[0] for name in ("a", "b", "residual"))
    np.testing.assert_allclose(total, mixture, atol=2**-15)
    (warning,) = json.loads((folder / "report.json").read_text())["warnings"]
    assert "a has 2 samples beyond full scale" in warning


def test_report(mixture, priors, tmp_path):
    result = separate(mixture["mixture"], RATE, ["speech", "bark", "rain"], prior=priors, seed=7, **QUICK)
    report = json.loads((result.save(tmp_path / "a" / "b") / "report.json").read_text())
    assert report["seed"] == 7
    assert report["settings"]["steps"] == 6
    assert [entry["label"] for entry in report["priors"]] == ["speech", "Bark", "rain"]
    assert {entry["licence"] for entry in report["priors"]} == {"CC-BY-4.0"}
    assert abs(sum(stem["energy_share"] for stem in report["stems"].values()) - 1) < 1e-3
    assert abs(report["stems"]["speech"]["level_db"] - decibel(0.05)) < 0.5
    assert report["residual_db_of_mixture"] < -90
    assert report["spread"] == {"speech": 0, "bark": 0, "rain": 0}
    assert any("rain" in warning for warning in report["warnings"])
    assert (tmp_path / "a" / "b" / "spectrograms.png").stat().st_size > 10_000


def test_output_folder_that_is_a_file(mixture, priors, tmp_path):
    (tmp_path / "file").touch()
    result = separate(mixture["mixture"], RATE, ["speech"], prior=priors, **QUICK)
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match="file, not a folder"):
            result.save(folder)


@pytest.mark.parametrize("shape", [(), (2, 1)], ids=["mono", "stereo"])
def test_an_offset_changes_no_stem_and_is_left_to_the_residual(priors, shape):
    noise = 0.1 * np.random.default_rng(0).standard_normal(16000)
    mixture = np.broadcast_to(noise, (2, 16000)) * np.array([[1.0], [0.5]]) if shape else noise
    plain = separate(mixture, 16000, ["speech", "bark"], prior=priors, steps=2)
    moved = separate(mixture + 0.3, 16000, ["speech", "bark"], prior=priors, steps=2)
    for name, stem in plain.stems.items():
        assert np.abs(moved.stems[name] - stem).max() < 0.02 * np.abs(stem).max(), name
    assert moved.residual.mean() == pytest.approx(0.3, abs=0.01)
    assert any("offset (DC) of 0.3" in line for line in moved.report["warnings"])
    assert not any("offset" in line for line in plain.report["warnings"])


def test_a_result_is_not_saved_over_its_recording(mixture, priors, tmp_path):
    sf.write(tmp_path / "speech.wav", mixture["mixture"], RATE)
    before = (tmp_path / "speech.wav").read_bytes()
    result = separate(tmp_path / "speech.wav", labels=["speech"], prior=priors, steps=1)
    with pytest.raises(UserError, match="is the recording itself"):
        result.save(tmp_path)
    assert (tmp_path / "speech.wav").read_bytes() == before


def test_numbers_of_numpy_are_settings_like_others(mixture, priors, tmp_path):
    result = separate(
        mixture["mixture"], RATE, ["speech", "Bark"], prior=priors, seed=np.int64(3), steps=np.int64(2),
        noise_db=np.float32(-30), options={"temperature": np.float32(0.5)},
    )  # fmt: skip
    told = json.loads((result.save(tmp_path, picture=False) / "report.json").read_text())
    assert (told["seed"], told["settings"]["steps"], told["settings"]["options"]["temperature"]) == (3, 2, 0.5)
