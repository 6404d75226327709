"""The paper's Figures 2 and 3 on real mixtures: guidance bound and SI-SDR step by step, and the schedules."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sourceprior.benchmark.files import in_place
from sourceprior.benchmark.grids import Grid
from sourceprior.benchmark.records import mixture_digest
from sourceprior.benchmark.rows import PriorSet, digest_of
from sourceprior.diagnostic_plots import figure_2, figure_3
from sourceprior.diagnostics import Trace, gamma_schedules
from sourceprior.labels import find
from sourceprior.mixture import Mixture
from sourceprior.mixtures import MixtureSpec, check_rate, mix, render
from sourceprior.presets import TYPICAL_LEVEL, keeps_level, recipe, scale_of, seeded, under
from sourceprior.priors import joint
from sourceprior.sampling import find_device
from sourceprior.schedules import vp_linear
from sourceprior.version import __version__
from sourceprior.vp import frozen

RULES = ("DPS", "DSG", "hybrid")
PAPER_SAYS = (
    "The paper gives no figures here. It says that DPS meets conflicts early, at high noise, and that DSG has rising "
    "conflicts and unbalanced sources at the end; hybrid guidance is to have neither."
)


def figure2(
    specs: Sequence[MixtureSpec],
    root: Path,
    priors: PriorSet,
    folder: Path,
    *,
    form: str = "paper",
    steps: int = 200,
    device: str = "auto",
    shard: tuple[int, int] = (0, 1),
    measure: bool = True,
    tell: Callable[[int, int], None] | None = None,
) -> tuple[Grid, list[str]]:
    """Trace the three rules on every mixture that is not traced yet; the table, and the names of the pictures.

    A trace is kept as one compressed file named by a hash of what decides it, so that a stopped run goes on. Without
    `measure` nothing is traced, and the table is of what there is.
    """
    settings: dict[str, Any] = {"form": form, "steps": steps, "priors": priors.digests, "sourceprior": __version__}
    if form == "released":
        # Traces of earlier versions were not at the recording's level, and not told the steps of the run.
        settings |= {"as released": True}
    todo = [(spec, rule) for spec in specs[shard[0] :: shard[1]] for rule in RULES] if measure else []
    for done, (spec, rule) in enumerate(todo):
        if not _file(folder, spec, rule, settings).is_file():
            check_rate(spec.sample_rate, priors.priors[0].sample_rate)
            trace = trace_rule(render(spec, root), spec.labels, priors, rule, form, steps, device, spec.index)
            _save(trace, _file(folder, spec, rule, settings))
        if tell:
            tell(done + 1, len(todo))
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for spec in specs:
        files = {rule: _file(folder, spec, rule, settings) for rule in RULES}
        if all(file.is_file() for file in files.values()):
            traces = {rule: _load(file, form, steps) for rule, file in files.items()}
            picture = f"figure2_{spec.task}_{spec.samples / spec.sample_rate:g}s_{spec.index + 1}.png"
            names = [label.replace("_", " ") for label in spec.labels]
            with in_place(folder / picture) as part:
                figure_2(traces, names, spec.sample_rate, part)
            found[picture] = {rule: summary(trace) for rule, trace in traces.items()}
    with in_place(folder / "figure2.json") as part:
        part.write_text(json.dumps(found, indent=1) + "\n")
    grid = _table(found)
    if len(found) < len(specs):
        grid.note = f"Traced so far: {len(found)} of {len(specs)} mixtures. {grid.note}"
    return grid, list(found)


def trace_rule(
    sources: np.ndarray,
    labels: Sequence[str],
    priors: PriorSet,
    rule: str,
    form: str,
    steps: int,
    device: str,
    seed: int,
) -> Trace:
    """One run of the gradient solver on the mixture of sources `(K, N)`, with everything `Trace` keeps."""
    place = find_device(device)
    run = recipe(form, rule, steps=steps)
    chosen = find(labels, list(priors.priors))
    if form == "released":
        chosen = under(chosen, run.whole)
    network = joint(chosen, place)
    scale = scale_of(chosen)
    y = torch.from_numpy(mix(sources))[None]
    # The paper's sources have -22.5 dBFS; its code takes what comes.
    usual = TYPICAL_LEVEL * len(chosen) ** 0.5 / max(float(y.square().mean().sqrt()), 1e-12)
    gain = 1.0 if keeps_level(chosen, form) else usual
    y = (gain * y).to(place)
    problem = Mixture(y, lambda x, sigma: network(scale * x, scale * sigma) / scale, len(chosen))
    total = len(run.process())
    keep = tuple(sorted({0, total // 4, total // 2, 3 * total // 4, total - 1}))
    true = gain * torch.from_numpy(sources)[None].to(place)
    trace = Trace(run.process(), references=true, mixture=y, keep=keep)
    with torch.no_grad(), frozen(source.prior.denoiser for source in chosen):
        run(problem, generators=seeded(1, seed), trace=trace)
    return trace


def summary(trace: Trace) -> dict[str, Any]:
    """Conflicts in the first and in the last quarter of the steps, and SI-SDR per source at the end."""
    bound = torch.stack(trace.bound)[:, 0]
    strength = torch.stack(trace.gamma)[:, 0]
    quarter = max(1, len(bound) // 4)

    def overcome(part: slice) -> float:
        return float((strength[part] > bound[part]).float().mean())

    return {
        "conflict early": float((bound[:quarter] > 0).float().mean()),
        "conflict late": float((bound[-quarter:] > 0).float().mean()),
        "strong enough early": overcome(slice(0, quarter)),
        "strong enough late": overcome(slice(-quarter, None)),
        "si_sdr": torch.stack(trace.si_sdr)[-1, 0].tolist(),
    }


def figure3(folder: Path, steps: int = 200, form: str = "paper") -> Grid:
    """The guidance strengths without normalisation and √N; writes figure3.png."""
    options = {"std_scale": 0.09} if form == "released" else {}
    schedules = gamma_schedules(vp_linear(steps), **options)
    figure_3(schedules, folder / "figure3.png")
    at = sorted({0, steps // 20, steps // 4, steps // 2, 3 * steps // 4, steps - 1})
    grid = Grid("Guidance strength per √sample (Figure 3)", ["rule", *[f"t = {t}" for t in at]])
    grid.rows = [[name, *[f"{float(values[t]):.4f}" for t in at]] for name, values in schedules.items()]
    return grid


def _table(found: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Grid:
    grid = Grid(
        "Conflicts of guidance and prior (Figure 2), mean over mixtures",
        ["rule", "mixtures", "conflict, first quarter", "conflict, last quarter", "guidance above the bound, first",
         "last", "SI-SDR dB at the end", "gap between sources dB"],
        note=PAPER_SAYS,
    )  # fmt: skip
    for rule in RULES:
        own = [summaries[rule] for summaries in found.values()]
        if not own:
            continue
        shares = ("conflict early", "conflict late", "strong enough early", "strong enough late")
        grid.rows.append(
            [rule, str(len(own)), *[f"{100 * np.mean([o[name] for o in own]):.0f} %" for name in shares],
             f"{np.mean([np.mean(o['si_sdr']) for o in own]):.2f}",
             f"{np.mean([np.ptp(o['si_sdr']) for o in own]):.2f}"]
        )  # fmt: skip
    return grid


def _file(folder: Path, spec: MixtureSpec, rule: str, settings: Mapping[str, Any]) -> Path:
    key = digest_of({"rule": rule, "mixture": mixture_digest(spec), **settings})
    return folder / "traces" / f"{spec.task}_{spec.index + 1}_{rule}.{key}.npz"


def _save(trace: Trace, file: Path) -> None:
    arrays = {name: np.asarray(values) for name, values in replace(trace, states={}).table().items()}
    # What is only drawn does not need the last digits.
    drawn = {"mixture": trace.mixture, "references": trace.references}
    arrays |= {name: value.cpu().numpy().astype(np.float16) for name, value in drawn.items() if value is not None}
    states = {f"state_{t}": value.cpu().numpy().astype(np.float16) for t, value in trace.states.items()}
    with in_place(file) as part, part.open("wb") as content:
        np.savez_compressed(content, **arrays, **states)  # type: ignore[arg-type]


def _load(file: Path, form: str, steps: int) -> Trace:
    trace = Trace(recipe(form, "hybrid", steps=steps).process())
    with np.load(file) as content:
        for name in content.files:
            if name.startswith("state_"):
                trace.states[int(name.removeprefix("state_"))] = torch.from_numpy(content[name].astype(np.float32))
            elif name in ("mixture", "references"):
                setattr(trace, name, torch.from_numpy(content[name].astype(np.float32)))
            elif name == "t":
                trace.t = content[name].tolist()
            else:
                series: list[Tensor] = list(torch.from_numpy(content[name]))
                setattr(trace, name, series)
    return trace
