"""The demo: its mixture is the sum of its sources, and the command separates it and says how well."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from sourceprior import separate
from sourceprior.metrics import si_sdr
from test_cli import run

DEMO = Path(__file__).parent.parent / "examples" / "demo"


def test_the_sources_add_up_to_the_mixture():
    mixture, rate = sf.read(DEMO / "mixture.wav")
    sources = {path.stem: sf.read(path)[0] for path in DEMO.glob("*.flac")}
    assert set(sources) == {"speech", "dog_bark"}
    assert len(mixture) >= 4 * rate
    np.testing.assert_array_equal(mixture, sum(sources.values()))


def test_every_source_is_credited():
    credit = (DEMO / "CREDITS.md").read_text()
    for path in DEMO.glob("*.flac"):
        assert path.name in credit
    assert "CC BY" in credit


def test_a_folder_of_ones_own(tmp_path, prior_folders):
    # In stereo, written where it is read.
    for path in DEMO.iterdir():
        if path.suffix in (".wav", ".flac"):
            wave, rate = sf.read(path)
            sf.write(tmp_path / path.name, np.stack([wave, 0.5 * wave], 1)[:rate], rate)
    words = ["demo", tmp_path, "-o", tmp_path, "--preset", "fast", "-q"]
    words += [word for folder in prior_folders for word in ("--prior", folder)]
    assert run(*words).stdout.count(" dB") == 4
    sf.write(tmp_path / "speech.flac", np.zeros(5), rate)
    done = run(*words, expect=2)
    assert "another rate or length" in done.stderr


@pytest.mark.parametrize("name", ["mixture.wav", "speech.wav", "report.json"])
def test_what_is_of_somebody_else_is_kept(name, tmp_path, prior_folders):
    (tmp_path / name).write_text("mine")
    words = [word for folder in prior_folders for word in ("--prior", folder)]
    assert (
        f"another {'mixture' if name == 'mixture.wav' else name}"
        in run("demo", DEMO, "-o", tmp_path, "-q", *words, expect=2).stderr
    )
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {name: "mine"}


def test_the_demo_runs_and_prints_si_sdr(tmp_path, prior_folders):
    priors = [word for folder in prior_folders for word in ("--prior", folder)]
    done = run("demo", DEMO, "-o", tmp_path, "--preset", "fast", "-q", *priors)
    assert {"speech.wav", "dog_bark.wav", "residual.wav", "report.json", "spectrograms.png", "mixture.wav"} == set(
        os.listdir(tmp_path)
    )
    assert "SI-SDR" in done.stdout
    assert len([line for line in done.stdout.splitlines() if line.strip().endswith("dB")]) == 2
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["labels"] == ["dog_bark", "speech"]
    assert "spectrograms.png" in report["files"]
    run("demo", DEMO, "-o", tmp_path, "--preset", "fast", "-q", *priors)
    assert json.loads((tmp_path / "report.json").read_text())["warnings"] == report["warnings"]


def test_the_bundled_priors_separate_it():
    """Some dB below what they have: it is to notice what breaks, not what changes."""
    mixture, rate = sf.read(DEMO / "mixture.wav")
    truth = {path.stem: sf.read(path)[0] for path in DEMO.glob("*.flac")}
    result = separate(mixture, rate, list(truth), preset="fast")
    for name, source in truth.items():
        assert si_sdr(result.stems[name], source) > 3


def test_elsewhere_the_demo_says_where_it_belongs(tmp_path):
    assert "project's folder" in run("demo", cwd=tmp_path, expect=2).stderr
