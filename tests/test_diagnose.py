"""`sourceprior diagnose` as a person runs it, and what it and its neighbours refuse."""

import json

import numpy as np
import pytest
import soundfile as sf
import torch

from conftest import RATE
from sourceprior import separate
from sourceprior.cli import app
from sourceprior.diagnostics import with_null
from sourceprior.errors import UserError
from sourceprior.presets import seeded

LENGTH = 2000


def call(*words: object) -> None:
    assert not app([str(word) for word in words], standalone_mode=False)


@pytest.fixture
def paths(tmp_path, mixture):
    """Files of the mixture and of its sources."""
    found = {}
    for name, samples in mixture.items():
        found[name] = tmp_path / f"{name}.wav"
        sf.write(found[name], samples[:LENGTH], RATE, subtype="FLOAT")
    return found


@pytest.fixture
def common(prior_folders, tmp_path):
    priors = [word for folder in prior_folders for word in ("--prior", folder)]
    return ["-s", "speech", "-s", "Bark", "--steps", 4, "-q", "-o", tmp_path / "out", *priors]


def strictly(text: str) -> dict:
    """JSON as the standard has it, which knows no NaN."""

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    return json.loads(text, parse_constant=refuse)


def test_everything_is_written(paths, common, tmp_path):
    references = [word for name in ("speech", "Bark") for word in ("--reference", paths[name])]
    call("diagnose", paths["mixture"], *common, *references)
    out = tmp_path / "out"
    report = strictly((out / "diagnostics.json").read_text())
    assert report["sources"] == ["speech", "Bark"]
    for rule in ("DPS", "DSG", "hybrid"):
        # The paper's t* is the third of four steps.
        assert report[rule]["t"] == [2, 1, 0]
        assert np.shape(report[rule]["si_sdr"]) == (3, 1, 2)
        assert len(sf.read(out / rule / "Bark.wav")[0]) == LENGTH
    for name in ("figure2.png", "figure3.png", "stems.png"):
        assert (out / name).stat().st_size > 1000
    head, line, *rows = (out / "table.md").read_text().splitlines()
    assert head.startswith("| setting | SI-SDR of speech, dB | SI-SDR of Bark, dB | mean, dB |")
    assert line.count("---") == 7
    assert [row.split(" | ")[0] for row in rows] == ["| DPS", "| DSG", "| hybrid"]


def test_nothing_of_ones_own_is_written_over(paths, common, tmp_path, prior_folders):
    out = tmp_path / "out"
    call("diagnose", paths["mixture"], *common)
    before = (out / "hybrid" / "Bark.wav").read_bytes()
    with pytest.raises(UserError, match="is there already"):
        call("diagnose", paths["mixture"], *common)
    with pytest.raises(UserError, match="is what is read"):
        call("diagnose", out / "hybrid" / "Bark.wav", *common, "--overwrite")
    assert (out / "hybrid" / "Bark.wav").read_bytes() == before
    call("diagnose", paths["mixture"], *common, "--overwrite")
    assert (out / "hybrid" / "Bark.wav").read_bytes() == before
    own = ["--label", "Bark", "--seconds", 0.1, "--steps", 2, "-q", "-o", out, "--prior", prior_folders[1]]
    (out / "Bark_1.wav").write_text("mine")
    with pytest.raises(UserError, match="is there already"):
        call("sample", *own)
    assert (out / "Bark_1.wav").read_text() == "mine"
    call("sample", *own, "--overwrite")
    assert len(sf.read(out / "Bark_1.wav")[0]) == 0.1 * RATE


def test_what_diverges_is_said_and_not_written(paths, common, tmp_path, monkeypatch):
    monkeypatch.setattr("sourceprior.ancestral.ancestral", lambda *_, **__: torch.full((1, 1, 1600), torch.nan))
    out = tmp_path / "out"
    with pytest.raises(UserError, match="smaller --label-scale"):
        call("sample", "--label", "Bark", *common[4:])
    assert not list(out.glob("*.wav"))
    sf.write(tmp_path / "short.wav", 0.1 * np.sin(np.arange(50)), RATE)
    with pytest.raises(UserError, match=r"shorter than 0\.1 s"):
        call("diagnose", tmp_path / "short.wav", *common)


def test_recordings_that_cannot_be_used_are_refused(paths, common, tmp_path):
    bad = {
        "nan": (np.full(LENGTH, np.nan), "not finite"),
        "silence": (np.zeros(LENGTH), "is silent"),
        # What is looked at counts, not what comes later.
        "late": (np.append(np.zeros(LENGTH), np.ones(LENGTH)), "is silent"),
    }
    for name, (samples, says) in bad.items():
        sf.write(tmp_path / f"{name}.wav", samples, RATE, subtype="FLOAT")
        short = ["--seconds", LENGTH / RATE]
        reference = ["--reference", paths["speech"], "--reference", tmp_path / f"{name}.wav"]
        for words in ([tmp_path / f"{name}.wav"], [paths["mixture"], *reference]):
            with pytest.raises(UserError, match=f"{name}.wav: The recording .*{says}"):
                call("diagnose", *words, *common, *short)
    with pytest.raises(UserError, match="needs more than 50 steps"):
        call("diagnose", paths["mixture"], *common, "--preset", "released")


def test_json_has_no_numbers_that_are_none():
    value = {"a": [1.0, float("nan"), [float("inf"), 2]], "b": "text"}
    assert strictly(json.dumps(with_null(value), allow_nan=False)) == {"a": [1.0, None, [None, 2]], "b": "text"}


def test_seeds_have_a_limit_everywhere(paths, common, prior_folders, priors, mixture, tmp_path):
    huge = 99999999999999999999
    own = ["--label", "speech", "--prior", prior_folders[0], "-o", tmp_path / "out", "-q"]
    for seed, says in ((huge, "4294967295 at most, not 9+"), (-1, "must not be negative")):
        for words in (["sample", *own], ["diagnose", paths["mixture"], *common]):
            with pytest.raises(UserError, match=says):
                call(*words, "--seed", seed)
        with pytest.raises(UserError, match=says):
            separate(mixture["mixture"], RATE, ["speech"], prior=priors, seed=seed)
    # The last one is taken by every generator.
    assert seeded(64, 2**32 - 1)[-1].initial_seed() > 2**32
    call("sample", *own, "--seconds", 0.1, "--steps", 2, "--seed", 2**32 - 1)
    assert separate(mixture["mixture"], RATE, ["speech"], prior=priors, preset="fast", seed=2**32 - 1).report["seed"]
