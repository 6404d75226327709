"""`sourceprior train` in two processes of torchrun's agent, for test_torchrun: python torchrun_case.py FOLDER.

Forked, so that torch is loaded once. FOLDER/whole is an undisturbed run. In FOLDER/killed one process is killed by
kill -9 after the checkpoint of step 2, which ends both; then the command is given again.
"""

import os
import signal
import sys
from pathlib import Path

import tensorboard.summary.writer.event_file_writer  # noqa: F401  What every process would otherwise load again.
import torch
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

import processes_case as case
from sourceprior import training
from sourceprior.commands.train import train

STEPS = 5
TINY = [
    "network.widths=[8,16]", "network.depths=[1,1]", "network.bottom=16", "network.dilations=[1]",
    "network.condition=16", "seconds=0.5", "drawn=2",
]  # fmt: skip
step_of = training.Trainer.train_step


def step_or_die(self: training.Trainer) -> torch.Tensor:
    """A step; the fourth one is the end of the second process."""
    if self.group.rank == 1 and self.step == 3:
        (self.folder / "was_killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return step_of(self)


def one_of_several(out: str, killed: bool) -> None:
    """What torchrun starts: the command, with a small network and rough spectra."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    torch.set_num_threads(1)
    training.measure_spectra = case.few_draws
    if killed:
        training.Trainer.train_step = step_or_die  # type: ignore[method-assign]
    train(
        str(case.DATA), Path(out), sources="all", steps=STEPS, batch=4, save_steps=2, change=TINY, compile=False,
        precision="fp32", report=False, device="cpu", until=1e9,
    )  # fmt: skip


def launch(folder: Path, name: str, killed: bool = False) -> None:
    """What torchrun --standalone --nproc-per-node 2 does with a command, here with a function. Raises as it fails."""
    config = LaunchConfig(
        1, 1, 2, run_id=name, rdzv_backend="c10d", rdzv_endpoint="127.0.0.1:0", local_addr="127.0.0.1",
        max_restarts=0, start_method="fork", shutdown_timeout=5,
    )  # fmt: skip
    elastic_launch(config, one_of_several)(str(folder / name), killed)


def main(folder: Path) -> None:
    """Both runs."""
    for name in ("whole", "killed"):
        (folder / name).mkdir()
    launch(folder, "whole")
    try:
        launch(folder, "killed", True)
    except ChildFailedError:
        launch(folder, "killed")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
