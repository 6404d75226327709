"""The training loss of one or more runs, as a picture.

    python benchmarks/curve.py runs/narrow_paper -o docs/narrow_curve.png

It reads what `sourceprior train` leaves for tensorboard in RUN/curves: means over the steps since the value before.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--tag", default="loss/train", help="the curve's name in the logs")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    figure, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
    for run in options.runs:
        steps, values = curve(run, options.tag)
        axes.plot(steps, values, ".-", label=run.name)
        print(run.name, ", ".join(f"to {step}: {value:.3f}" for step, value in zip(steps, values, strict=True)))
    axes.set(xlabel="step", ylabel=f"{options.tag}, mean since the point before", yscale="log")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(options.output, dpi=110)


def curve(run: Path, tag: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of one curve; a run that went on from a checkpoint has its later pieces' values."""
    found: dict[int, float] = {}
    for log in sorted((run / "curves").glob("events.*"), key=lambda path: path.stat().st_mtime):
        events = EventAccumulator(str(log), size_guidance={"scalars": 0}).Reload()
        if tag not in events.Tags()["scalars"]:
            raise SystemExit(f"{log} has no curve {tag!r}, but {', '.join(events.Tags()['scalars'])}.")
        found |= {event.step: event.value for event in events.Scalars(tag)}
    steps = np.array(sorted(found))
    return steps, np.array([found[step] for step in steps])


if __name__ == "__main__":
    main()
