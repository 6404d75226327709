"""The paper's Figures 2 and 3, and the stems of several guidance settings side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sourceprior.diagnostics import Trace, conflicts
from sourceprior.plots import DYNAMICS, _frequency_axis, log_spectrogram, plain, save_picture

LOWEST_SI_SDR = -15.0
"""dB at the bottom of the SI-SDR panels: what lies below is no separation of any kind."""


def figure_2(traces: Mapping[str, Trace], names: Sequence[str], sample_rate: int, path: Path) -> None:
    """One column per guidance setting: bound and strength, SI-SDR (error without references), and strips of x̂_0.

    A strip shows the mixture, the estimates of one source at a few steps, and the true source where it is known, all
    on one scale. Panels of a row share their axes. Only the first item of each batch is drawn.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows, columns, names = 2 + len(names), len(traces), [plain(name) for name in names]
    drawing = Figure(figsize=(1 + 4.8 * columns, 4.6 + 1.9 * len(names)), layout="constrained")
    FigureCanvasAgg(drawing)
    axes = drawing.subplots(rows, columns, squeeze=False, sharey="row", height_ratios=(1.2, 1, *[1] * len(names)))
    bounds = torch.cat([torch.stack(trace.bound)[:, 0].flatten().cpu() for trace in traces.values()])
    gammas = torch.cat([torch.stack(trace.gamma)[:, 0].flatten().cpu() for trace in traces.values()])
    # Most strengths lie in the logarithmic part, and a bound of zero in the middle of the linear one.
    linear = float(gammas[gammas > 0].quantile(0.02)) if bool((gammas > 0).any()) else 1e-8
    limit = 2 * float(torch.cat([bounds.abs(), gammas]).quantile(0.995))
    last = max(max(trace.t) for trace in traces.values())
    for column, (rule, trace) in enumerate(traces.items()):
        _bound_panel(axes[0, column], trace, names, linear, limit)
        axes[0, column].set_title(rule, fontsize=12, fontweight="bold", loc="left")
        _quality_panel(axes[1, column], trace, names)
        for row in (0, 1):
            axes[row, column].set_xlim(last, 0)
            axes[row, column].set_xlabel("noise index t")
        for k, name in enumerate(names):
            _strip(axes[2 + k, column], trace, k, sample_rate, labelled=column == 0)
            if column == 0:
                axes[2 + k, 0].set_ylabel(f"{name}\nfrequency in Hz")
    axes[0, 0].set_ylabel("guidance bound (eq. 9)\nand strength γ(t)")
    axes[0, 0].legend(fontsize="small", loc="lower left")
    axes[1, 0].set_ylabel("SI-SDR of x̂₀ in dB" if next(iter(traces.values())).si_sdr else "‖y - Σ x̂₀‖ / ‖y‖")
    save_picture(drawing, path)


def _bound_panel(axes: Any, trace: Trace, names: Sequence[str], linear: float, limit: float) -> None:
    bound, gamma = (torch.stack(series)[:, 0].cpu() for series in (trace.bound, trace.gamma))
    for k, name in enumerate(names):
        axes.plot(trace.t, bound[:, k], label=f"bound, {name}", color=f"C{k}", linewidth=1.2)
        # The norm of the joint state gives all sources one strength: drawn once.
        if k == 0 or not torch.allclose(gamma[:, k], gamma[:, 0], rtol=1e-3):
            own = "" if k == 0 and torch.allclose(gamma, gamma[:, :1].expand_as(gamma), rtol=1e-3) else f", {name}"
            axes.plot(trace.t, gamma[:, k], "--", label=f"strength{own}", color="k" if not own else f"C{k}")
    axes.axhline(0, color="grey", linewidth=0.5)
    axes.set_yscale("symlog", linthresh=linear)
    axes.set_ylim(-limit, limit)
    axes.grid(alpha=0.3)
    conflict, lost = (float(share) for share in conflicts(trace).mean(1))
    axes.set_title(f"conflict {conflict:.0%} · lost {lost:.0%} of steps", fontsize=9, loc="right", color="0.35")


def _quality_panel(axes: Any, trace: Trace, names: Sequence[str]) -> None:
    if trace.si_sdr:
        values = torch.stack(trace.si_sdr)[:, 0].cpu()
        for k, name in enumerate(names):
            axes.plot(trace.t, values[:, k], color=f"C{k}", label=f"{name}: {float(values[-1, k]):.1f} dB at the end")
        axes.set_ylim(LOWEST_SI_SDR, max(20.0, float(values.max()) + 2))
        axes.legend(fontsize="small", loc="upper left")
    elif trace.mixture is not None:
        whole = float(torch.linalg.vector_norm(trace.mixture[0]))
        axes.semilogy(trace.t, torch.stack(trace.error)[:, 0].cpu() / whole, color="k")
    axes.grid(alpha=0.3)


def _strip(axes: Any, trace: Trace, source: int, sample_rate: int, labelled: bool) -> None:
    """Spectrograms side by side: mixture, x̂_0 at the kept steps, truth."""
    parts = {f"t={t}": trace.states[t][0, source] for t in sorted(trace.states, reverse=True)}
    if trace.mixture is not None:
        parts = {"mixture": trace.mixture[0]} | parts
    if trace.references is not None:
        parts["truth"] = trace.references[0, source]
    highest = sample_rate / 2
    levels = [log_spectrogram(part.cpu().numpy(), sample_rate, highest) for part in parts.values()]
    top = max(float(level.max()) for level in levels)
    width = levels[0].shape[1]
    gap = np.full((len(levels[0]), max(1, width // 40)), np.nan)
    joined = np.concatenate([piece for level in levels for piece in (level, gap)][:-1], axis=1)
    total = joined.shape[1]
    axes.imshow(
        joined, origin="lower", aspect="auto", cmap="magma", vmin=top - DYNAMICS, vmax=top, extent=(0, total, 0, 1)
    )
    centres = [width / 2 + index * (width + gap.shape[1]) for index in range(len(parts))]
    axes.set_xticks(centres, list(parts), fontsize=8)
    axes.tick_params(axis="x", length=0)
    # The row shares its axis, and so its labels: they are hidden, not left out.
    _frequency_axis(axes, highest, labelled=True)
    axes.set_ylabel("")
    axes.tick_params(labelleft=labelled)
    for side in ("top", "right", "bottom", "left"):
        axes.spines[side].set_visible(False)


def figure_3(schedules: Mapping[str, Tensor], path: Path) -> None:
    """Guidance strength over t, without its normalisation and √N; logarithmic, or the floor could not be seen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(5.5, 3.6), layout="constrained")
    FigureCanvasAgg(drawing)
    axes = drawing.subplots()
    styles = {"DPS": ":", "DSG": "-", "hybrid": "--"}
    for name, values in schedules.items():
        known = values > 0
        axes.semilogy(torch.arange(len(values))[known], values[known], styles.get(name, "-"), label=name, linewidth=1.8)
    axes.set_xlim(max(len(values) for values in schedules.values()) - 1, 0)
    axes.set_xlabel("noise index t")
    axes.set_ylabel("length of a step per √sample")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    save_picture(drawing, path)


def side_by_side(
    stems: Mapping[str, Tensor],
    mixture: Tensor,
    names: Sequence[str],
    sample_rate: int,
    path: Path,
    references: Tensor | None = None,
    notes: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """One row per source, one column per setting, after the mixture and the true source where it is known.

    Args:
        stems: setting to sources (K, N).
        mixture: (N,).
        references: true sources (K, N).
        notes: setting to a few words per source, for its title.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = [plain(name) for name in names]
    known = {} if references is None else {"truth": references}
    columns = {"mixture": mixture.expand(len(names), -1), **known, **stems}
    drawing = Figure(figsize=(1 + 2.9 * len(columns), 0.4 + 2.7 * len(names)), layout="constrained")
    FigureCanvasAgg(drawing)
    axes = drawing.subplots(len(names), len(columns), squeeze=False, sharex=True)
    seconds, highest = mixture.shape[-1] / sample_rate, sample_rate / 2
    top = float(log_spectrogram(mixture.cpu().numpy(), sample_rate, highest).max())
    image: Any = None
    for column, (title, sources) in enumerate(columns.items()):
        for k, name in enumerate(names):
            panel = axes[k, column]
            image = panel.imshow(
                log_spectrogram(sources[k].cpu().numpy(), sample_rate, highest),
                origin="lower", aspect="auto", cmap="magma", vmin=top - DYNAMICS, vmax=top, extent=(0, seconds, 0, 1),
            )  # fmt: skip
            _frequency_axis(panel, highest, labelled=column == 0)
            if column == 0:
                panel.set_ylabel(f"{name}\nfrequency in Hz")
            if k == 0:
                panel.set_title(title, fontsize=11, fontweight="bold", loc="left")
            if notes and title in notes:
                panel.set_title(notes[title][k], fontsize=9, loc="right", color="0.35")
            if k == len(names) - 1:
                panel.set_xlabel("seconds")
    drawing.colorbar(image, ax=axes, aspect=30, pad=0.01).set_label("level in dB")
    save_picture(drawing, path)
