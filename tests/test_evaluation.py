"""Evaluation: figures that are known beforehand, and the command itself on real clips."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from sourceprior.datasets import read_manifest
from sourceprior.errors import Diverged, UserError
from sourceprior.evaluation import FLOOR_DB, Outcome, evaluate, peak_memory_mb, summarise, table, write_outcomes
from sourceprior.mixtures import draw, mix, read_list, render, write_list
from sourceprior.separators import BASELINES, baseline

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="module")
def specs():
    clips = read_manifest(DATA, "test")
    return [spec for task in ("speech_sound", "two_speech", "three_sounds") for spec in draw(task, 3, clips, DATA)]


def oracle(specs, change):
    """A separator that knows the sources and changes them."""
    known = {mix(render(spec, DATA)).tobytes(): render(spec, DATA) for spec in specs}
    return lambda mixture, rate, labels, seed: change(known[mixture.tobytes()], mixture)


def test_the_mixture_itself_improves_nothing(specs):
    for summary in summarise(list(evaluate(specs, DATA, baseline("unprocessed", [], [])))):
        assert summary.mixtures == 3
        assert summary.improvement == pytest.approx(0, abs=1e-9)
        assert summary.si_sdr == pytest.approx(-3.1 if summary.task == "three_sounds" else 0, abs=0.3)


def test_stems_with_a_known_error_get_its_figure(specs):
    def change(sources, mixture):
        noise = np.random.default_rng(0).standard_normal(sources.shape)
        return sources + 0.1 * noise * np.sqrt((sources**2).mean(1, keepdims=True))

    for outcome in evaluate(specs, DATA, oracle(specs, change)):
        assert outcome.si_sdr == pytest.approx([20] * len(outcome.labels), abs=0.2)
        assert outcome.audio_seconds == 4
    (summary, *_) = summarise(list(evaluate(specs, DATA, oracle(specs, change))))
    assert summary.failure_rate == 0
    assert summary.success_si_sdr == summary.si_sdr


def test_only_sources_of_one_label_may_be_swapped(specs):
    def swap(sources, mixture):
        return sources[::-1] + 1e-3 * mixture

    for outcome in evaluate(specs, DATA, oracle(specs, swap)):
        good = np.array(outcome.si_sdr) > 30
        assert np.array(outcome.best).min() > 30
        assert good.all() if outcome.task == "two_speech" else not good[0]


def test_a_silent_stem_counts_as_the_floor(specs):
    outcomes = list(evaluate(specs[:2], DATA, oracle(specs, lambda sources, mixture: 0 * sources)))
    assert all(value == FLOOR_DB for outcome in outcomes for value in outcome.si_sdr)
    (summary,) = summarise(outcomes)
    assert summary.failure_rate == 1
    assert np.isnan(summary.success_si_sdr)


def test_summary_and_table_of_made_up_outcomes():
    outcomes = [
        Outcome("t", i, ["a", "b"], [v, v + 2], [v, v + 2], [0.0, 0.0], seconds=2.0, audio_seconds=4.0)
        for i, v in enumerate([-3.0, 1.0, 5.0, 9.0])
    ]
    (summary,) = summarise(outcomes)
    assert (summary.si_sdr, summary.improvement, summary.failure_rate, summary.success_si_sdr) == (4, 4, 0.25, 6)
    assert summary.real_time == 0.5
    assert summary.si_sdr_interval[0] < 4 < summary.si_sdr_interval[1]
    last = table([summary]).splitlines()[-1]
    assert last.startswith("| t | 4 | 4.00 (")
    assert "| 25 % | 6.00 | 0.50 |" in last


def test_outcomes_are_kept_as_they_come(specs, tmp_path):
    running = write_outcomes(evaluate(specs, DATA, baseline("unprocessed", [], [])), tmp_path / "o.jsonl")
    first = next(running)
    (line,) = (tmp_path / "o.jsonl").read_text().splitlines()
    assert Outcome(**json.loads(line)) == first


@pytest.mark.parametrize("name", [name for name in BASELINES if name != "unprocessed"])
def test_baselines_cut_real_mixtures_into_stems_that_add_up(name, specs, tmp_path):
    train = read_manifest(DATA, "train")
    labels = ["speech", "Bark", "Saxophone", "rain"]
    file = tmp_path / "atoms.safetensors"
    separate = baseline(name, train, labels, dictionary=file)
    mixture = mix(render(specs[0], DATA))
    stems = separate(mixture, 16000, specs[0].labels, 0)
    assert stems.shape == (2, 64000)
    np.testing.assert_allclose(stems.sum(0), mixture, atol=1e-5)
    if name == "nmf":
        again = baseline(name, [], labels, dictionary=file)  # no clips: it must come from the file
        np.testing.assert_allclose(again(mixture, 16000, specs[0].labels, 0), stems, atol=1e-6)
        before = file.read_bytes()
        baseline(name, train, ["Bark", "rain"], dictionary=file)  # nothing is missing: nothing is lost
        assert file.read_bytes() == before


def test_the_pipeline_with_an_untrained_prior_is_the_wiener_filter_of_its_classes(specs):
    # A network that adds nothing leaves the class's Wiener filter; a pair of runs must come near that closed form.
    from sourceprior.baselines import wiener
    from sourceprior.denoisers import SpectralDenoiser
    from sourceprior.priors import SourcePrior
    from sourceprior.separators import with_priors

    class Nothing(torch.nn.Module):
        def forward(self, features, noise, label):
            return features.new_zeros(features.shape[0], 3, *features.shape[2:])

    labels = ("speech", "Bark", "Saxophone", "rain")
    spectra = wiener.learn(read_manifest(DATA, "train"), labels)
    level = 0.08
    power = torch.stack(list(spectra.values())) * level**2
    prior = SourcePrior("wiener", SpectralDenoiser(Nothing(), power, level), labels, 16000, level, "CC0-1.0")
    spec = specs[0]
    mixture = mix(render(spec, DATA))
    stems = with_priors([prior], candidates=2, steps=12)(mixture, 16000, spec.labels, 0)
    exact = wiener.separate(torch.from_numpy(mixture), torch.stack([spectra[label] for label in spec.labels])).numpy()
    distance = ((stems - exact) ** 2).sum() / (exact**2).sum()
    print(f"distance to the closed form {distance:.4f}")
    assert distance < 0.1


def test_the_command_prints_the_table_and_keeps_lists_and_outcomes(tmp_path, capsys, monkeypatch):
    from sourceprior import cli

    out = tmp_path / "out"
    words = f"evaluate --data {DATA} --task speech_sound -n 2 --min-clips 2 --solver wiener -q -o {out}"

    def call(text):
        monkeypatch.setattr(sys, "argv", ["sourceprior", *text.split()])
        try:
            cli.main()
        except SystemExit as stop:
            return stop.code or 0
        return 0

    assert call(words) == 0
    printed = capsys.readouterr().out
    assert "| speech_sound | 2 |" in printed
    assert "peak memory" in printed
    assert (out / "table.md").read_text() == printed
    assert len(read_list(out / "mixtures.jsonl")) == 2
    assert len((out / "outcomes.jsonl").read_text().splitlines()) == 2
    # The list of one run is the list of another, whatever the seed says.
    assert (
        call(f"evaluate --data {DATA} --mixtures {out / 'mixtures.jsonl'} --solver unprocessed -q --list-seed 9") == 0
    )
    assert "| speech_sound | 2 |" in capsys.readouterr().out
    assert call(f"evaluate --data {DATA} --task choir --solver unprocessed -q") == 2
    assert "no task 'choir'" in capsys.readouterr().err
    joined = f"{words.replace(str(out), str(tmp_path / 'joined'))} --speech"
    assert call(f"{joined} joined") == 0
    lengths = {
        folder: [sum(p.stop - p.start for p in spec.sources[0].pieces) for spec in read_list(folder / "mixtures.jsonl")]
        for folder in (out, tmp_path / "joined")
    }
    # One utterance leaves a part of the 4 s free, a speaker's utterances fill them, as far as there are enough.
    assert max(lengths[out]) < 63000 < min(lengths[tmp_path / "joined"])
    capsys.readouterr()
    assert call(f"{joined} sung") == 2
    assert "no form of speech 'sung'; choose single or joined" in capsys.readouterr().err
    # A wrong request takes nothing away.
    assert call(f"evaluate --data {DATA} --task speech_sound -n 2 --min-clips 2 --preset fsat -q -o {out}") == 2
    assert "no preset 'fsat'" in capsys.readouterr().err
    assert call(f"{words} --steps 3") == 2
    assert "wiener has no steps" in capsys.readouterr().err
    assert len((out / "outcomes.jsonl").read_text().splitlines()) == 2
    assert call(f"evaluate --data {tmp_path} --solver unprocessed -q") == 2
    assert "no manifest.csv" in capsys.readouterr().err


def test_peak_memory_is_plausible():
    assert 50 < peak_memory_mb() < 20_000


def test_too_few_classes_is_one_sentence():
    with pytest.raises(UserError, match="needs 0 speakers and 3 sound classes"):
        draw("three_sounds", 1, read_manifest(DATA, "test"), DATA, labels=["rain", "Bark"])


def test_a_solver_that_diverges_counts_as_the_floor_and_the_next_mixture_is_measured(specs):
    def separate(mixture, rate, labels, seed):
        if seed == 0:
            raise Diverged("The solver x diverged.")
        return np.stack([mixture] * len(labels))

    found = list(evaluate(specs[:3], DATA, separate))
    assert [outcome.si_sdr == [FLOOR_DB] * 2 for outcome in found] == [True, False, False]
    assert found[0].unprocessed[0] == pytest.approx(0, abs=3)


def test_of_a_list_as_many_mixtures_are_measured_as_asked_for(specs, tmp_path, capsys, monkeypatch):
    from sourceprior import cli

    write_list(tmp_path / "some.jsonl", specs)
    words = ["evaluate", "--data", DATA, "--mixtures", tmp_path / "some.jsonl", "--solver", "unprocessed", "-q"]

    def call(*more):
        monkeypatch.setattr(sys, "argv", ["sourceprior", *map(str, [*words, *more])])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code or 0, capsys.readouterr()

    code, printed = call("-n", 2)
    assert code == 0
    assert [line.split("|")[2].strip() for line in printed.out.splitlines()[2:5]] == ["2", "2", "2"]
    assert "unprocessed, some.jsonl, peak" in printed.out
    code, printed = call("--split", "valid")
    assert code == 2
    assert "leave out --mixtures or --split" in printed.err


def test_an_evaluation_goes_on_where_it_was_stopped(tmp_path, capsys, monkeypatch, prior_folders):
    from sourceprior import cli

    words = ["evaluate", "--data", DATA, "--task", "speech_sound", "--min-clips", 2, "-q", "-o", tmp_path / "out"]
    words += [word for folder in prior_folders for word in ("--prior", folder)]

    def call(*more):
        monkeypatch.setattr(sys, "argv", ["sourceprior", *map(str, [*words, *more])])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert not end.value.code
        return capsys.readouterr()

    whole = call("-n", 2, "--steps", 1)
    assert whole.err == ""
    first, second = (tmp_path / "out" / "outcomes.jsonl").read_text().splitlines()
    # As a killed run leaves its last line.
    (tmp_path / "out" / "outcomes.jsonl").write_text(f"{first}\n{second[:40]}")
    assert call("-n", 2, "--steps", 1).err == "1 of 2 mixtures were measured before.\n"
    lines = (tmp_path / "out" / "outcomes.jsonl").read_text().splitlines()
    assert lines[0] == first
    assert len(lines) == 2
    again = call("-n", 2, "--steps", 1)
    assert again.err.startswith("2 of 2")

    def figures(printed):
        # All but the seconds, the last column: one mixture was solved twice.
        return [line.split("|")[:-2] for line in printed.out.splitlines()[:3]]

    assert figures(again) == figures(whole)
    assert len(figures(whole)[2]) == 9
    assert call("-n", 2, "--steps", 2).err == ""
    # Whatever was measured stays: of other settings, of a baseline, of a longer list.
    words[:] = [word for word in words if word != "--prior" and word not in map(str, prior_folders)]
    words[:] = [word for word in words if word not in prior_folders]
    call("-n", 1, "--solver", "unprocessed")
    words += [word for folder in prior_folders for word in ("--prior", folder)]
    assert call("-n", 2, "--steps", 1).err.startswith("2 of 2")
    assert len((tmp_path / "out" / "outcomes.jsonl").read_text().splitlines()) == 5


def test_a_baseline_needs_no_speech_where_there_is_none(tmp_path, monkeypatch):
    from sourceprior import cli

    shutil.copytree(DATA, tmp_path / "data")
    table = tmp_path / "data" / "manifest.csv"
    table.write_text("\n".join(row for row in table.read_text().splitlines() if ",speech," not in row) + "\n")
    words = ["evaluate", "--data", tmp_path / "data", "--task", "two_sounds", "--min-clips", 2, "-n", 1, "-q"]
    monkeypatch.setattr(sys, "argv", ["sourceprior", *map(str, words), "--solver", "wiener"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert not end.value.code
