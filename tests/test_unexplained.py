"""What no source explains, and whether a named source is there at all."""

import json
import sys

import numpy as np
import pytest
import soundfile as sf
import torch

from conftest import BANDS, RATE, band_noise
from sourceprior import UserError, separate
from sourceprior.audio import decibel, rms
from sourceprior.cli import main
from sourceprior.confidence import confidence
from sourceprior.labels import find
from sourceprior.listening import rank
from sourceprior.metrics import si_sdr
from sourceprior.pieces import loudest
from sourceprior.presence import HARDLY, heard
from sourceprior.separation import alike

QUICK = {"steps": 8, "candidates": 1}


@pytest.mark.parametrize(("channels", "rate"), [(1, RATE), (2, 44100)])
def test_the_residual_takes_what_no_source_explains(priors, channels, rate):
    speech, bark = (band_noise(label, rate, rate, seed) for seed, label in enumerate(["speech", "Bark"]))
    mixture = np.stack([speech + bark] * channels)
    left = {
        name: separate(mixture, rate, ["speech"], prior=priors, **options, **QUICK)
        for name, options in [("none", {}), ("stem", {"residual": "stem"}), ("db", {"noise_db": -20})]
    }
    # The only source gets everything, unless something may stay unexplained.
    assert si_sdr(left["none"].stems["speech"][0], mixture[0]) > 60
    assert si_sdr(left["stem"].residual[0], bark) > 10
    assert si_sdr(left["stem"].stems["speech"][0], speech) > 10
    np.testing.assert_array_equal(left["stem"].residual, left["db"].residual)
    total = left["stem"].stems["speech"] + left["stem"].residual
    assert decibel(rms(total - mixture)) < decibel(rms(mixture)) - 120


def test_contradictions(priors, mixture):
    for options, says in [
        ({"residual": "none", "noise_db": -30}, "choose residual stem"),
        ({"residual": "some"}, "choose none or stem"),
        ({"noise_db": 1}, "between -100 and 0"),
        ({"noise_db": -30, "solver": "dirac"}, "knows no noise level"),
    ]:
        with pytest.raises(UserError, match=says):
            separate(mixture["mixture"], RATE, ["speech"], prior=priors, **options)


def test_confidence_is_high_for_what_the_prior_knows_only(priors):
    names = list(BANDS)
    stems = torch.from_numpy(np.stack([band_noise(name, 8000) for name in names])).float()
    known = confidence(stems, find(names, priors))
    assert known.min() > 0.7
    torch.testing.assert_close(confidence(stems * 1e-3, find(names, priors)), known, rtol=0, atol=1e-3)
    strange = confidence(stems[[2, 3]], find(["speech", "Bark"], priors))
    assert strange.max() < 0.2
    assert confidence(torch.zeros(1, 8000), find(["speech"], priors)).tolist() == [0]


def test_a_source_that_is_not_there_is_warned_of(priors, mixture):
    here = separate(mixture["mixture"], RATE, ["speech", "Bark"], prior=priors, **QUICK).report
    assert min(here["confidence"].values()) > 0.7
    assert here["warnings"] == []
    assert min(here["heard_db"].values()) > -1
    # Beside them it has next to nothing, and little of that is rain.
    more = separate(mixture["mixture"], RATE, ["speech", "Bark", "rain"], prior=priors, **QUICK).report
    assert more["heard_db"]["rain"] < -15
    (warning,) = more["warnings"]
    assert warning.startswith("rain is hardly heard (-")
    # Rain alone has to take all of it.
    alone, warning = separate(mixture["mixture"], RATE, ["rain"], prior=priors, **QUICK).report["warnings"]
    assert "Only one source is named" in alone
    assert "rain is hardly heard" in warning


def test_a_source_that_is_heard_once_is_there(priors, mixture):
    speech = band_noise("speech", 20 * RATE, level=0.05)
    speech[8 * RATE : 9 * RATE] += band_noise("Bark", RATE, level=0.05)
    report = separate(speech, RATE, ["speech", "Bark", "rain"], prior=priors, **QUICK).report
    # 5 % of the time, and not more than an equal share of the energy there.
    assert report["heard_db"]["Bark"] > HARDLY
    assert report["heard_db"]["rain"] < HARDLY
    assert [warning.split()[0] for warning in report["warnings"]] == ["rain"]


def test_how_loud_a_recording_is_does_not_change_who_is_heard(priors, mixture):
    loud, quiet = (
        separate(gain * mixture["mixture"], RATE, ["speech", "Bark"], prior=priors, **QUICK).report["heard_db"]
        for gain in (1.0, 1e-3)
    )
    assert loud == pytest.approx(quiet, abs=0.1)


def test_nobody_is_heard_in_silence(priors):
    sources = find(["speech", "Bark"], priors)
    quiet = torch.full((8000,), 1e-3)
    assert heard(torch.zeros(2, 8000), torch.zeros(8000), quiet, sources).tolist() == [-60, -60]


def test_sources_that_are_hardly_told_apart_are_warned_of(priors, mixture):
    told = separate(mixture["mixture"], RATE, ["speech", "Bark"], prior=priors, **QUICK).report["alike"]
    assert told["speech"]["Bark"] == told["Bark"]["speech"] < 0.3
    # One prior, asked for twice: nothing says which is which, and the mean over what is likely is half for each.
    asked = ["speech", "Bark", "Bark", "Bark"]
    report = separate(mixture["mixture"], RATE, asked, prior=priors, steps=8, candidates=4).report
    assert min(report["alike"]["Bark_1"][other] for other in ("Bark_2", "Bark_3")) > 0.95
    assert "Bark_1, Bark_2 and Bark_3 were hardly told apart: their stems are much the same." in report["warnings"]
    assert separate(mixture["mixture"], RATE, ["speech"], prior=priors, **QUICK).report["alike"] == {"speech": {}}


def test_how_alike_stems_are():
    shared = np.array([[4.0, 2.0, 0.0], [2.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    assert alike(["a", "b", "c"], shared) == {"a": {"b": 1, "c": 0}, "b": {"a": 1, "c": 0}, "c": {"a": 0, "b": 0}}


def test_listening_ranks_what_is_there_first(prior_folders, tmp_path, capsys, monkeypatch, mixture):
    sf.write(tmp_path / "mix.wav", mixture["mixture"], RATE)
    words = ["listen", tmp_path / "mix.wav", "--json", *(word for path in prior_folders for word in ("--prior", path))]
    monkeypatch.setattr(sys, "argv", ["sourceprior", *map(str, words)])
    with pytest.raises(SystemExit):
        main()
    rows = json.loads(capsys.readouterr().out)
    assert {row["label"] for row in rows[:2]} == {"speech", "Bark"}
    assert rows[2]["label"] == "rain"
    assert rows[1]["fit"] > rows[2]["fit"] + 0.2


def test_listening_to_next_to_nothing_is_no_error(prior_folders, tmp_path):
    # One sample at 48 kHz is a third of one at the priors' rate.
    sf.write(tmp_path / "click.wav", [0.5], 48000)
    assert all(np.isfinite(row[2]) for row in rank(tmp_path / "click.wav", [str(path) for path in prior_folders]))


def test_the_loudest_stretch():
    samples = np.concatenate([np.zeros(50), np.ones(20), np.zeros(50)])
    for cuts in ([], [7, 8, 90], range(1, 120)):
        np.testing.assert_array_equal(loudest(np.split(samples, cuts), 20, 5), np.ones(20))
        np.testing.assert_array_equal(loudest(np.split(samples, cuts), 200, 7), samples)
