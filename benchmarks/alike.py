"""Whether stems that correlate are stems that were not separated: correlation of two stems, and what both have gained.

    OMP_NUM_THREADS=1 python benchmarks/alike.py --data DATA -n 14

Valid mixtures of all tasks, a line per range of the correlation (`alike` of report.json) with the pairs of stems in it
and their improvement in SI-SDR on the mixture.
"""

from __future__ import annotations

import argparse
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np

from sourceprior import mixtures, separate
from sourceprior.datasets import read_manifest
from sourceprior.library import load_priors
from sourceprior.metrics import si_sdr

EDGES = (-1.0, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95, 1.01)


def main() -> None:
    """Separate, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--preset", default="fast")
    parser.add_argument("-n", "--count", type=int, default=14)
    parser.add_argument("--seed", type=int, default=7, help="of the lists of mixtures")
    args = parser.parse_args()
    clips = read_manifest(args.data, "valid")
    usable = mixtures.usable_labels(clips, 2, {label for prior in load_priors(None) for label in prior.labels})
    found: list[tuple[float, float]] = []
    for task in mixtures.TASKS:
        for spec in mixtures.draw(task, args.count, clips, args.data, labels=usable, seed=args.seed):
            truth = mixtures.render(spec, args.data)
            mixture = mixtures.mix(truth)
            result = separate(mixture, spec.sample_rate, list(spec.labels), preset=args.preset, seed=spec.index)
            stems = np.stack(list(result.stems.values()))
            gain = si_sdr(stems, truth) - si_sdr(np.broadcast_to(mixture, truth.shape), truth)
            alike = result.report["alike"]
            for (i, one), (j, other) in combinations(enumerate(result.stems), 2):
                found.append((alike[one][other], (gain[i] + gain[j]) / 2))
    print("| correlation | pairs | improvement, dB: mean | 10 % | median | 90 % | below 1 dB |\n" + "|---" * 7 + "|")
    pairs = np.array(found)
    for low, high in pairwise(EDGES):
        own = pairs[(pairs[:, 0] >= low) & (pairs[:, 0] < high), 1]
        if len(own):
            cells = [own.mean(), *np.quantile(own, [0.1, 0.5, 0.9])]
            figures = " | ".join(f"{value:.1f}" for value in cells)
            print(f"| {low:.2f} to {min(high, 1):.2f} | {len(own)} | {figures} | {(own < 1).mean():.0%} |")
    print(f"\ncorrelation of the two, over {len(pairs)} pairs: {np.corrcoef(pairs.T)[0, 1]:.2f}")


if __name__ == "__main__":
    main()
