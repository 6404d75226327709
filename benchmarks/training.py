"""Throughput of training: clips per second of a whole step, and of drawing its examples alone.

    python benchmarks/training.py --recipe compact --data DATA
    python benchmarks/training.py --recipe paper --batch 12 --device cuda --compile --data DATA
    torchrun --nproc-per-node 4 benchmarks/training.py --recipe compact --batch 512 --device cuda --compile --data DATA

Weights are in channels_last order and products in bfloat16, as `sourceprior train` has them; `--precision fp32` and
`--no-compile` show what these bring. The first steps, which compile and search, do not count. On a GPU the peak of its
memory is printed, else the process's.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import torch

from sourceprior import processes, recipes
from sourceprior.corpus import Corpus
from sourceprior.objectives import rows_of
from sourceprior.runs import labels_of
from sourceprior.sampling import find_device
from sourceprior.training import Trainer


def main() -> None:
    """Measure and print one row of a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--recipe", default="compact")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--precision", choices=("bf16", "fp32"))
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction)
    parser.add_argument("--set", action="append", default=[], help="as for `sourceprior train`")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--warmup", type=int, default=3, help="steps that do not count")
    parser.add_argument("--least", type=float, default=20.0, help="seconds to measure for")
    args = parser.parse_args()

    place = find_device(args.device)
    group = processes.find(place)
    place = group.device(place)
    changes = {"batch": args.batch, "precision": args.precision, "compile": args.compile}
    settings = recipes.settings(args.recipe, (), changes, args.set)
    corpus = Corpus(args.data, device=place)
    known = corpus.labels()
    bank = corpus.bank(known, settings.memory, settings.batch * settings.seconds)
    settings.labels = rows_of(labels_of("all", known), settings)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(settings, bank, Path(folder), group=group)
        for _ in range(args.warmup):
            trainer.train_step()
        steps, seconds = measure(trainer.train_step, args.least, place, group)
        draws, drawing = measure(lambda: trainer.batch(1_000_000), args.least / 4, place, group)
    if group.rank:
        return
    name = torch.cuda.get_device_name(place) if place.type == "cuda" else f"cpu, {torch.get_num_threads()} threads"
    peak = (
        torch.cuda.max_memory_allocated(place) / 1e9
        if place.type == "cuda"
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    )
    print("| recipe | device | processes | batch x s | precision | compiled | clips/s | drawn/s | peak GB |")
    print("|---|---|---|---|---|---|---|---|---|")
    print(
        f"| {args.recipe} | {name} | {group.count} | {settings.batch} x {settings.seconds:g} | {trainer.precision} | "
        f"{'yes' if settings.compile else 'no'} | {settings.batch * steps / seconds:.2f} | "
        f"{settings.batch * draws / drawing:.1f} | {peak:.1f} |"
    )


def measure(work, least: float, place: torch.device, group: processes.Alone) -> tuple[int, float]:
    """Calls of ``work`` in at least so many seconds, as the first process counts them, and the seconds they took."""
    wait(place)
    count, began, taken = 0, time.perf_counter(), 0.0
    while taken < least:
        work()
        count += 1
        wait(place)
        taken = group.agree([time.perf_counter() - began])[0]
    return count, taken


def wait(place: torch.device) -> None:
    """Until a GPU has done what it was given."""
    if place.type == "cuda":
        torch.cuda.synchronize(place)


if __name__ == "__main__":
    main()
