"""What the README tells people to type exists and works, and what it links to is there."""

import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.main import get_command

from conftest import RATE, band_noise
from sourceprior import learning_folder, library, many
from sourceprior.cli import app, main
from sourceprior.packs import write_pack

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
LINES = re.findall(r"^ +sourceprior (\S.*?)(?: +#.*)?$", README, re.M)
"""Command lines on lines of their own."""
WITHIN = [" ".join(found.split()) for found in re.findall(r"`sourceprior ([^`]+)`", README)]
"""Command lines within sentences."""


def test_links_lead_somewhere():
    links = [link for link in re.findall(r"\]\(([^)#]+)", README) if "://" not in link]
    assert links
    assert not [link for link in links if not (ROOT / link).exists()]


@pytest.mark.parametrize("line", LINES + WITHIN)
def test_commands_and_options_exist(line):
    command, *words = line.split()
    known = get_command(app).commands
    assert command in known
    options = {name for parameter in known[command].params for name in parameter.opts}
    assert {word for word in words if word.startswith("-")} <= options


PAGES = [*ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md"), *ROOT.glob("examples/**/*.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_other_pages_exist(page):
    text = page.read_text().replace("\\\n", " ")
    lines = re.findall(r"^ +(?:OMP_NUM_THREADS=\d )?sourceprior (\S.*?)(?: +#.*)?$", text, re.M)
    within = re.findall(r"`(?:OMP_NUM_THREADS=\d )?sourceprior ([^`]+)`", text)
    for line in [*lines, *(" ".join(found.split()) for found in within)]:
        command, *words = re.split("[ |]", line)
        known = get_command(app).commands
        assert command in known, line
        options = {name for param in known[command].params for name in [*param.opts, *param.secondary_opts]}
        own = {word.partition("=")[0] for word in words if word.startswith("-")}
        assert own <= options | {"--help"}, line
    for script in re.findall(r"python (benchmarks/\w+\.py)", text):
        assert (ROOT / script).is_file()


@pytest.fixture
def place(priors, tmp_path, monkeypatch):
    """A folder with the recordings of the README; small priors, and few other sounds, where the package has its own."""
    many._priors.cache_clear()
    many._weights.cache_clear()
    monkeypatch.setattr(library, "bundled", lambda: tuple(priors))
    monkeypatch.setattr(learning_folder, "bundled", lambda: tuple(priors))
    shutil.copytree(ROOT / "tests" / "data", tmp_path / "data")
    table = (tmp_path / "data" / "manifest.csv").read_text()
    (tmp_path / "data" / "manifest.csv").write_text(table.replace(",test,", ",valid,"))
    write_pack(tmp_path / "data", tmp_path / "pack")
    monkeypatch.setitem(learning_folder.learn.__kwdefaults__, "negatives", tmp_path / "pack")
    home = tmp_path / "home"
    (home / "recordings" / "robin").mkdir(parents=True)
    for name in ("street", "call", "garden"):
        mixture = band_noise("speech", RATE) + band_noise("Bark", RATE, seed=1)
        soundfile.write(home / f"{name}.wav", mixture, RATE, subtype="FLOAT")
    for number in range(10):
        clip = band_noise("rain", RATE, seed=number) * np.hanning(RATE)
        soundfile.write(home / "recordings" / "robin" / f"{number}.wav", clip, RATE)
    monkeypatch.chdir(home)
    yield home
    many._priors.cache_clear()
    many._weights.cache_clear()


def test_what_the_readme_types_works(place, monkeypatch, capsys):
    """All of it in its order, but for what needs a data set or a second process; learning takes but four steps."""
    lines = LINES + [line for line in WITHIN if "DATA" not in line and "--jobs" not in line]
    made = {
        "separate street.wav -s speech -s dog_bark -o out/": ["speech.wav", "dog_bark.wav", "residual.wav"],
        "separate call.wav -s speech -s speech -o call/": ["speech_1.wav", "speech_2.wav"],
        "separate garden.wav -s robin -s speech --prior my-prior/ -o garden/": ["robin.wav", "speech.wav"],
    }
    assert set(made) < set(lines)
    for line in lines:
        few = ["--steps", "4"] if line.startswith("learn ") else []
        monkeypatch.setattr(sys, "argv", ["sourceprior", *line.split(), *few])
        with pytest.raises(SystemExit) as end:
            main()
        told = capsys.readouterr()
        assert not end.value.code, f"{line}: {told.err}"
        assert "robin" in told.out or "my-prior" not in line
        for file in made.get(line, []):
            folder = place / line.split(" -o ")[1]
            assert soundfile.info(folder / file).frames == RATE
            (folder / file).unlink()
    (program,) = re.findall(r"^```python\n(.*?)^```", README, re.M | re.S)
    known: dict = {}
    exec(program, known)
    stems = [known["result"].stems[name] for name in ("speech", "dog_bark")]
    mixture, _ = soundfile.read(place / "street.wav")
    assert np.abs(sum(stems) + known["result"].residual - mixture).max() < 1e-6


def test_make_targets_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    wanted = set(re.findall(r"^ +make (\w+)", README, re.M))
    assert wanted
    assert wanted <= targets
