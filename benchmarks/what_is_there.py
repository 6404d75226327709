"""What `separate` and `listen` say of what is in a recording, on mixtures whose sources are known.

    OMP_NUM_THREADS=1 python benchmarks/what_is_there.py --data DATA -n 20 [--seconds 4] [--parts warned listen]

Valid mixtures, one speech + one sound and two sounds, of 4 s or longer (a sound is as long as its clip). Of each:

warned    it is separated into its sources and one that is not there, and into its first source and that one: how often
          the missing one is warned of, and the others
listen    ranks all labels: where its sources come
residual  it is separated into its first source and the residual (`--residual stem`): SI-SDR of both
"""

from __future__ import annotations

import argparse
import random
import tempfile
from pathlib import Path

import numpy as np

from sourceprior import mixtures, separate, writing
from sourceprior.datasets import read_manifest
from sourceprior.formats import FileFormat
from sourceprior.labels import ANYTHING
from sourceprior.library import load_priors
from sourceprior.listening import is_kind, rank
from sourceprior.metrics import bootstrap_interval, si_sdr

PARTS = ("warned", "listen", "residual")


def main() -> None:
    """Measure, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--preset", default="fast")
    parser.add_argument("-n", "--count", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of a mixture")
    parser.add_argument("--lower", type=float, default=0.0, help="dB that the last source is lower than it was drawn")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--seed", type=int, default=12, help="of the lists of mixtures")
    args = parser.parse_args()
    clips = read_manifest(args.data, "valid")
    known = {label for prior in load_priors(None) for label in prior.labels}
    usable = mixtures.usable_labels(clips, 2, known)
    kinds = sum(is_kind(label) for label in known)
    print("| | speech + sound | two sounds |\n|---|---|---|")
    columns = [measure(task, args, clips, usable) for task in ("speech_sound", "two_sounds")]
    for name in columns[0]:
        print(f"| {name} | " + " | ".join(column[name] for column in columns) + " |")
    print(f"\n{args.count} mixtures each, {kinds} labels to rank.")


def measure(task: str, args: argparse.Namespace, clips: list, usable: list[str]) -> dict[str, str]:
    """The figures of one task."""
    warned: dict[str, list[bool]] = {}
    ranks: list[int] = []
    gains = []
    pick = random.Random(args.seed)
    for spec in mixtures.draw(
        task, args.count, clips, args.data, labels=usable, seed=args.seed, seconds=args.seconds,
        speech_as="single" if args.seconds <= 4 else "joined",
    ):  # fmt: skip
        truth = mixtures.render(spec, args.data)
        truth[-1] *= 10 ** (-args.lower / 20)
        mixture = mixtures.mix(truth)
        absent = pick.choice([label for label in usable if label not in (*spec.labels, ANYTHING)])
        if "warned" in args.parts:
            for what, there in (("all sources named", spec.labels), ("one source named", spec.labels[:1])):
                result = separate(mixture, spec.sample_rate, [*there, absent], preset=args.preset, seed=spec.index)
                # Its first word is the stem that a warning is of.
                told = {note.split()[0] for note in result.report["warnings"] if "may not be in the recording" in note}
                *present, missing = result.stems
                warned.setdefault(f"{what}: one that is not there is warned of", []).append(missing in told)
                warned.setdefault(f"{what}: one that is there is warned of", []).extend(n in told for n in present)
        if "listen" in args.parts:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "mix.wav"
                writing.write(path, mixture[None], spec.sample_rate, FileFormat())
                order = [label for label, _, _ in rank(path)]
            ranks += [1 + order.index(label) for label in spec.labels]
        if "residual" in args.parts:
            one = separate(mixture, spec.sample_rate, [spec.labels[0]], preset=args.preset, residual="stem")
            pair = [one.stems[spec.labels[0]], one.residual]
            gains.append([float(si_sdr(own, true)) for own, true in zip(pair, truth, strict=True)])
    cells = {name: f"{np.mean(found):.0%}" for name, found in warned.items()}
    if ranks:
        cells["listen: rank of a source, median (90 %)"] = f"{np.median(ranks):.0f} ({np.quantile(ranks, 0.9):.0f})"
        cells["listen: among the first five"] = f"{np.mean(np.array(ranks) <= 5):.0%}"
    for name, own in zip(("stem", "residual"), np.array(gains).T, strict=False):
        low, high = bootstrap_interval(own)
        cells[f"first source and --residual stem: SI-SDR of the {name}, dB"] = (
            f"{own.mean():.1f} ({low:.1f} to {high:.1f})"
        )
    return cells


if __name__ == "__main__":
    main()
