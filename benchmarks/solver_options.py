"""Settings of the default solver against each other: the same prior, valid mixtures and seeds.

    python benchmarks/solver_options.py --data DATA [-n 16] [--task speech_sound] 'steps=20' 'steps=20 temperature=0.3'

Each argument is one setting: fields of sampling.Settings and options of the solver. Prints mean SI-SDR per task in dB,
the paired difference to the first setting with its 95 % interval, and seconds per mixture.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch

from sourceprior import mixtures
from sourceprior.datasets import read_manifest
from sourceprior.evaluation import FLOOR_DB
from sourceprior.labels import find
from sourceprior.library import load_priors
from sourceprior.metrics import best_permutation, bootstrap_interval, si_sdr
from sourceprior.sampling import Settings, solve
from sourceprior.solver_choice import parse_options

OWN = {field.name for field in fields(Settings)} - {"options"}


def settings(text: str) -> Settings:
    """'steps=20 temperature=0.3' as Settings, solver options among them."""
    given = parse_options(text.split())
    own = {name: given.pop(name) for name in list(given) if name in OWN}
    return Settings(**own, options=given)


def main() -> None:
    """Run every setting on every task and print as it goes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="+")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--task", action="append")
    parser.add_argument("--prior", action="append")
    parser.add_argument("-n", "--count", type=int, default=16)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--speech", default="joined", help="as recorded in docs/experiments.md; or single")
    args = parser.parse_args()
    priors = load_priors(args.prior)
    clips = read_manifest(args.data, "valid")
    usable = mixtures.usable_labels(clips, 2, {label for prior in priors for label in prior.labels})
    for task in args.task or list(mixtures.TASKS):
        specs = mixtures.draw(task, args.count, clips, args.data, labels=usable, seed=args.seed, speech_as=args.speech)
        truths = [torch.from_numpy(mixtures.render(spec, args.data)) for spec in specs]
        first: np.ndarray | None = None
        for text in args.settings:
            values, began = [], time.monotonic()
            for spec, truth in zip(specs, truths, strict=True):
                stems, _ = solve(truth.sum(0), find(spec.labels, priors), settings(text), seed=spec.index)
                values.append(score(stems, truth, spec.labels))
            found = np.array(values)
            first = found if first is None else first
            low, high = bootstrap_interval(found - first)
            print(
                f"{task:18s} {text:40s} {found.mean():6.2f} dB  {(found - first).mean():+.2f} [{low:+.2f}, {high:+.2f}]"
                f"  {(time.monotonic() - began) / len(specs):.2f} s",
                flush=True,
            )


def score(stems: torch.Tensor, truth: torch.Tensor, labels: list[str]) -> float:
    """Mean SI-SDR of a mixture's stems, sources of one label in their best order; floored as in the evaluation."""
    order = best_permutation(stems.numpy(), truth.numpy(), labels)
    return float(np.maximum(si_sdr(stems.numpy()[list(order)], truth.numpy()), FLOOR_DB).mean())


if __name__ == "__main__":
    main()
