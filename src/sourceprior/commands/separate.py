"""`sourceprior separate MIX -s speech -s rain -o out/`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sourceprior.progress import progress_bar


def separate(
    mixture: Annotated[Path, typer.Argument(metavar="MIX", help="The recording, in any format libsndfile reads.")],
    source: Annotated[
        list[str], typer.Option("-s", "--source", help="A source to find; once per source. `labels` lists them.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for stems, residual, report and picture.")] = Path(
        "out"
    ),
    preset: Annotated[
        str, typer.Option(help="fast, default or best; paper or released for the paper's solvers.")
    ] = "default",
    steps: Annotated[int | None, typer.Option(help="Noise levels; more is slower and finer.")] = None,
    candidates: Annotated[int | None, typer.Option(help="Runs from different noise, averaged.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same stems.")] = 0,
    prior: Annotated[
        list[str] | None, typer.Option("--prior", help="Folder or hub name of a prior; once per prior.")
    ] = None,
    solver: Annotated[str | None, typer.Option(help="A solver of sourceprior.solvers.")] = None,
    option: Annotated[
        list[str] | None, typer.Option("-O", "--option", metavar="NAME=VALUE", help="An option of the solver.")
    ] = None,
    guidance: Annotated[str | None, typer.Option(help="Of the solver gradient: hybrid, dsg, dps or cqt.")] = None,
    segment: Annotated[float | None, typer.Option(help="Seconds of a window of a long recording.")] = None,
    batch: Annotated[int | None, typer.Option(help="Windows in flight; memory grows with it.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    picture: Annotated[bool, typer.Option(help="Draw spectrograms.png.")] = True,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No progress, no summary; warnings only.")] = False,
) -> None:
    """Take a recording apart into the sources you name."""
    from sourceprior import separation
    from sourceprior.solver_choice import parse_options

    options = parse_options(option or [])
    if guidance:
        solver, options = solver or "gradient", options | {"guidance": guidance}
    # First, so that nobody waits for stems that cannot be written.
    separation.make_folder(out)
    with progress_bar("Separating", quiet) as callback:
        result = separation.separate(
            mixture,
            None,
            source,
            prior=prior or None,
            preset=preset,
            steps=steps,
            candidates=candidates,
            seed=seed,
            solver=solver,
            options=options or None,
            segment=segment,
            batch=batch,
            device=device,
            callback=callback,
        )
    summarise(result.save(out, picture), result.report, quiet)


def summarise(folder: Path, report: dict, quiet: bool) -> None:
    """Print where the stems are and how loud; warnings go to stderr."""
    import json

    from rich.console import Console

    # What saving added, such as samples beyond full scale, stands in the file.
    written = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    for warning in written["warnings"]:
        Console(stderr=True, highlight=False, markup=False).print(f"Note: {warning}")
    if not quiet:
        console = Console(highlight=False, markup=False)
        for name, stem in report["stems"].items():
            console.print(f"{name:20} {stem['level_db']:7.1f} dB  {100 * stem['energy_share']:5.1f} % of the energy")
        seconds = report["samples"] / report["sample_rate"]
        console.print(f"{seconds:.1f} s of audio in {report['seconds']:.1f} s; written to {folder}")
