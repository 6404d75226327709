"""The paper's Figures 2 and 3, drawn from traces of runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from sourceprior.diagnostics import Trace
from sourceprior.plots import log_spectrogram


def figure_2(traces: Mapping[str, Trace], names: Sequence[str], sample_rate: int, path: Path) -> None:
    """One column per guidance rule: bound, SI-SDR (reconstruction error without references), spectrograms of x̂_0.

    Only the first item of each batch is drawn.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = 2 + len(names)
    figure = Figure(figsize=(5 * len(traces), 2.2 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, len(traces), squeeze=False)
    for column, (rule, trace) in enumerate(traces.items()):
        bound = torch.stack(trace.bound)[:, 0].cpu()
        gamma = torch.stack(trace.gamma)[:, 0].cpu()
        for k, name in enumerate(names):
            axes[0, column].plot(trace.t, bound[:, k], label=f"bound, {name}", color=f"C{k}")
            axes[0, column].plot(trace.t, gamma[:, k], color=f"C{k}", alpha=0.4, linewidth=1)
        axes[0, column].axhline(0, color="grey", linewidth=0.5)
        axes[0, column].set_yscale("symlog", linthresh=max(1e-8, float(bound.abs().median())))
        axes[0, column].set_title(f"{rule}: bound (thin: strength used)")
        axes[0, column].legend(fontsize="x-small")
        if trace.si_sdr:
            axes[1, column].plot(trace.t, torch.stack(trace.si_sdr)[:, 0].cpu(), label=list(names))
            axes[1, column].set_ylabel("SI-SDR (dB)")
            axes[1, column].legend(fontsize="x-small")
        else:
            axes[1, column].semilogy(trace.t, torch.stack(trace.error)[:, 0].cpu())
            axes[1, column].set_ylabel("reconstruction error")
        for row in (0, 1):
            axes[row, column].invert_xaxis()
            axes[row, column].set_xlabel("t")
        steps = sorted(trace.states, reverse=True)
        for k, name in enumerate(names):
            strip = [torch.as_tensor(log_spectrogram(trace.states[t][0, k].cpu().numpy(), sample_rate)) for t in steps]
            axis = axes[2 + k, column]
            top = max(float(part.max()) for part in strip)
            axis.imshow(torch.cat(strip, dim=1), origin="lower", aspect="auto", vmin=top - 70, vmax=top, cmap="magma")
            axis.set_title(f"{name}, t = {', '.join(map(str, steps))}", fontsize="small")
            axis.set_axis_off()
    figure.savefig(path, dpi=110)


def figure_3(schedules: Mapping[str, Tensor], path: Path) -> None:
    """Guidance strength over t, without its normalisation and √N."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    for name, values in schedules.items():
        axis.plot(range(len(values)), values, label=name, linestyle="--" if name == "DPS" else "-")
    axis.invert_xaxis()
    axis.set_xlabel("t")
    axis.set_ylabel("strength per √sample")
    axis.legend()
    figure.savefig(path, dpi=110)
