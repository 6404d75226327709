"""Recipes: plain files, with the command line on top, and the paper's settings in one of them."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from sourceprior import recipes
from sourceprior.errors import UserError
from sourceprior.training import Settings

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_the_paper_s_settings() -> None:
    paper = recipes.settings("paper", ("speech",))
    assert (paper.backbone, paper.batch, paper.steps, paper.rate, paper.optimizer) == (
        "attention_unet", 12, 400_000, 1e-4, "adamw",
    )  # fmt: skip
    assert (paper.seconds, paper.network["width"], paper.precision, paper.negatives) == (4.0, 72, "bf16", "none")
    assert paper.ema_decay > 0


def test_compact_is_what_train_did_before_there_were_recipes() -> None:
    compact = recipes.settings("compact", ("speech",))
    assert compact == Settings(labels=("speech",), steps=1_000_000)


@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_can_be_read(name: str) -> None:
    assert isinstance(recipes.settings(name), Settings)


def test_the_command_line_wins(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text('backbone = "attention_unet"\nrate = 1\nbatch = 6\n[network]\nwidth = 16\nheads = 2\n')
    made = recipes.settings(own, changes={"batch": 8, "rate": None}, pairs=["network.width=32", "precision=fp32"])
    assert (made.batch, made.rate, made.precision, made.network) == (8, 1.0, "fp32", {"width": 32, "heads": 2})
    # The options of one network are not those of another.
    assert recipes.settings(own, changes={"backbone": "diffwave"}).network == {}


@pytest.mark.parametrize(
    ("recipe", "pairs", "says"),
    [
        ("papper", [], "compact, fine-tune or paper"),
        ("compact", ["bach=3"], "did you mean batch"),
        ("compact", ["batch=many"], "no int"),
        ("compact", ["batch"], "field=value"),
        ("compact", ["solver.steps=3"], "field=value"),
        ("compact", ["precision=fp8"], "bf16 or fp32"),
        ("compact", ["drawn=5"], "multiple of 5"),
        ("compact", ["rate=0"], "more than 0"),
    ],
)
def test_a_wrong_setting_says_so(recipe: str, pairs: list[str], says: str) -> None:
    with pytest.raises(UserError, match=says):
        recipes.settings(recipe, pairs=pairs)


@pytest.mark.parametrize("name", recipes.names())
def test_the_example_of_several_gpus_goes_with_every_recipe(name: str) -> None:
    pairs = re.findall(r"--set (\S+)", (EXAMPLES / "train_torchrun.sh").read_text())
    assert pairs
    made = recipes.settings(name, pairs=pairs)
    # A process draws no more than its own share, even of the smallest batch.
    assert made.drawn == 1


@pytest.mark.parametrize("status", [0, 3])
def test_the_slurm_example_ends_as_training_does(status: int, tmp_path: Path) -> None:
    for name, line in (("srun", f"exit {status}"), ("scontrol", "echo node1")):
        (tmp_path / name).write_text(f"#!/bin/bash\n{line}\n")
        (tmp_path / name).chmod(0o755)
    around = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_NODELIST": "node[1-2]", "SLURM_NNODES": "2",
              "SLURM_JOB_ID": "7"}  # fmt: skip
    ended = subprocess.run(["bash", str(EXAMPLES / "train_slurm.sh"), "DATA", "OUT"], env=around)
    assert ended.returncode == status


def test_a_file_that_is_no_toml_says_so(tmp_path: Path) -> None:
    (tmp_path / "broken.toml").write_text("batch = = 3")
    with pytest.raises(UserError, match="not TOML"):
        recipes.settings(tmp_path / "broken.toml")
