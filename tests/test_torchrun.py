"""The command under torchrun: a process is killed, the command is given again, and nothing shows it."""

import subprocess
import sys
from pathlib import Path

import torch

import torchrun_case as case
from sourceprior.priors import SourcePrior


def test_killed_under_torchrun_and_called_again_is_bit_for_bit_the_undisturbed_run(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, case.__file__, str(tmp_path)], capture_output=True, text=True, timeout=900)
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert (tmp_path / "killed" / "was_killed").exists()
    whole, again = (torch.load(tmp_path / name / "last.pt", weights_only=True) for name in ("whole", "killed"))
    assert whole["step"] == again["step"] == case.STEPS
    for part in ("denoiser", "average"):
        assert all(torch.equal(whole[part][name], again[part][name]) for name in whole[part])
    # It went on from the checkpoint: a run that begins anew would come to the same weights.
    assert "going on from step 2" in ended.stdout
    assert SourcePrior.from_pretrained(tmp_path / "killed" / "prior").config["training"]["processes"] == 2
