"""Bad and odd input through the real command: one sentence and exit code 2, or a note and stems that add up.

`WRITE_TABLE=1 python -m pytest tests/test_robustness.py` writes docs/robustness.md anew.
"""

import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from typer.main import get_command

import robustness_cases
from robustness_cases import CASES
from sourceprior import audio, separate
from sourceprior.cli import app, main
from sourceprior.sampling import PRESETS

CHOSEN = ["--steps", 3, "--candidates", 1, "--no-picture"]
TABLE = Path(__file__).parent.parent / "docs" / "robustness.md"
HEAD = """# What happens with bad and odd input

Written by `WRITE_TABLE=1 python -m pytest tests/test_robustness.py`, which runs every case through the real command
with small priors. Exit code 2: nothing was done, and one sentence says why. Exit code 0: the stems have the recording's
length and form, add up to it with the residual, and what is odd is said. Among several recordings one that cannot be
separated is told of and the others are done; then the exit code is 1.

| Input | Exit code | What is said |
|:--|:-:|:--|
"""
TAIL = """
The rows on permission stand for what the system does for anyone but root, who may read everything; the suite makes it
so for the time of the case. Exit code 1: the other recordings of the folder were separated.

Interruption: files are written beside their place and renamed, and report.json, which is written last, makes a
recording count as done. Ctrl-C (exit code 130), SIGTERM (143), a full disk or `kill -9` therefore leave a file whole or
not at all, and the same command goes on with the recordings that are not done (`tests/test_many.py` tries them).

`python benchmarks/kills.py` kills a run over ten recordings with `kill -9` ten times at random moments, goes on with
the same command, and compares all files with those of an undisturbed run: they were identical (`benchmarks/kills.md`).
"""


@pytest.fixture(scope="module")
def table():
    """Rows by case; written where that is asked for."""
    rows: dict[str, str] = {}
    yield rows
    if os.environ.get("WRITE_TABLE") and len(rows) == len(CASES):
        TABLE.write_text(HEAD + "".join(rows.values()) + TAIL, encoding="utf-8")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_case(case, tmp_path, prior_folders, monkeypatch, capsys, table):
    robustness_cases.OWN[:] = prior_folders
    words = case.make(tmp_path)
    # Words of the case come last and win.
    chosen = CHOSEN if case.command == "separate" else []
    out = [] if "-o" in words or case.command == "listen" else ["-o", tmp_path / "out"]
    words = [case.command, *chosen, *out, *words]
    if "--prior" not in words:
        words += [word for prior in prior_folders for word in ("--prior", prior)]
    monkeypatch.setattr(sys, "argv", ["sourceprior", *map(str, words)])
    capsys.readouterr()
    with monkeypatch.context() as patch:
        case.patch(patch)
        with pytest.raises(SystemExit) as exit:
            main()
    code, said = exit.value.code or 0, capsys.readouterr().err
    table[case.name] = f"| {case.name} | {code} | {in_a_cell(said, tmp_path)} |\n"

    assert code == case.code, said
    assert case.says in said
    assert "Traceback" not in said
    if not os.environ.get("WRITE_TABLE"):
        # What the page says is what happens.
        assert without_figures(table[case.name]) == without_figures(row_of_the_page(case.name))
    stems = sorted((tmp_path / "out").glob("*.wav")) + sorted((tmp_path / "out").glob("*.flac"))
    if code:
        assert "Usage:" in said or said.count("\n") == 1
        assert not stems
        assert not (tmp_path / "executed").exists()
        others = [json.loads(file.read_text()) for file in (tmp_path / "out").glob("*/report.json")]
        assert bool(others) == (code == 1)
        return
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert sorted(report["files"]) == sorted(stem.name for stem in stems)
    total = sum(sf.read(stem, always_2d=True)[0] for stem in stems)
    assert total.shape == (report["samples"], report["channels"])
    assert np.isfinite(total).all()
    (source,) = [path for path in tmp_path.iterdir() if path.is_file()]
    if source.suffix == ".wav":
        mixture = audio.read(source).samples.T
        assert np.abs(total - mixture).max() <= 1e-6 * np.abs(mixture).max()
    assert not [name for name in os.listdir(tmp_path / "out") if name.endswith(".part")]


def in_a_cell(said: str, folder: Path) -> str:
    """Stderr in one line: of a box its inside, no path of this machine."""
    said = said.replace(f"{folder}/", "")
    lines = re.findall(r"│ (.*?) *│", said) or [line.strip() for line in said.splitlines() if line]
    text = " ".join(line.removeprefix("sourceprior: ") for line in lines).replace("|", "\\|") or "nothing"
    return re.sub("x{20,}", "xxx…", text)


def row_of_the_page(name: str) -> str:
    """The line of docs/robustness.md on a case."""
    (row,) = [line for line in TABLE.read_text(encoding="utf-8").splitlines(True) if line.startswith(f"| {name} | ")]
    return row


def without_figures(row: str) -> str:
    """A row without what depends on the machine's arithmetic: how many samples, what is heard, which of equals."""
    row = re.sub(r"\d+ samples beyond full scale", "… samples beyond full scale", row)
    row = re.sub(r"-\d+ dB of an equal share", "… dB of an equal share", row)
    row = re.sub(r"speech_\d+ ", "speech_… ", row)
    return re.sub(r"(Note: [^.]*\.)( \1)+", r"\1", row)


def test_the_table_has_these_cases_and_no_others():
    named = re.findall(r"^\| (.*?) \| \d+ \|", TABLE.read_text(encoding="utf-8"), re.MULTILINE)
    assert named == [case.name for case in CASES]


def test_help_names_every_preset():
    (option,) = [one for one in get_command(app).commands["separate"].params if one.name == "preset"]
    for told in (option.help, separate.__doc__):
        assert set(PRESETS) <= set(re.findall(r"\w+", told))
