"""`sourceprior diagnose MIX -s speech -s Bark -o out/`: the paper's Figures 2 and 3 for a recording."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

RULES = ("DPS", "DSG", "hybrid")


def diagnose(
    mixture: Annotated[Path, typer.Argument(metavar="MIX", help="The recording; a few seconds are enough.")],
    source: Annotated[list[str], typer.Option("-s", "--source", help="A source; once per source.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for pictures and diagnostics.json.")] = Path("out"),
    reference: Annotated[
        list[Path] | None, typer.Option("--reference", help="True source, in the order of -s; for SI-SDR.")
    ] = None,
    preset: Annotated[str, typer.Option(help="paper or released.")] = "paper",
    steps: Annotated[int, typer.Option(min=2, max=1000, help="Steps of the process.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same run.")] = 0,
    label_scale: Annotated[
        float, typer.Option(min=0, max=100, help="How much the labels count: 2 exaggerates them, 0 forgets them.")
    ] = 1.0,
    prior: Annotated[list[str] | None, typer.Option("--prior", help="Folder or hub name; once per prior.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No progress.")] = False,
) -> None:
    """Show per step where guidance and prior pull against each other, for DPS, DSG and hybrid guidance."""
    import json
    from dataclasses import replace

    import numpy as np
    import torch

    from sourceprior import audio
    from sourceprior.conditioning import guided
    from sourceprior.diagnostic_plots import figure_2, figure_3
    from sourceprior.diagnostics import Trace, gamma_schedules
    from sourceprior.errors import UserError
    from sourceprior.fullband import downmix
    from sourceprior.labels import find
    from sourceprior.library import load_priors
    from sourceprior.mixture import Mixture
    from sourceprior.presets import recipe, scale_of, seeded
    from sourceprior.priors import joint
    from sourceprior.progress import progress_bar
    from sourceprior.sampling import find_device
    from sourceprior.schedules import vp_linear
    from sourceprior.separation import make_folder

    make_folder(out)
    sources = find(source, load_priors(prior or None))
    if reference and len(reference) != len(sources):
        raise UserError(f"Give one --reference per source: {len(sources)} sources, {len(reference)} references.")
    place, rate = find_device(device), sources[0].prior.sample_rate

    def mono(path: Path) -> Any:
        recording = audio.read(path)
        mid = downmix(recording.samples)
        length = max(1, round(mid.shape[1] * rate / recording.sample_rate))
        wave = audio.resample(mid, recording.sample_rate, rate, length)[0]
        return torch.from_numpy(np.ascontiguousarray(wave)).float()[None]

    y = mono(mixture)
    scale = scale_of(sources)
    # Sources are brought to the level of the priors, and both to the paper's -22.5 dBFS where that is another.
    level = float(np.mean([s.prior.level for s in sources])) / scale
    gain = level * len(sources) ** 0.5 / max(float(y.square().mean().sqrt()), 1e-12)
    y = (gain * y).to(place)
    true = None
    if reference:
        waves = [mono(path) for path in reference]
        if any(wave.shape != y.shape for wave in waves):
            raise UserError("Every --reference must be as long as the mixture.")
        true = gain * torch.stack(waves, dim=1).to(place)
    network = guided(joint(sources, place), sources, label_scale, place)
    problem = Mixture(y, lambda x, sigma: network(scale * x, scale * sigma) / scale, len(sources))

    traces = {}
    for rule in RULES:
        run = recipe(preset, rule, steps=steps)
        total = len(run.process())
        keep = tuple(sorted({0, total // 4, total // 2, 3 * total // 4, total - 1}))
        traces[rule] = Trace(run.process(), references=true, mixture=y, keep=keep)
        with progress_bar(f"{rule} guidance", quiet) as bar, torch.no_grad():
            run(problem, generators=seeded(1, seed), trace=traces[rule], callback=lambda i, n, *_, b=bar: b(i + 1, n))
    names = [s.name for s in sources]
    figure_2(traces, names, rate, out / "figure2.png")
    options = {"std_scale": 0.09} if preset == "released" else {}
    figure_3(gamma_schedules(vp_linear(steps), **options), out / "figure3.png")
    report = {"sources": names, "preset": preset, "steps": steps, "seed": seed}
    report |= {rule: replace(trace, states={}).table() for rule, trace in traces.items()}
    (out / "diagnostics.json").write_text(json.dumps(report) + "\n")
    if not quiet:
        for rule, trace in traces.items():
            conflicts = torch.stack(trace.bound)[:, 0] > 0
            share, error = float(conflicts.float().mean()), float(trace.error[-1])
            print(f"{rule:7} conflict in {share:5.1%} of the steps; error {error:.3g}")
        print(f"written to {out}")
