"""Ways of making a prior selective, compared at equal cost: the same small network, clips, seeds and steps.

    python benchmarks/selectivity.py --data DATA [--steps 300] [--mixtures 20] -o docs/selectivity.md

Per way: denoising SNR on the valid split at sigma = 2 x RMS (own sources, wrong label, other sources), and SI-SDR of
one run of the default solver on valid mixtures of speech + sound and of two sounds.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from sourceprior import mixtures
from sourceprior.datasets import ClipBank, read_manifest
from sourceprior.evaluation import FLOOR_DB
from sourceprior.metrics import si_sdr
from sourceprior.priors import Source, SourcePrior
from sourceprior.runs import describe, finish, labels_of
from sourceprior.sampling import Settings as Solving
from sourceprior.sampling import solve
from sourceprior.selectivity import selectivity
from sourceprior.training import Settings, Trainer

WAYS = {
    "own clips only": {"negatives": "none"},
    "own clips only, one spectrum for all": {"negatives": "none", "shared_spectrum": True},
    "whole clips of others as silence": {"negatives": "whole"},
    "spliced clips of others as silence": {"negatives": "spliced"},
}
NETWORK = {"widths": (16, 36, 64, 96), "depths": (1, 1, 1, 1), "bottom": 192, "dilations": (1, 2, 4)}


def main() -> None:
    """Train each way, measure it, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--mixtures", type=int, default=20)
    parser.add_argument("-o", "--out", type=Path)
    args = parser.parse_args()

    clips, valid_clips = read_manifest(args.data, "train"), read_manifest(args.data, "valid")
    known = sorted({clip.label for clip in clips})
    bank, valid = ClipBank(clips, known), ClipBank(valid_clips, known)
    labels = labels_of("all", known)
    usable = mixtures.usable_labels(valid_clips, 2, known)
    base = Settings(labels, batch=args.batch, steps=args.steps, minutes=1e6, warmup=30, rate=3e-3, network=NETWORK)
    lines = [
        "| way | speech own | speech prior on sounds | sounds own | wrong label | sounds prior on speech "
        "| speech + sound, dB | two sounds, dB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for way, changes in WAYS.items():
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            trainer = Trainer(replace(base, **changes), bank, Path(folder))
            while trainer.step < args.steps:
                trainer.train_step()
            prior = finish(trainer, Path(folder) / "prior", describe(args.data, "commercial", clips, "all"))
        prior.denoiser.eval()
        figures = selectivity(prior.denoiser, labels, valid)
        cells = [
            figures[f"{case} @2"]
            for case in ("speech/own", "speech/on sounds", "sounds/own", "sounds/wrong label", "sounds/on speech")
        ]
        cells += [
            separation(prior, task, valid_clips, args.data, usable, args.mixtures)
            for task in ("speech_sound", "two_sounds")
        ]
        lines.append(f"| {way} | " + " | ".join(f"{value:.1f}" for value in cells) + " |")
        print(f"{lines[-1]}  ({time.monotonic() - began:.0f} s)", flush=True)
    print("\n".join(lines))
    if args.out:
        args.out.write_text("\n".join(lines) + "\n")


def separation(prior: SourcePrior, task: str, clips: list, root: Path, usable: list[str], count: int) -> float:
    """Mean SI-SDR in dB of one run of 12 steps over ``count`` valid mixtures."""
    values = []
    for spec in mixtures.draw(task, count, clips, root, labels=usable, seed=1, speech_as="joined"):
        truth = mixtures.render(spec, root)
        sources = [Source(prior, prior.index(label), label) for label in spec.labels]
        stems, _ = solve(torch.from_numpy(truth.sum(0)), sources, Solving(steps=12, candidates=1), seed=spec.index)
        values.append(float(np.maximum(si_sdr(stems.numpy(), truth), FLOOR_DB).mean()))
    return float(np.mean(values))


if __name__ == "__main__":
    main()
