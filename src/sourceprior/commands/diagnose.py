"""`sourceprior diagnose MIX -s speech -s Bark -o out/`: the paper's Figures 2 and 3 for a recording."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

RULES: dict[str, dict[str, Any]] = {
    "DPS": {"guidance": "dps"},
    "DSG": {"guidance": "dsg"},
    "hybrid from noise": {"guidance": "hybrid", "from_noise": True},
    "hybrid": {"guidance": "hybrid"},
}
"""The settings of the paper's Figure 2, and the start from noise of its Table 4, which --from-noise adds."""


def diagnose(
    mixture: Annotated[Path, typer.Argument(metavar="MIX", help="The recording; a few seconds are enough.")],
    source: Annotated[list[str], typer.Option("-s", "--source", help="A source; once per source.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for pictures and diagnostics.json.")] = Path("out"),
    reference: Annotated[
        list[Path] | None, typer.Option("--reference", help="True source, in the order of -s; for SI-SDR.")
    ] = None,
    seconds: Annotated[float | None, typer.Option(min=0.1, max=600, help="Look at its first seconds only.")] = None,
    preset: Annotated[str, typer.Option(help="paper or released.")] = "paper",
    steps: Annotated[int, typer.Option(min=2, max=1000, help="Steps of the process.")] = 200,
    seed: Annotated[int, typer.Option(help="Same seed, same run; 0 or more.")] = 0,
    label_scale: Annotated[
        float, typer.Option(min=0, max=100, help="How much the labels count: 2 exaggerates them, 0 forgets them.")
    ] = 1.0,
    prior: Annotated[list[str] | None, typer.Option("--prior", help="Folder or hub name; once per prior.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    precision: Annotated[
        str | None, typer.Option(help="Of the networks: float32 or bfloat16; else what each prior says.")
    ] = None,
    from_noise: Annotated[
        bool, typer.Option("--from-noise", help="Run hybrid from noise, too, not only from the mixture.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier run's files.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No progress.")] = False,
) -> None:
    """Show per step where guidance and prior pull against each other, for DPS, DSG and hybrid guidance.

    Writes figure2.png, figure3.png, stems.png, the stems of every setting, table.md and diagnostics.json.
    """
    import json
    from dataclasses import replace

    import numpy as np
    import torch

    from sourceprior import audio, writing
    from sourceprior.conditioning import guided
    from sourceprior.diagnostic_plots import figure_2, figure_3, side_by_side
    from sourceprior.diagnostics import Trace, conflicts, gamma_schedules, si_sdr, with_null
    from sourceprior.errors import Diverged, UserError
    from sourceprior.formats import FileFormat
    from sourceprior.fullband import downmix
    from sourceprior.labels import find
    from sourceprior.library import load_priors
    from sourceprior.mixture import Mixture
    from sourceprior.presets import keeps_level, recipe, scale_of, seeded, under
    from sourceprior.priors import joint, with_precision
    from sourceprior.progress import progress_bar
    from sourceprior.sampling import find_device
    from sourceprior.schedules import vp_linear
    from sourceprior.separation import check_seed, make_folder
    from sourceprior.stem_files import file_name, refuse_files
    from sourceprior.survey import SHORT, check_recording, survey
    from sourceprior.vp import frozen

    check_seed(seed)
    whole = recipe(preset, steps=steps).whole
    make_folder(out)
    sources = with_precision(find(source, load_priors(prior or None)), precision)
    if reference and len(reference) != len(sources):
        raise UserError(f"Give one --reference per source: {len(sources)} sources, {len(reference)} references.")
    place, rate = find_device(device), sources[0].prior.sample_rate

    def mono(path: Path) -> Any:
        recording = audio.read(path)
        samples = recording.samples
        samples = samples if seconds is None else samples[:, : round(seconds * recording.sample_rate)]
        seen = survey(audio.Stream.of(samples, recording.sample_rate))
        try:
            check_recording(seen, recording.sample_rate)
        except UserError as error:
            raise UserError(f"{path}: {error}") from error
        # As `separate` does.
        mid = downmix(samples - seen.offset[:, None] if seen.stray else samples)
        length = max(1, round(mid.shape[1] * rate / recording.sample_rate))
        wave = audio.resample(mid, recording.sample_rate, rate, length)[0]
        return torch.from_numpy(np.ascontiguousarray(wave)).float()[None]

    rules = {rule: options for rule, options in RULES.items() if from_noise or not options.get("from_noise")}
    stem_files = {
        rule: [out / rule.replace(" ", "_") / f"{file_name(own.name)}.wav" for own in sources] for rule in rules
    }
    others = [out / name for name in ("diagnostics.json", "figure2.png", "figure3.png", "stems.png", "table.md")]
    targets = [*others, *(file for own in stem_files.values() for file in own)]
    refuse_files(targets, overwrite, read=[mixture, *(reference or ())])
    y = mono(mixture)
    if y.shape[1] < SHORT * rate:
        raise UserError(f"{mixture} is shorter than {SHORT:g} s: there is nothing to show of it.")
    scale = scale_of(sources)
    if preset == "released":
        sources = under(sources, whole)
    # Sources are brought to the level of the priors, and both to the paper's -22.5 dBFS where that is another.
    level = float(np.mean([s.prior.level for s in sources])) / scale
    gain = level * len(sources) ** 0.5 / max(float(y.square().mean().sqrt()), 1e-12)
    gain = 1.0 if keeps_level(sources, preset) else gain
    y = (gain * y).to(place)
    true = None
    if reference:
        waves = [mono(path) for path in reference]
        if any(wave.shape != y.shape for wave in waves):
            raise UserError("Every --reference must be as long as the mixture.")
        true = gain * torch.stack(waves, dim=1).to(place)
    network = guided(joint(sources, place), sources, label_scale, place)
    problem = Mixture(y, lambda x, sigma: network(scale * x, scale * sigma) / scale, len(sources))

    traces, stems = {}, {}
    for rule, options in rules.items():
        run = recipe(preset, steps=steps, **options)
        total = len(run.process())
        keep = tuple(sorted({0, total // 4, total // 2, 3 * total // 4}))
        traces[rule] = Trace(run.process(), references=true, mixture=y, keep=keep)
        with progress_bar(rule, quiet) as bar, torch.no_grad(), frozen(s.prior.denoiser for s in sources):
            hooks = {"trace": traces[rule], "callback": lambda i, n, *_, b=bar: b(i + 1, n)}
            stems[rule] = run(problem, generators=seeded(1, seed), **hooks)[0]
        if not bool(stems[rule].isfinite().all()):
            raise Diverged(f"The setting {rule} diverged: choose a smaller --label-scale or other --steps.")
        for k, file in enumerate(stem_files[rule]):
            make_folder(file.parent)
            wave = (stems[rule][k] / gain).cpu().numpy()
            writing.write(file, wave[None], rate, FileFormat("WAV", "FLOAT"))

    names = [s.name for s in sources]
    report = {"sources": names, "preset": preset, "steps": steps, "seed": seed, "label_scale": label_scale}
    report |= {rule: replace(trace, states={}).table() for rule, trace in traces.items()}
    with writing.replacing(out / "diagnostics.json") as part:
        part.write_text(json.dumps(with_null(report), allow_nan=False) + "\n", encoding="utf-8")
    scores = None if true is None else {rule: si_sdr(own, true[0]).tolist() for rule, own in stems.items()}
    notes = None if scores is None else {rule: [f"{dB:.1f} dB" for dB in row] for rule, row in scores.items()}
    figure_2(traces, names, rate, out / "figure2.png")
    figure_3(gamma_schedules(vp_linear(steps), std_scale=0.09 if preset == "released" else 1.0), out / "figure3.png")
    side_by_side(stems, y[0], names, rate, out / "stems.png", None if true is None else true[0], notes)

    quality = [] if scores is None else [*(f"SI-SDR of {name}, dB" for name in names), "mean, dB"]
    lines = [["setting", *quality, "y - Σ x, dB of y", "conflict", "lost"]]
    for rule, trace in traces.items():
        left = 20 * torch.log10((y[0] - stems[rule].sum(0)).norm() / y.norm())
        values = [] if scores is None else [f"{dB:.1f}" for dB in (*scores[rule], np.mean(scores[rule]))]
        shares = [" / ".join(f"{float(share):.0%}" for share in row) for row in conflicts(trace)]
        lines.append([rule, *values, f"{float(left):.1f}", *shares])
    lines.insert(1, ["---"] * len(lines[0]))
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    with writing.replacing(out / "table.md") as part:
        part.write_text(table + "\n", encoding="utf-8")
    if not quiet:
        print(f"{table}\nwritten to {out}; conflict: steps in which the bound of a source is positive, lost: in which")
        print("it is above the strength of the guidance (paper, eq. 9)")
