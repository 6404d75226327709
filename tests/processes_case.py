"""Runs of several processes for test_processes: python processes_case.py FOLDER. Forked, so that torch is loaded once.

Writes losses_*.json: whole (2 processes, undisturbed), resumed (2 processes, killed by kill -9 and started again).
"""

import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from sourceprior import processes, training
from sourceprior.datasets import SPEECH, ClipBank, read_manifest
from sourceprior.examples import NULL
from sourceprior.objectives import measure_spectra
from sourceprior.training import Settings, Trainer

DATA = Path(__file__).parent / "data"
LABELS = (NULL, "Bark", "Saxophone", "rain", SPEECH)
STEPS = 6
SETTINGS = Settings(
    labels=LABELS, batch=4, drawn=2, seconds=0.5, steps=STEPS, minutes=1e6, warmup=2, compile=False, rate=3e-3,
    precision="fp32",
    network={"widths": (8, 16), "depths": (1, 1), "bottom": 16, "dilations": (1,), "condition": 16},
)  # fmt: skip


def few_draws(bank: ClipBank, labels: Sequence[str], shared: bool = False) -> torch.Tensor:
    """Spectra that take no time: rough ones do here."""
    return measure_spectra(bank, labels, draws=4, shared=shared)


def new_trainer(folder: Path, settings: Settings = SETTINGS, group: processes.Alone | None = None) -> Trainer:
    """A trainer on the clips of the tests."""
    return Trainer(settings, ClipBank(read_manifest(DATA, "train"), LABELS[1:]), folder, group=group)


def one_of_several(folder: Path, rank: int, port: int, name: str, delay: float) -> None:
    """Train as one process of two; the first writes the losses."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2")
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    trainer = new_trainer(folder, group=processes.find(torch.device("cpu")))
    trainer.resume()
    losses = []
    while trainer.step < STEPS:
        losses.append([trainer.step, float(trainer.train_step())])
        if trainer.step % 2 == 0:
            trainer.save()
            # So that there is time to be killed in the middle.
            time.sleep(delay)
    if rank == 0:
        weights = [parameter.double().sum().item() for parameter in trainer.averaged().parameters()]
        (folder / f"{name}.json").write_text(json.dumps({"losses": losses, "weights": weights}))


def start(folder: Path, port: int, name: str, delay: float = 0.0) -> list[int]:
    """Fork two processes; their ids."""
    children = []
    for rank in range(2):
        child = os.fork()
        if child == 0:
            try:
                one_of_several(folder, rank, port, name, delay)
            finally:
                sys.stdout.flush()
                os._exit(0)
        children.append(child)
    return children


def free_port() -> int:
    """A port nobody listens on."""
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def finish(children: list[int]) -> None:
    """Wait for processes, all of which are to come to a good end."""
    if any([os.waitpid(child, 0)[1] for child in children]):
        raise SystemExit("a process failed")


def main(out: Path) -> None:
    """An undisturbed run, and one that is killed and resumed."""
    training.measure_spectra = few_draws
    for folder in ("whole", "killed"):
        (out / folder).mkdir()
    finish(start(out / "whole", free_port(), "whole"))
    children = start(out / "killed", free_port(), "never", delay=1.0)
    while not (out / "killed" / "last.pt").exists():
        for child in children:
            if os.waitpid(child, os.WNOHANG)[0]:
                raise SystemExit("a process ended before it was killed")
        time.sleep(0.01)
    for child in children:
        os.kill(child, signal.SIGKILL)
    for child in children:
        os.waitpid(child, 0)
    finish(start(out / "killed", free_port(), "resumed"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
