"""The benchmark: whole tables on real clips, stopped and shared runs that give the same table, and its report."""

import hashlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from sourceprior.baselines import nmf, wiener
from sourceprior.baselines.listening import NothingToLearn
from sourceprior.baselines.training import Settings as TrainingSettings
from sourceprior.baselines.training import Trainer
from sourceprior.benchmark import grids, lists, pictures, rows
from sourceprior.benchmark.published import MARK, TABLE2, TABLE4
from sourceprior.benchmark.records import Records, mixture_digest
from sourceprior.benchmark.running import Spent, run, shard_of
from sourceprior.datasets import read_manifest
from sourceprior.denoisers import SpectralDenoiser
from sourceprior.errors import UserError
from sourceprior.evaluation import Outcome
from sourceprior.mixtures import TASKS, active_span, draw, render, write_list
from sourceprior.networks.conv_unet import ConvUNet
from sourceprior.priors import SourcePrior, bundled
from sourceprior.schedules import vp_linear
from sourceprior.separators import baseline
from sourceprior.vp import VPDenoiser

DATA = Path(__file__).parent / "data"
LABELS = ("anything", "speech", "Bark", "Saxophone", "rain")


@pytest.fixture(scope="module")
def prior(tmp_path_factory) -> Path:
    """An untrained prior with the real average spectra of the clips: every class's Wiener filter."""
    spectra = wiener.learn(read_manifest(DATA, "train"), LABELS[1:])
    power = torch.stack([torch.stack(list(spectra.values())[1:]).mean(0), *spectra.values()]) * 0.08**2
    torch.manual_seed(0)
    network = ConvUNet(
        inputs=5, outputs=3, classes=len(LABELS), widths=(4, 4), depths=(1, 1), bottom=8, dilations=(1,), condition=8
    )
    config = {
        "denoiser": {"class": "denoisers.SpectralDenoiser"},
        "network": {"class": "conv_unet.ConvUNet", "options": network.config},
    }
    denoiser = SpectralDenoiser(network, power, 0.08).eval()
    folder = tmp_path_factory.mktemp("prior") / "tiny"
    SourcePrior("tiny", denoiser, LABELS, 16000, 0.08, "CC0-1.0", config, "# tiny\n").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tasnet(tmp_path_factory) -> Path:
    """A network that was trained for two steps."""
    folder = tmp_path_factory.mktemp("conv_tasnet")
    small = {"filters": 16, "kernel": 32, "bottleneck": 8, "hidden": 8, "blocks": 2, "repeats": 1}
    settings = TrainingSettings("conv_tasnet", "speech_sound", small, batch=1, seconds=0.5)
    trainer = Trainer(settings, read_manifest(DATA, "train"), DATA, folder, log=lambda text: None)
    trainer.run(1e9, steps=2)
    trainer.finish({})
    return folder


def call(monkeypatch, *words, expect=0):
    from sourceprior import cli

    monkeypatch.setattr(sys, "argv", ["sourceprior", "benchmark", *map(str, words)])
    code = 0
    try:
        cli.main()
    except SystemExit as stop:
        code = stop.code or 0
    assert code == expect


def main_table(folder: Path, name: str = "table2") -> str:
    """The first table of a report: it holds nothing that depends on the machine's speed."""
    return (folder / f"{name}.md").read_text().split("### ")[1]


def test_the_whole_table_with_the_fast_methods(prior, tasnet, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    words = ["table2", "--data", DATA, "--prior", prior, "--limit", 2, "--min-clips", 2, "-o", out]
    call(monkeypatch, *words, "--method", "fast", "--baseline", tasnet, "-q")
    printed = capsys.readouterr().out
    text, page = (out / "table2.md").read_text(), (out / "table2.html").read_text()
    assert printed.strip()
    assert main_table(out) in "### " + printed or printed.strip() in text
    for title in [
        "unprocessed",
        "posterior mean, preset default",
        "dictionary NMF",
        "fixed Wiener filters",
        "Conv-TasNet",
    ]:
        assert f"| {title}" in text
        assert title in page
    # What is not there is named.
    (missing,) = re.findall(r"Not measured \(yet\): (.*)\.$", text, re.MULTILINE)
    assert missing.startswith("DPS, constant; DSG; hybrid (the paper's); analytical; Dirac (MSDM)")
    assert missing.endswith("TF-LoCoformer (no --baseline)")
    assert not re.search("NMF|TasNet", missing)
    # The paper's own figures are there, and marked.
    for row in ("unprocessed", "conv_tasnet"):
        assert re.search(rf"\*{re.escape(MARK)}\*.*\*{TABLE2[row]['two_sounds']['si_sdr']:.2f}\*", text)
    # Theory: unprocessed sources have 0 dB, of three -3.1; two mixtures come only near that (40: see test_mixtures).
    line = next(line for line in text.splitlines() if line.startswith("| unprocessed"))
    figures = [float(cell.split()[0]) for cell in line.split("|")[3:-1] if cell.strip() != "–"]
    two_one, _, two_two, _, two, three, speech, _ = figures
    assert [two_one, two, speech] == pytest.approx([0, 0, 0], abs=0.6)
    assert [two_two, three] == pytest.approx([-3.1, -3.1], abs=0.6)
    # Everything the page refers to lies beside it, nowhere else.
    links = re.findall(r'src="([^"]+)"', page)
    assert sum(link.endswith(".opus") for link in links) >= 3 * 5 * 4
    for link in links:
        assert not link.startswith("/")
        assert (out / link).stat().st_size > 100
    # Every mixture of every task, with all its measures.
    entries = [json.loads(line) for file in (out / "results").glob("posterior_mean.*.jsonl") for line in file.open()]
    assert sorted(entry["task"] for entry in entries) == sorted(2 * list(TASKS))
    for entry in entries:
        assert entry["forwards"] == 8 * len(entry["labels"])
        assert entry["backwards"] == 0
        assert entry["residual_db"] < -60
        assert bool(entry["blocks"]) == (entry["task"] == "two_speech")
        assert [value is not None for value in entry["pesq"]] == [
            label == "speech" for label in entry["labels"] if "speech" in entry["labels"]
        ]
    # A second call measures nothing, and makes the same table.
    before = {file: file.stat().st_mtime_ns for file in (out / "results").iterdir()}
    table = main_table(out)
    call(monkeypatch, *words, "--method", "fast", "--baseline", tasnet, "-q")
    assert {file: file.stat().st_mtime_ns for file in (out / "results").iterdir()} == before
    assert main_table(out) == table
    # A network that is not kept is still in the report, by the settings that lie beside its results.
    (kept,) = (out / "results").glob("conv_tasnet.*.json")
    call(monkeypatch, *words, "--report-only", "-q")
    assert "Conv-TasNet" not in main_table(out)
    call(monkeypatch, *words, "--report-only", "--baseline", kept, "-q")
    assert main_table(out) == table
    # It measures nothing more.
    capsys.readouterr()
    more = [*words[:5], "--limit", 3, *words[7:]]
    call(monkeypatch, *more, "--method", "conv_tasnet", "--baseline", kept, "-q", expect=2)
    assert "has mixtures to measure and" in capsys.readouterr().err
    for wrong in (out / "table2.mixtures.json", next((out / "results").glob("nmf.*.json"))):
        call(monkeypatch, *words, "--report-only", "--baseline", wrong, "-q", expect=2)
        assert "is neither a baseline's folder nor the settings of its results" in capsys.readouterr().err


QUICK = ["--task", "speech_sound", "--task", "two_speech", "--seconds", 1, "--min-clips", 2, "--no-pesq", "--no-audio"]
CHEAP = ["--method", "unprocessed", "--method", "wiener", "--against", "wiener"]


def test_killed_and_started_again_it_gives_the_same_table(prior, tmp_path, monkeypatch):
    words = ["table2", "--data", DATA, "--prior", prior, "--limit", 40, *QUICK, *CHEAP, "-q", "-o"]
    call(monkeypatch, *words, tmp_path / "whole")
    stopped = subprocess.Popen(
        [sys.executable, "-m", "sourceprior", "benchmark", *map(str, words), str(tmp_path / "stopped")],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    results = tmp_path / "stopped" / "results"
    until = time.monotonic() + 120
    while not any(file.stat().st_size > 800 for file in results.glob("wiener.*.jsonl")) and time.monotonic() < until:
        time.sleep(0.001)
    stopped.send_signal(signal.SIGKILL)
    assert stopped.wait() == -signal.SIGKILL, "it was over before it was killed"
    (file,) = results.glob("wiener.*.jsonl")
    done = len(file.read_text().splitlines())
    assert 1 <= done < 80
    # As if it had been killed within a line.
    with file.open("a") as half:
        half.write('{"mixture": "abc", "ta')
    kept = file.read_text()
    call(monkeypatch, *words, tmp_path / "stopped")
    assert file.read_text().startswith(kept)
    assert main_table(tmp_path / "stopped") == main_table(tmp_path / "whole")


def test_two_shards_are_one_run(prior, tmp_path, monkeypatch):
    words = ["table2", "--data", DATA, "--prior", prior, "--limit", 3, *QUICK, *CHEAP, "-q", "-o"]
    call(monkeypatch, *words, tmp_path / "one")
    # Both at once, as they are meant to run.
    command = [sys.executable, "-m", "sourceprior", "benchmark", *map(str, words), str(tmp_path / "two"), "--shard"]
    own = os.environ | {"OMP_NUM_THREADS": "1"}
    both = [subprocess.Popen([*command, shard], env=own, stdout=subprocess.DEVNULL) for shard in ("1/2", "2/2")]
    assert [process.wait(timeout=300) for process in both] == [0, 0]
    (file,) = (tmp_path / "two" / "results").glob("wiener.*.jsonl")
    digests = [json.loads(line)["mixture"] for line in file.read_text().splitlines()]
    assert len(digests) == len(set(digests)) == 6
    # The one that ended first has reported on what was there then; the report of all:
    call(monkeypatch, *words, tmp_path / "two", "--report-only")
    assert main_table(tmp_path / "two") == main_table(tmp_path / "one")
    # Its command is that of one process, and names no folder of this machine.
    (noted,) = (tmp_path / "two" / "table2.commands.txt").read_text().splitlines()
    (whole,) = (tmp_path / "one" / "table2.commands.txt").read_text().splitlines()
    assert noted.removesuffix("two") == whole.removesuffix("one")
    assert not {"--shard", "1/2", "2/2", "-q"} & set(noted.split())


def test_a_changed_setting_never_mixes_with_an_old_one(prior, tmp_path, monkeypatch):
    words = ["table2", "--data", DATA, "--prior", prior, *QUICK, *CHEAP, "-q", "-o", tmp_path]
    call(monkeypatch, *words, "--limit", 2)
    first = main_table(tmp_path)
    call(monkeypatch, *words, "--limit", 1, "--level", "active")
    changed = main_table(tmp_path)
    assert changed != first
    assert "| fixed Wiener filters | 1 |" in changed
    call(monkeypatch, *words, "--limit", 1, "--zero-mean")
    assert len(list((tmp_path / "results").glob("wiener.*.jsonl"))) == 2  # another way to measure has files of its own
    # A shorter run reports all that was ever measured of its lists.
    call(monkeypatch, *words, "--limit", 1)
    assert main_table(tmp_path) == first


def context(prior: Path, **options) -> rows.Context:
    own = SourcePrior.from_pretrained(prior)
    return rows.Context(
        [rows.PriorSet.of("priors", [own])], lambda: read_manifest(DATA, "train"), Path("unused"), **options
    )


def test_everything_that_decides_a_result_is_in_its_key(prior):
    measuring = {"zero_mean": False, "pesq": False}
    base = {row.name: row.key(measuring) for row in rows.table2(context(prior))}
    assert len(set(base.values())) == len(base)
    again = {row.name: row.key(measuring) for row in rows.table2(context(prior))}
    assert again == base
    for changed in [{"form": "released"}, {"steps": 50}]:
        other = {row.name: row.key(measuring) for row in rows.table2(context(prior, **changed))}
        assert other["hybrid"] != base["hybrid"]
        assert other["posterior_mean"] == base["posterior_mean"]
    assert not set(base.values()) & {row.key(measuring | {"zero_mean": True}) for row in rows.table2(context(prior))}
    # What is only computed in other portions is the same; what is new counts where it is used.
    usual = rows.settings_of("default")
    assert rows.deciding(replace(usual, batch=7)) == rows.deciding(usual)
    assert rows.deciding(replace(usual, label_scale=2.0)) == rows.deciding(usual) | {"label_scale": 2.0}
    assert set(rows.KEYED) <= set(rows.deciding(usual))
    # Where a mixture is cut into blocks its stems depend on where.
    assert rows.deciding(replace(usual, block=5.0)) == rows.deciding(usual) | {"block": 5.0}
    own = SourcePrior.from_pretrained(prior)
    own.denoiser.average[0, 0] += 1
    assert rows.prior_digest(own) != rows.prior_digest(SourcePrior.from_pretrained(prior))


def test_settings_of_a_prior_are_part_of_its_hash(prior):
    own = SourcePrior.from_pretrained(prior)
    network = own.config["network"]
    dilated = {**network, "options": {**network["options"], "dilations": [2]}}
    changes = [{}, {"precision": "float32"}, {"network": dilated}, {"parts": {"speech": ["rain"]}}]
    assert len({rows.prior_digest(replace(own, config=own.config | change)) for change in changes}) == 4
    assert rows.prior_digest(replace(own, config=own.config | {"training": {"steps": 1}})) == rows.prior_digest(own)
    # Of an ε-network: what it is told of a noise level.
    made = [VPDenoiser(Epsilon()), VPDenoiser(Epsilon(), vp_linear(100)), VPDenoiser(Epsilon(), vp_linear(200, 1e-3))]
    made += [VPDenoiser(Epsilon(), interpolate=True), VPDenoiser(Epsilon(), condition="beta")]
    assert len({rows.prior_digest(replace(own, denoiser=denoiser)) for denoiser in made}) == len(made)


def test_results_of_the_bundled_priors_keep_their_keys():
    # Hours of results lie under these hashes. They change with the priors themselves, and with nothing else.
    for one in bundled():
        assert not rows._unusual(one)
        plain = hashlib.sha256(json.dumps([one.labels, one.level, one.sample_rate]).encode())
        for name, value in sorted(one.denoiser.state_dict().items()):
            plain.update(name.encode() + value.numpy().tobytes())
        assert rows.prior_digest(one) == f"{one.name} {plain.hexdigest()[:12]}"


def test_another_solver_prior_or_text_is_another_row(prior, monkeypatch):
    own = SourcePrior.from_pretrained(prior)
    sets = [rows.PriorSet.of("priors", [own]), rows.PriorSet.of("new", [own])]
    table = rows.table2(replace(context(prior), priors=sets, extra=["few steps: steps=3 temperature=0.5"]))
    names = [row.name for row in table]
    assert {"dps", "dsg", "hybrid", "analytical", "dirac", "posterior_mean", "posterior_mean@new", "nmf"} <= set(names)
    extra = next(row for row in table if row.name == "few_steps")
    assert extra.identity["settings"]["steps"] == 3
    assert extra.identity["settings"]["options"]["temperature"] == 0.5
    # A solver is a row because its file is there.
    solver = type(sys)("sourceprior.solvers.brandnew")
    solver.brandnew = lambda *a, **k: None
    solver.brandnew.__name__ = "brandnew"
    monkeypatch.setitem(sys.modules, solver.__name__, solver)
    modules = [*rows.pkgutil.iter_modules(rows.solvers.__path__)]
    added = type(modules[0])(modules[0].module_finder, "brandnew", False)
    monkeypatch.setattr(rows.pkgutil, "iter_modules", lambda path: [*modules, added])
    assert "brandnew" in [row.name for row in rows.table2(context(prior))]
    # Results and stems lie in files of a row's name, and the report's lines are found by it.
    for changed in ({"extra": ["posterior_mean: steps=3"]}, {"priors": [*sets, sets[1]]}, {"extra": ["a b:", "a_b:"]}):
        with pytest.raises(UserError, match=r"Two rows are called .*: give what --row or --compare adds another name"):
            rows.table2(replace(context(prior), **changed))
    with pytest.raises(UserError, match="no option"):
        rows.row_of_text("x: magic=1", context(prior))
    with pytest.raises(UserError, match="name: setting=value"):
        rows.row_of_text("x", context(prior))
    for setting, says in [
        ("candidates=abc", "candidates is a whole number; 'abc' does not fit"),
        ("steps=2.5", "steps is a whole number"),
        ("steps=True", "steps is a whole number"),
        ("noise_db=loud", "noise_db is a number"),
        ("label_scale=much", "label_scale is a number"),
        ("solver=3", "solver is a name; 3 does not fit"),
        ("precision=16", "precision is a name"),
        ("tell_apart=maybe", "tell_apart is True or False; 'maybe' does not fit"),
    ]:
        with pytest.raises(UserError, match=f"The row x: {says}"):
            rows.row_of_text(f"x: {setting}", context(prior))
    fits = rows.row_of_text("x: sigma_max=4 noise_db=-40 tell_apart=false block=20 precision=float32", context(prior))
    assert fits.identity["settings"]["tell_apart"] is False


def test_tables_3_and_4_and_the_solvers_with_gradients(prior, tmp_path, monkeypatch, capsys):
    common = ["--data", DATA, "--prior", prior, "--limit", 1, "--min-clips", 2, "--steps", 4, "--no-pesq", "-q"]
    call(monkeypatch, "table3", *common, "--method", "hybrid@tiny", "-o", tmp_path)
    text = (tmp_path / "table3.md").read_text()
    assert "2 s: SI-SDR of successes" in text
    assert "| hybrid, tiny |" in text
    assert f"| *{MARK}: hybrid, attention U-Net* | *400* | *9.34* |" in text
    (file,) = (tmp_path / "results").glob("hybrid@tiny.*.jsonl")
    entries = [json.loads(line) for line in file.open()]
    assert [entry["audio_seconds"] for entry in entries] == [2.0, 4.0]
    for entry in entries:
        # Three of four steps, two sources, each with its way back.
        assert entry["forwards"] == entry["backwards"] == 6
        assert entry["consistent"], "a gradient solver's stems do not add up"
    assert "hybrid, tiny + consistency" in text

    call(monkeypatch, "table4", *common, "--seconds", 0.5, "--method", "hybrid", "--method", "time", "-o", tmp_path)
    text = (tmp_path / "table4.md").read_text()
    assert "| loss: time |" in text
    assert MARK not in text, "the paper's figures are those of mixtures of 4 s"


def test_a_report_of_nothing_is_refused_and_makes_no_folder(prior, tmp_path, monkeypatch, capsys):
    words = ["--data", DATA, "--prior", prior, "--min-clips", 2, "--seconds", 0.5, "--limit", 1, "--report-only"]
    call(monkeypatch, "table2", *words, "-o", tmp_path / "none", expect=2)
    assert "Nothing of table2 was measured in" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_figures_2_and_3(prior, tmp_path, monkeypatch, capsys):
    words = ["--data", DATA, "--prior", prior, "--min-clips", 2, "--steps", 4, "--seconds", 0.5, "-q", "-o", tmp_path]
    call(monkeypatch, "figure2", *words, "--report-only")
    assert "Traced so far: 0 of 1 mixtures." in capsys.readouterr().out
    assert not (tmp_path / "traces").exists()
    call(monkeypatch, "figure2", *words)
    assert "| hybrid | 1 |" in capsys.readouterr().out
    assert len(list(tmp_path.glob("figure2_*.png"))) == 1
    traces = {file: file.stat().st_mtime_ns for file in (tmp_path / "traces").iterdir()}
    assert len(traces) == 3
    call(monkeypatch, "figure2", *words)
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "traces").iterdir()} == traces
    call(monkeypatch, "figure3", "-q", "-o", tmp_path)
    assert "| DPS | 0.0020 |" in capsys.readouterr().out
    assert (tmp_path / "figure3.png").is_file()


def test_what_is_wrong_is_one_sentence(prior, tmp_path, monkeypatch, capsys):
    empty, choir = tmp_path / "empty.jsonl", tmp_path / "choir.jsonl"
    several = tmp_path / "several.jsonl"
    empty.touch()
    clips = read_manifest(DATA, "test")
    write_list(several, [*draw("two_sounds", 1, clips, DATA), *draw("speech_sound", 1, clips, DATA)])
    write_list(choir, [replace(one, task="choir") for one in draw("two_sounds", 1, read_manifest(DATA, "test"), DATA)])
    for words, says in [
        (["table9"], "no 'table9'"),
        (["table2"], "Say where the clips are"),
        (["table2", "--data", DATA, "--prior", prior, "--method", "magic"], "no method 'magic'"),
        (["table2", "--data", DATA, "--prior", prior, "--shard", "3/2"], "Write a shard as"),
        (["table2", "--data", DATA, "--prior", prior, "--task", "choir"], "no task 'choir'"),
        (["table3", "--data", DATA, "--prior", prior, "--task", "two_sounds"], "leave --task out"),
        (["table2", "--data", DATA, "--prior", prior, "--against", "magic"], "no method 'magic'"),
        (["table2", "--data", DATA, "--prior", prior, "--level", "loud", "--min-clips", "2"], "no level 'loud'"),
        (["table2", "--data", DATA, "--prior", prior, "--baseline", tmp_path], "not a trained baseline"),
        (["table2", "--data", DATA, "--prior", prior, "--form", "other"], "no form 'other'"),
        (["table2", "--data", DATA, "--prior", prior, "--mixtures", empty], "empty.jsonl' holds no mixtures"),
        (["table2", "--data", DATA, "--prior", prior, "--mixtures", choir], "has a task 'choir'"),
        (["table2", "--data", DATA, "--mixtures", choir, "--split", "valid"], "--split is about drawing mixtures"),
        (["table3", "--data", DATA, "--prior", prior, "--seconds", 3], "leave --seconds out"),
        (["table3", "--data", DATA, "--prior", prior, "--mixtures", several], "of the task two_speech, but '"),
        (["table4", "--data", DATA, "--prior", prior, "--mixtures", several], "several.jsonl' has two_sounds"),
        *[
            ([table, "--data", DATA, *words], f"{table} does not take {words[0]}: leave it out")
            for table, words in (
                ("table3", ["--row", "w: steps=3"]),
                ("table3", ["--baseline", tmp_path]),
                ("table4", ["--row", "w: nonsense=1"]),
                ("table4", ["--baseline", tmp_path / "nowhere"]),
                ("table4", ["--compare", "new=folder"]),
            )
        ],
        *[
            (["figure2", "--data", DATA, *words], f"figure2 does not take {words[0]}: leave it out")
            for words in (
                ["--method", "fast"],
                ["--row", "w: steps=3"],
                ["--compare", "new=folder"],
                ["--baseline", tmp_path],
                ["--against", "wiener"],
                ["--zero-mean"],
                ["--no-audio"],
            )
        ],
        (["figure3", "--data", DATA], "figure3 does not take --data"),
    ]:
        call(monkeypatch, *words, "--limit", 1, "-q", "-o", tmp_path / "out", expect=2)
        printed = capsys.readouterr()
        assert says in printed.err
        assert printed.err.count("\n") == 1
    assert shard_of("2/3") == (1, 3)


def outcome(index: int, value: float, task: str = "two_speech", **more) -> Outcome:
    return Outcome(task, index, ["speech", "speech"], [value, value + 2], [value + 1] * 2, [0.0, 0.0], 2.0, 4.0, **more)


def line(name: str, values: dict[str, Outcome], column=("two_speech", 4.0)) -> grids.Line:
    return grids.Line(name, name, "", name, name, {column: values})


def test_figures_of_a_table_are_what_they_say():
    a = line("a", {str(i): outcome(i, v, pesq=[2.0, 3.0]) for i, v in enumerate([-5.0, 1.0, 3.0, 5.0])})
    b = line("b", {str(i): outcome(i, v - 1) for i, v in enumerate([-5.0, 1.0, 3.0])})
    grid = grids.table2([a, b], [("two_speech", 4.0)])
    assert grid.header == ["method", "mixtures", "2 speech: SI-SDR", "PESQ", "failures"]
    assert grid.rows[0][0:2] == ["a", "4"]
    assert grid.rows[0][2].startswith("2.00 (")
    assert grid.rows[0][3:] == ["2.50", "25.0 %"]
    assert grid.rows[1][1:2] + grid.rows[1][3:] == ["3", "–", "33.3 %"]
    compared = grids.differences([a, b], [("two_speech", 4.0)], "a")
    assert compared.rows == [["a", "–"], ["b", "-1.00 (-1.00 to -1.00) n=3"]]
    detail = grids.details([a], ("two_speech", 4.0), [("two_speech", 4.0)])
    assert detail.rows[0][2:5] == ["2.00", "25.0 %", "4.00"]
    assert "<td>2.50</td>" in grid.html()


def test_a_coins_toss_is_no_failure_rate():
    # SI-SDR of unprocessed mixtures is not 0 but near it, and may be either way; here the stems are halves of it.
    def halves(index: int, value: float, gain: float) -> Outcome:
        return replace(outcome(index, 0.0), si_sdr=[value, -value + gain], unprocessed=[value, -value])

    column = ("two_speech", 4.0)
    wiener_, better = (
        line(name, {str(i): halves(i, v, gain) for i, v in enumerate([-0.3, 0.2])})
        for name, gain in (("wiener", -0.002), ("better", -1.0))
    )
    assert [row[-1] for row in grids.table2([wiener_, better], [column]).rows] == [grids.NONE, "100.0 %"]
    assert [row[3:5] for row in grids.details([wiener_], column, [column]).rows] == [[grids.NONE, grids.NONE]]
    assert grids.table3([wiener_], [column]).rows[0][2:4] == [grids.NONE, grids.NONE]


def test_table_4_has_the_papers_figures_where_the_mixtures_are_like_the_papers(tmp_path):
    def made(column: tuple[str, float]) -> grids.Grid:
        loss = replace(line("time", {"m": outcome(0, 1.0, column[0])}, column), published="time")
        return grids.table4([loss], [column])

    assert [MARK, "400", "13.65", "-0.66", "1.71", "-0.41"] in made(("speech_sound", 4.0)).rows
    assert len(made(("speech_sound", 2.0)).rows) == 1
    assert made(("two_sounds", 4.0)).title.endswith("2 sounds")
    two = [spec for s in (2.0, 4.0) for spec in draw("speech_sound", 1, read_manifest(DATA, "test"), DATA, seconds=s)]
    write_list(tmp_path / "two.jsonl", two)
    with pytest.raises(UserError, match="of table4 are of one length"):
        lists.given_columns(tmp_path / "two.jsonl", 1, "table4")


def test_rows_are_compared_with_one_that_was_measured(prior):
    table = rows.table2(context(prior))

    def chosen(*names: str, wanted: str = "posterior_mean", of: list[rows.Row] = table) -> tuple[str, str]:
        return grids.compared_with([line(name, {"m": outcome(0, 1.0)}) for name in names], of, wanted)

    assert chosen("unprocessed", "dps", "posterior_mean", "wiener") == ("posterior_mean", "")
    name, said = chosen("unprocessed", "posterior_mean_fast", "wiener")
    assert name == "posterior_mean_fast"
    assert said == (
        "Rows are compared with posterior mean, preset fast, as posterior mean, preset default is not measured (yet)."
    )
    assert chosen("unprocessed", "wiener", "nmf", wanted="hybrid")[0] == "wiener"
    assert chosen("unprocessed")[0] == chosen()[0] == ""
    assert "posterior mean, preset default is not measured (yet)" in chosen()[1]
    third = rows.table3(context(prior))
    assert chosen("unprocessed", "hybrid@tiny", "posterior_mean@tiny", of=third) == ("posterior_mean@tiny", "")
    # Ablations without the whole: no differences, and the table says why.
    partly = grids.table4([line("time", {"m": outcome(0, 1.0)}, ("speech_sound", 4.0))], [("speech_sound", 4.0)])
    assert partly.rows[0][3] == partly.rows[0][5] == grids.NONE
    assert "not measured (yet)" in partly.note


def test_a_report_says_what_it_lacks(prior, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sourceprior.metrics.pesq_known", lambda: False)
    words = ["--task", "two_speech", "--seconds", 1, "--no-audio", "--limit", 2, "-q", "-o", tmp_path]
    rows_ = ["--method", "unprocessed", "--method", "wiener"]
    call(monkeypatch, "table2", "--data", DATA, "--prior", prior, *words, *rows_)
    told = capsys.readouterr()
    text, page = (tmp_path / "table2.md").read_text(), (tmp_path / "table2.html").read_text()
    (note,) = told.err.splitlines()
    assert note.startswith("Note: PESQ is not measured")
    for found in (text, page):
        assert "as the package pesq is missing: pip install" in found
        assert "Rows are compared with fixed Wiener filters, as posterior mean, preset default is not" in found
        assert "Difference in SI-SDR to fixed Wiener filters" in found
        assert "random offsets for all, speech included" in found
        assert "joined utterances" not in found
    assert "No stems of it are kept for 2 speech, 1 s." in page


def test_what_is_said_of_offsets_is_so():
    columns = [("speech_sound", 3.0), ("two_speech", 3.0)]
    for speech_as, says in [("joined", "speech has none"), ("single", "random offsets for all, speech included")]:
        assert says in lists.describe("test", "whole", speech_as, "commercial", 0, None)
        drawn = lists.draw_columns(columns, 12, DATA, "test", set(LABELS), min_clips=2, speech_as=speech_as)
        parts = []
        for spec in (spec for own in drawn for spec in own):
            spans = [active_span(wave) for wave in render(spec, DATA)]
            (a, b), (c, d) = spans
            assert min(b, d) - max(a, c) >= 0.5 * min(b - a, d - c)
            for source in (source for source in spec.sources if source.label == "speech"):
                first, length = source.pieces[0], sum(piece.stop - piece.start for piece in source.pieces)
                if speech_as == "joined":
                    assert (first.at, length) == (0, spec.samples)
                else:
                    assert len(source.pieces) == 1
                    parts.append(first.at / (spec.samples - length))
        if speech_as == "single":
            # Somewhere in the room that is left, everywhere alike.
            assert len(set(parts)) == 36
            assert min(parts) < 0.2
            assert max(parts) > 0.8
            assert np.mean(parts) == pytest.approx(0.5, abs=0.15)


def test_rows_of_one_cost_stand_side_by_side_in_the_picture():
    costs = [0.0, 300.0, 300.0, 0.0, 8.0, 0.0, 300.0]
    found = pictures.places(costs)
    free = [found[0], found[3], found[5]]
    assert free == sorted(free)
    assert all(later > 1.5 * earlier for earlier, later in itertools.pairwise(free))
    assert pictures.NO_NETWORK[0] < free[0] < free[-1] < pictures.NO_NETWORK[1]
    assert found[1] < found[2] < found[6]
    assert [found[i] for i in (1, 2, 6)] == pytest.approx([300] * 3, rel=0.1)
    assert found[4] == pytest.approx(8, rel=0.01)


def test_the_consistency_step_is_a_line_of_its_own(tmp_path):
    plain = outcome(0, 1.0, residual_db=-8.0, consistent=[3.0, 5.0], consistent_best=[4.0, 4.0])
    row = rows.unprocessed()
    records = Records(tmp_path, row, {})
    records.add("m", plain)
    one, two = grids.lines_of([row], [Records(tmp_path, row, {})], {"m": 4.0, "other": 4.0})
    assert (one.name, two.name) == ("unprocessed", "unprocessed+consistency")
    assert grids.table2([two], [("two_speech", 4.0)]).rows[0][2] == "4.00"


def test_the_papers_figures_are_consistent_with_each_other():
    full = TABLE4["hybrid"]
    assert full == {name: TABLE2["hybrid"]["speech_sound"][name] for name in ("si_sdr", "pesq")}
    for name, change in [("t200", -4.10), ("t175", -0.58), ("t100", -0.24), ("time", -0.66), ("time_group", -1.11),
                         ("time_stft", -1.28), ("floor_0.005", -0.11), ("floor_0.001", -0.39)]:  # fmt: skip
        assert TABLE4[name]["si_sdr"] - full["si_sdr"] == pytest.approx(change, abs=1e-9)
    assert all(set(row) == set(TASKS) for row in TABLE2.values())


def test_the_time_left_is_what_the_rows_take(tmp_path):
    specs = draw("two_sounds", 4, read_manifest(DATA, "test"), DATA, seconds=0.25)

    def slow(mixture, rate, labels, seed):
        time.sleep(0.05)
        return np.stack([mixture, mixture])

    row = replace(rows.unprocessed(), make=lambda labels, _: rows.Ready(slow))
    left = []
    run([row], [specs], DATA, tmp_path, {}, keep_audio=False, tell=lambda d, n, s, text: left.append((d, n, s)))
    assert [(done, total) for done, total, _ in left] == [(i, 4) for i in range(1, 5)]
    # Three more of 0.05 s at least; how much more is the machine's.
    assert left[0][2] > 0.15
    assert left[-1][2] == 0


def test_the_time_left_is_unknown_until_every_row_was_timed(tmp_path):
    clips = read_manifest(DATA, "test")
    (two,), (three,) = draw("two_sounds", 1, clips, DATA), draw("three_sounds", 1, clips, DATA)

    def timed(sources: int, seconds: float) -> Outcome:
        task = two if sources == 2 else three
        return Outcome(task.task, 0, task.labels, [], [], [], seconds, 4.0)

    spent = Spent([Records(tmp_path, rows.unprocessed(), {})] * 2)
    spent.add(0, timed(2, 2.0), 2.5)
    assert spent.left([(two, 0), (two, 0)]) == pytest.approx(2 * 2.5)
    # A quick row says nothing of a slow one that has not run yet.
    assert np.isnan(spent.left([(two, 0), (two, 1)]))
    spent.add(1, timed(2, 60.0), 60.5)
    # Three sources take half as long again, as long as nothing else is known; later the machine got busier.
    assert spent.left([(two, 0), (three, 1)]) == pytest.approx(2.5 + 90.5)
    for _ in range(20):
        spent.add(1, timed(2, 120.0), 120.5)
    assert spent.left([(two, 1)]) == pytest.approx(120.5)
    assert spent.left([]) == 0


def test_a_mixture_is_known_by_all_that_makes_it():
    clips = read_manifest(DATA, "test")
    (spec,) = draw("two_sounds", 1, clips, DATA)
    assert mixture_digest(spec) == mixture_digest(draw("two_sounds", 2, clips, DATA)[0])
    source = replace(spec.sources[0], gain=spec.sources[0].gain * 1.001)
    assert mixture_digest(replace(spec, sources=(source, *spec.sources[1:]))) != mixture_digest(spec)
    assert lists.columns_of("table3", None, 4.0) == [("two_speech", 2.0), ("two_speech", 4.0)]


def test_unprocessed_costs_nothing(tmp_path):
    specs = draw("two_sounds", 1, read_manifest(DATA, "test"), DATA, seconds=0.25)
    row = replace(rows.unprocessed(), make=lambda labels, _: rows.Ready(baseline("unprocessed", [], labels)))
    (records,) = run([row], [specs], DATA, tmp_path, {}, keep_audio=False)
    (only,) = records.outcomes.values()
    assert (only.forwards, only.backwards, only.consistent) == (0, 0, [])
    assert only.si_sdr == only.unprocessed


class Epsilon(torch.nn.Module):
    """The smallest ε-network."""

    condition = "timestep"

    def forward(self, state, condition, label):
        return 0.1 * state


def test_bad_train_clips_and_missing_ones_cost_only_what_learns(prior, tmp_path, monkeypatch, capsys):
    data = tmp_path / "data"
    shutil.copytree(DATA, data)
    first, second = sorted((data / "sound" / "train" / "rain").iterdir())
    first.write_bytes(b"broken")
    words = ["table2", "--data", data, "--prior", prior, "--limit", 8, "--method", "unprocessed", "--method", "wiener"]
    words += ["--task", "two_sounds", "--seconds", 0.5, "--min-clips", 2, "--no-audio", "-q", "-o"]
    call(monkeypatch, *words, tmp_path / "one")
    said = "Fixed Wiener filters: left out 1 of the training clips, broken or silent."
    assert capsys.readouterr().err == f"Note: {said}\n"
    assert said in (tmp_path / "one" / "table2.md").read_text()
    assert "| fixed Wiener filters | 8 |" in main_table(tmp_path / "one")
    soundfile.write(second, np.zeros(8000), 16000)
    bad: dict[str, str] = {}
    with pytest.raises(NothingToLearn, match="All training clips of 'rain' are broken or silent"):
        nmf.learn(read_manifest(data, "train"), ["rain"], bad=bad)
    assert sorted(bad.values()) == ["broken", "silent"]
    # All three classes are in the lists, so that the row cannot be made.
    call(monkeypatch, *words, tmp_path / "two")
    assert "Note: Fixed Wiener filters: not measured. All training clips of 'rain'" in capsys.readouterr().err
    text = (tmp_path / "two" / "table2.md").read_text()
    assert "| unprocessed | 8 |" in text
    assert "| fixed Wiener" not in text
    # Data that is there to measure only.
    rows_ = (data / "manifest.csv").read_text().splitlines(keepends=True)
    (data / "manifest.csv").write_text("".join(row for row in rows_ if ",train," not in row))
    for more in ([], ["--report-only"]):
        call(monkeypatch, *words, tmp_path / "three", *more)
        assert "| unprocessed | 8 |" in main_table(tmp_path / "three")
        told = capsys.readouterr().err
        assert bool(more) or "Note: Fixed Wiener filters: not measured. '" in told


def test_networks_are_counted_whatever_steps_they_are_told(tmp_path):
    own = SourcePrior("eps", VPDenoiser(Epsilon()), ("Bark", "rain", "Saxophone"), 16000, 0.075, "CC0-1.0")
    priors = rows.PriorSet.of("eps", [own])
    specs = draw("two_sounds", 1, read_manifest(DATA, "test"), DATA, seconds=0.25)
    for form in ("paper", "released"):
        settings = rows.settings_of(form, solver="gradient", steps=4, options={"start": 2, "run_all": False})
        row = rows.on_priors(form, form, "", False, settings, priors, "cpu")
        (records,) = run([row], [specs], DATA, tmp_path, {}, keep_audio=False)
        (only,) = records.outcomes.values()
        # Three steps, two sources.
        assert (only.forwards, only.backwards) == (6, 6), form


def test_a_page_is_made_of_finished_runs(tmp_path, monkeypatch, capsys):
    call(monkeypatch, "figure3", "--steps", 20, "-q", "-o", tmp_path / "run")
    script = Path(__file__).parent.parent / "benchmarks" / "results.py"
    page = tmp_path / "docs" / "results.md"
    command = [sys.executable, str(script), str(tmp_path / "run"), "-o", str(page), "--note", "On two cores."]
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0
    text = page.read_text()
    assert "    sourceprior benchmark figure3 --steps 20" in text
    assert "On two cores." in text
    (picture,) = re.findall(r"!\[.*\]\((.*)\)", text)
    words = ["--task", "two_sounds", "--seconds", 1, "--min-clips", 2, "--no-pesq", "--limit", 2, "-q"]
    call(monkeypatch, "table2", "--data", DATA, *words, "--method", "unprocessed", "-o", tmp_path / "run")
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0
    kept = page.with_suffix("") / "run"
    measured = {file.relative_to(kept) for file in kept.rglob("*") if file.is_file()}
    assert {file.suffix for file in measured} == {".json", ".jsonl", ".txt"}
    assert all((kept / file).read_bytes() == (tmp_path / "run" / file).read_bytes() for file in measured)
    # What was kept is gone on from: nothing is measured again.
    lines = {file: (kept / file).stat().st_mtime_ns for file in measured if file.parent.name == "results"}
    call(monkeypatch, "table2", "--data", DATA, *words, "--method", "unprocessed", "-o", kept)
    assert "| unprocessed | 2 |" in (kept / "table2.md").read_text()
    assert lines == {file: (kept / file).stat().st_mtime_ns for file in lines}
    assert len(lines) == 2
    assert (page.parent / picture).stat().st_size > 1000
    assert str(tmp_path) not in text
    empty = subprocess.run([*command[:2], str(tmp_path), "-o", str(page)], check=False, capture_output=True, text=True)
    assert empty.returncode == 1
    assert "holds no report" in empty.stderr
