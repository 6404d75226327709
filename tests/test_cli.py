"""The real command, as a person runs it: one process per call."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from conftest import RATE, tiny_prior
from sourceprior.cli import main
from sourceprior.errors import UnknownLabel
from sourceprior.formats import FileFormat
from sourceprior.labels import find, match, stem_names
from sourceprior.sampling import NEAR_THE_MEAN
from sourceprior.stem_files import StemFiles
from sourceprior.version import __version__


def run(*words: object, cwd=None, expect: int = 0) -> subprocess.CompletedProcess:
    done = subprocess.run(
        [sys.executable, "-m", "sourceprior", *map(str, words)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "100"},
    )
    assert done.returncode == expect, done.stderr
    return done


@pytest.fixture
def mix(tmp_path, mixture):
    """The path of a 24-bit mono file."""
    sf.write(tmp_path / "my mix é.wav", mixture["mixture"], RATE, subtype="PCM_24")
    return tmp_path / "my mix é.wav"


@pytest.fixture
def chosen(prior_folders):
    """The options that choose the small priors and few steps."""
    return [*(word for folder in prior_folders for word in ("--prior", folder)), "--steps", 4, "--candidates", 1]


def test_separate_writes_everything(mix, chosen, tmp_path):
    done = run("separate", mix, "-s", "speech", "-s", "dog_bark", "-o", tmp_path / "a b", *chosen)
    assert sorted(os.listdir(tmp_path / "a b")) == [
        "dog_bark.wav",
        "report.json",
        "residual.wav",
        "spectrograms.png",
        "speech.wav",
    ]
    assert "speech" in done.stdout
    assert "% of the energy" in done.stdout
    total = sum(sf.read(tmp_path / "a b" / f"{name}.wav")[0] for name in ("speech", "dog_bark", "residual"))
    np.testing.assert_array_equal(total, sf.read(mix)[0])
    assert sf.info(tmp_path / "a b" / "speech.wav").subtype == "PCM_24"
    told = (Path(__file__).parent.parent / "docs" / "report.md").read_text()
    report = json.loads((tmp_path / "a b" / "report.json").read_text())
    assert [entry for entry in report if f"`{entry}`" not in told] == []


def test_options_reach_the_pipeline(mix, chosen, tmp_path):
    words = ["--seed", 5, "--preset", "fast", "--device", "cpu", "--solver", "posterior-mean", "-O", "churn=0.2", "-q"]
    done = run("separate", mix, "-s", "speech", "-s", "speech", *words, "--no-picture", *chosen, cwd=tmp_path)
    assert done.stdout == done.stderr == ""
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["seed"] == 5
    assert report["preset"] == "fast"
    assert report["settings"]["steps"] == 4
    assert report["settings"]["options"] == {**NEAR_THE_MEAN, "churn": 0.2}
    assert list(report["stems"]) == ["speech_1", "speech_2"]


def test_labels_as_json(prior_folders):
    rows = json.loads(run("labels", "--json", "--prior", prior_folders[0], "--prior", prior_folders[1]).stdout)
    assert [(row["label"], row["prior"], row["licence"]) for row in rows] == [
        ("speech", "speech", "CC-BY-4.0"),
        ("anything", "sounds", "CC-BY-4.0"),
        ("Bark", "sounds", "CC-BY-4.0"),
        ("rain", "sounds", "CC-BY-4.0"),
    ]
    assert "Bark" in run("labels", "--prior", prior_folders[1]).stdout


def test_mistakes_are_one_sentence_and_exit_code_2(mix, chosen, tmp_path, monkeypatch, capfd):
    (tmp_path / "text.wav").write_text("this is no sound\n" * 10)
    (tmp_path / "empty.wav").touch()
    (tmp_path / "file").touch()
    (tmp_path / "no recordings").mkdir()
    sf.write(tmp_path / "silence.wav", np.zeros(8000), RATE)
    sf.write(tmp_path / "nothing.wav", np.zeros(0), RATE)
    sf.write(tmp_path / "nan.wav", np.full(800, np.nan), RATE, subtype="FLOAT")
    for words, says in [
        (["separate", tmp_path / "missing.wav", "-s", "speech"], "no file"),
        (["separate", tmp_path / "no recordings", "-s", "speech"], "holds no recordings"),
        (["separate", tmp_path / "text.wav", "-s", "speech"], "not a sound file"),
        (["separate", tmp_path / "empty.wav", "-s", "speech"], "is empty"),
        (["separate", tmp_path / "silence.wav", "-s", "speech"], "silent"),
        (["separate", tmp_path / "nothing.wav", "-s", "speech"], "no samples"),
        (["separate", tmp_path / "nan.wav", "-s", "speech"], "not finite"),
        (["separate", mix, "-s", "speach"], "did you mean speech?"),
        (["separate", mix, "-s", "speech", "-o", tmp_path / "file"], "not a folder"),
        (["separate", mix, "-s", "speech", "--solver", "magic"], "no solver"),
        (["separate", mix, "-s", "speech", "-O", "churn"], "name=value"),
        (["separate", mix, "-s", "speech", "--prior", tmp_path], "not a prior"),
    ]:
        own = [] if "--prior" in words else chosen
        words = ["sourceprior", *words, *own, *([] if "-o" in words else ["-o", tmp_path / "out"])]
        monkeypatch.setattr(sys, "argv", [str(word) for word in words])
        with pytest.raises(SystemExit) as exit:
            main()
        printed = capfd.readouterr()
        assert exit.value.code == 2
        assert says in printed.err
        assert printed.err.count("\n") == 1, printed.err
        assert printed.out == ""
    assert not [name for name in os.listdir(tmp_path / "out") if not name.startswith(".")]


def test_a_mistake_in_a_process_of_its_own(tmp_path):
    done = run("separate", tmp_path / "missing.wav", "-s", "speech", "-o", tmp_path / "out", expect=2)
    assert done.stderr == f"sourceprior: There is no file {tmp_path / 'missing.wav'}.\n"
    assert done.stdout == ""


def test_usage_mistakes(mix):
    assert "--source" in run("separate", mix, expect=2).stderr
    assert "No such option" in run("separate", mix, "-s", "speech", "--magic", expect=2).stderr
    assert "Traceback" not in run("nonsense", expect=2).stderr


def test_version_and_quick_start():
    assert run("--version").stdout.strip() == f"sourceprior {__version__}"
    code = "import sourceprior.cli, sys; sys.exit('torch' in sys.modules or 'matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", ["dog_bark", "DogBark", "bark", " BARK", "dog-bark", "dog"])
def test_spellings_of_a_label(name):
    assert match(name, ["speech", "Bark", "anything"]) == "Bark"


def test_a_label_goes_before_an_alias():
    assert match("dog", ["Bark", "dog"]) == "dog"
    with pytest.raises(UnknownLabel) as caught:
        match("dog", ["speech"])
    assert caught.value.suggestions == ()


def test_unknown_labels_name_each_neighbour_once():
    with pytest.raises(UnknownLabel) as caught:
        match("dogbarkk", ["Bark", "speech"])
    assert caught.value.suggestions == ("Bark",)


def test_stem_names():
    assert stem_names(["speech", "Bark", "SPEECH "]) == ["speech_1", "Bark", "speech_2"]
    # A label may be spelt as a numbered name is.
    assert stem_names(["voice", "voice", "voice_1"]) == ["voice_2", "voice_3", "voice_1"]
    assert stem_names(["voice 1", "Voice", "Voice", "voice", "voice-3"]) == [
        "voice 1",
        "Voice_2",
        "Voice_4",
        "Voice_5",
        "voice-3",
    ]
    # Nor may two stems share a file, with each other or with what else a separation writes.
    assert stem_names(["a/b", "a_b", "A B"]) == ["a/b_1", "a_b_2", "a_b_3"]
    assert stem_names(["residual", "speech", "Mixture"]) == ["residual_1", "speech", "Mixture_1"]


@pytest.mark.parametrize("names", [["voice", "voice", "voice_1"], ["speech_1", "speech", "speech"]])
def test_every_stem_has_a_file_of_its_own(names, tmp_path):
    prior = tiny_prior("speech", ("speech",))
    prior = replace(prior, labels=("speech", "voice_1", "speech_1"))
    sources = find(names, [prior])
    files = StemFiles(tmp_path, [source.name for source in sources], (1, 10), RATE, FileFormat(), picture=False).files
    assert len({file.casefold() for file in files}) == 4
