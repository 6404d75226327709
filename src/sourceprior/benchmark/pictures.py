"""The report's pictures: SI-SDR against network evaluations, and its distribution per task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sourceprior.benchmark.files import in_place
from sourceprior.benchmark.grids import TITLES, Line, si_sdr_of
from sourceprior.metrics import bootstrap_interval

Column = tuple[str, float]


def evaluations(lines: Sequence[Line], columns: Sequence[Column], path: Path) -> None:
    """One panel per task: mean SI-SDR with its interval over network evaluations, forward and backward together."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1 + 3.6 * len(columns), 4.2), layout="constrained")
    panels = figure.subplots(1, len(columns), squeeze=False)[0]
    own = [line for line in lines if line.name == line.of]
    for panel, column in zip(panels, columns, strict=True):
        for number, line in enumerate(own):
            found = list(line.outcomes.get(column, {}).values())
            if not found:
                continue
            values = np.array([si_sdr_of(outcome) for outcome in found])
            low, high = bootstrap_interval(values)
            cost = float(np.mean([outcome.forwards + outcome.backwards for outcome in found]))
            panel.errorbar(
                # Rows without a network stand at a tenth of an evaluation: a logarithm has no zero.
                max(cost, 0.1), values.mean(), [[values.mean() - low], [high - values.mean()]], fmt="os^Dv"[number % 5],
                color=f"C{number % 10}", label=line.title, capsize=3,
            )  # fmt: skip
        panel.set(xscale="log", xlabel="network evaluations (0.1: none)", title=_title(column, columns))
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("SI-SDR dB, 95 % interval")
    handles = {
        label: handle for panel in panels for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4, fontsize=8)
    _save(figure, path)


def distribution(lines: Sequence[Line], columns: Sequence[Column], path: Path) -> None:
    """One panel per task: every mixture's SI-SDR as a point, quartiles as a box, one row per method."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.5 + 3.2 * len(columns), 1.2 + 0.36 * len(lines)), layout="constrained")
    panels = figure.subplots(1, len(columns), squeeze=False, sharey=True)[0]
    scatter = np.random.default_rng(0)
    for panel, column in zip(panels, columns, strict=True):
        for place, line in enumerate(lines):
            values = np.array([si_sdr_of(outcome) for outcome in line.outcomes.get(column, {}).values()])
            if not len(values):
                continue
            panel.boxplot(values, positions=[place], orientation="horizontal", widths=0.6, showfliers=False)
            panel.plot(values, place + scatter.uniform(-0.2, 0.2, len(values)), ".", markersize=3, alpha=0.6,
                       color=f"C{place % 10}")  # fmt: skip
        panel.axvline(0, color="0.5", linewidth=0.8)
        panel.set(xlabel="SI-SDR dB", title=_title(column, columns))
        panel.set_yticks(range(len(lines)), [line.title for line in lines], fontsize=8)
        panel.set_ylim(len(lines) - 0.5, -0.5)
    _save(figure, path)


def _title(column: Column, columns: Sequence[Column]) -> str:
    task, seconds = column
    return TITLES[task] if len({other for _, other in columns}) == 1 else f"{TITLES[task]}, {seconds:g} s"


def _save(figure, path: Path) -> None:
    with in_place(path) as part:
        figure.savefig(part, format="png", dpi=100)
