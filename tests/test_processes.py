"""Several processes are one: the same losses, and killed and resumed the same to the last bit."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import processes_case as case
from sourceprior import training
from sourceprior.errors import UserError
from sourceprior.processes import Alone
from sourceprior.training import Trainer


@pytest.fixture(autouse=True)
def rough_spectra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Average spectra from a few draws: measuring them well would take longer than training these networks."""
    monkeypatch.setattr(training, "measure_spectra", case.few_draws)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two processes, undisturbed; and killed by kill -9 after a checkpoint, and started again."""
    folder = tmp_path_factory.mktemp("processes")
    # A process of its own: forking one that has computed with torch may hang.
    subprocess.run([sys.executable, case.__file__, str(folder)], check=True, timeout=300)
    return folder


def test_two_processes_have_the_losses_of_one_with_twice_the_batch(runs: Path, tmp_path: Path) -> None:
    trainer = case.new_trainer(tmp_path)
    alone = [float(trainer.train_step()) for _ in range(case.STEPS)]
    both = [loss for _, loss in json.loads((runs / "whole" / "whole.json").read_text())["losses"]]
    assert both == pytest.approx(alone, rel=1e-4)
    # Not because the weights hardly move: other examples have other losses.
    assert max(alone) > 1.02 * min(alone)


def test_killed_and_resumed_is_bit_for_bit_the_undisturbed_run(runs: Path) -> None:
    whole = json.loads((runs / "whole" / "whole.json").read_text())
    resumed = json.loads((runs / "killed" / "resumed.json").read_text())
    assert not (runs / "killed" / "never.json").exists()
    begin = resumed["losses"][0][0]
    assert 0 < begin < case.STEPS
    assert resumed["losses"] == whole["losses"][begin:]
    assert resumed["weights"] == whole["weights"]


def test_accumulating_gradients_changes_rounding_only(tmp_path: Path) -> None:
    trainers = [case.new_trainer(tmp_path, replace(case.SETTINGS, accumulate=parts)) for parts in (1, 4)]
    losses = [[float(trainer.train_step()) for _ in range(4)] for trainer in trainers]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def test_a_process_draws_its_own_examples_only(tmp_path: Path) -> None:
    class Fourth(Alone):
        rank, count = 3, 4

    whole = case.new_trainer(tmp_path, replace(case.SETTINGS, drawn=1))
    fourth: Trainer = case.new_trainer(tmp_path, replace(case.SETTINGS, drawn=1), group=Fourth())
    drawn = []
    draw = fourth.objective.draw
    fourth.objective.draw = lambda bank, count, seed: drawn.append(count) or draw(bank, count, seed)  # type: ignore
    for own, all_of_them in zip(fourth.batch(2), whole.batch(2), strict=True):
        assert own.equal(all_of_them[3:])
    assert drawn == [1]


def test_a_batch_that_cannot_be_cut_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="3 equal parts"):
        case.new_trainer(tmp_path, replace(case.SETTINGS, accumulate=3))
