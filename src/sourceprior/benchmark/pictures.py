"""The report's pictures: SI-SDR against network evaluations, and its distribution per task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sourceprior.benchmark.files import in_place
from sourceprior.benchmark.grids import TITLES, Line, si_sdr_of
from sourceprior.evaluation import Outcome
from sourceprior.metrics import bootstrap_interval

Column = tuple[str, float]
NO_NETWORK = (0.05, 0.7)
"""Stretch of the axis of network evaluations for the rows that need none."""


def evaluations(lines: Sequence[Line], columns: Sequence[Column], path: Path) -> None:
    """One panel per task: mean SI-SDR with its interval over network evaluations, forward and backward together."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(6.5, 1 + 3.6 * len(columns)), 4.2), layout="constrained")
    panels = figure.subplots(1, len(columns), squeeze=False)[0]
    own = [line for line in lines if line.name == line.of]
    for panel, column in zip(panels, columns, strict=True):
        measured = {number: found for number, line in enumerate(own) if (found := _outcomes(line, column))}
        costs = [float(np.mean([o.forwards + o.backwards for o in found])) for found in measured.values()]
        for (number, found), place in zip(measured.items(), places(costs), strict=True):
            values = np.array([si_sdr_of(outcome) for outcome in found])
            low, high = bootstrap_interval(values)
            panel.errorbar(
                place, values.mean(), [[values.mean() - low], [high - values.mean()]], fmt="os^DvP*"[number % 7],
                color=f"C{number % 10}", label=own[number].title, capsize=3,
            )  # fmt: skip
        panel.set(xscale="log", xlabel="network evaluations", title=_title(column, columns))
        if 0 in costs:
            panel.axvspan(*NO_NETWORK, color="0.94", zorder=0)
            middle = float(np.sqrt(NO_NETWORK[0] * NO_NETWORK[1]))
            panel.text(
                middle, 0.98, "no network", transform=panel.get_xaxis_transform(), va="top", ha="center", fontsize=8
            )
        panel.xaxis.set_major_formatter(lambda value, _: f"{value:g}" if value >= 1 else "")
        low, high = panel.get_xlim()
        # Within a decade no power of ten may be there to read the axis by.
        panel.xaxis.set_minor_formatter(lambda value, _, near=high < 10 * low: f"{value:g}" if near else "")
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("SI-SDR dB, 95 % interval")
    handles = {
        label: handle for panel in panels for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    # As many beside one another as fit, and room for as many lines as that makes.
    beside = max(1, min(4, int(figure.get_figwidth() / 2.3)))
    figure.set_figheight(3.8 + 0.2 * -(-len(handles) // beside))
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=beside, fontsize=8)
    _save(figure, path)


def places(costs: Sequence[float]) -> list[float]:
    """Where rows stand on the axis of network evaluations: those of (nearly) one cost side by side, in their order.

    Rows without a network share NO_NETWORK, as a logarithm has no zero; the others stay within a tenth of their cost.
    """
    found = [0.0] * len(costs)
    # Costs that differ by less than a marker's width are one.
    groups: dict[float, list[int]] = {}
    for row, cost in enumerate(costs):
        groups.setdefault(round(np.log10(cost), 1) if cost else -np.inf, []).append(row)
    for rows in groups.values():
        for number, row in enumerate(rows):
            part = (number + 1) / (len(rows) + 1)
            low, high = NO_NETWORK if not costs[row] else (0.9 * costs[row], 1.1 * costs[row])
            found[row] = float(low * (high / low) ** part)
    return found


def _outcomes(line: Line, column: Column) -> list[Outcome]:
    return list(line.outcomes.get(column, {}).values())


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
