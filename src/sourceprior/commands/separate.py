"""`sourceprior separate MIX -s speech -s rain -o out/`, for a recording, several, or a folder of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sourceprior.progress import progress_bar

if TYPE_CHECKING:
    from sourceprior.many import Job, Outcome, Request


def separate(
    mixture: Annotated[
        list[Path],
        # Not readable=True, whose message is no sentence.
        typer.Argument(
            metavar="MIX...", readable=False, help="Recordings in any format libsndfile reads, or folders of them."
        ),
    ],
    source: Annotated[
        list[str] | None, typer.Option("-s", "--source", help="A source to find; once per source. `labels` lists them.")
    ] = None,
    out: Annotated[
        Path,
        typer.Option("-o", "--out", help="Folder for stems, residual, report and picture; of many, a folder for each."),
    ] = Path("out"),
    preset: Annotated[
        str, typer.Option(help="fast, default, best or sample; msdm, paper or released for others' solvers.")
    ] = "default",
    steps: Annotated[int | None, typer.Option(help="Noise levels; more is slower and finer.")] = None,
    candidates: Annotated[int | None, typer.Option(help="Runs from different noise, averaged.")] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same stems; 0 or more.")] = 0,
    prior: Annotated[
        list[str] | None, typer.Option("--prior", help="Folder or hub name of a prior; once per prior.")
    ] = None,
    solver: Annotated[str | None, typer.Option(help="A solver of sourceprior.solvers.")] = None,
    option: Annotated[
        list[str] | None, typer.Option("-O", "--option", metavar="NAME=VALUE", help="An option of the solver.")
    ] = None,
    guidance: Annotated[str | None, typer.Option(help="Of the solver gradient: hybrid, dsg, dps or cqt.")] = None,
    label_scale: Annotated[
        float | None,
        typer.Option(help="How much the labels count: 1 as they are, 2 exaggerates them (classifier-free guidance)."),
    ] = None,
    residual: Annotated[
        str | None, typer.Option(help="stem: residual holds what no source explains; none: sources share everything.")
    ] = None,
    noise_db: Annotated[
        float | None,
        typer.Option(help="Level of what no source explains, dB of the mixture's; implies --residual stem."),
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="Of the networks: float32 or bfloat16; else what each prior says.")
    ] = None,
    segment: Annotated[float | None, typer.Option(help="Seconds of a window of a long recording.")] = None,
    batch: Annotated[int | None, typer.Option(help="Windows in flight; memory grows with it.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    container: Annotated[
        str | None, typer.Option("--format", help="Of the stems: wav, flac, aiff, caf, ...; else the recording's.")
    ] = None,
    subtype: Annotated[
        str | None,
        typer.Option(help="Sample type of the stems: pcm_16, pcm_24, float, ...; else the recording's."),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(help="Recordings at a time; 1, or with ray as many as the cluster has processors.")
    ] = None,
    engine: Annotated[str, typer.Option(help="ray: share several recordings among an existing Ray cluster.")] = "local",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Redo what is done already; replaces other files of the stems' names.")
    ] = False,
    picture: Annotated[bool, typer.Option(help="Draw spectrograms.png.")] = True,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No progress, no summary; warnings only.")] = False,
) -> None:
    """Take recordings apart into the sources you name.

    What is done already, with the same settings, is skipped. Exit code 2 if the request or the recording cannot be
    used, 1 if some of several recordings could not be separated.
    """
    from sourceprior import audio, many
    from sourceprior.errors import UserError
    from sourceprior.solver_choice import parse_options
    from sourceprior.stem_files import make_folder

    if not source:
        raise UserError("Name at least one source with -s or --source, for example -s speech -s anything.")
    options = parse_options(option or [])
    if guidance:
        solver, options = solver or "gradient", options | {"guidance": guidance}
    chosen = {
        "preset": preset,
        "steps": steps,
        "candidates": candidates,
        "seed": seed,
        "solver": solver,
        "options": options or None,
        "label_scale": label_scale,
        "residual": residual,
        "noise_db": noise_db,
        "precision": precision,
        "segment": segment,
        "batch": batch,
    }
    request = many.Request(tuple(source), tuple(prior) if prior else None, chosen, container, subtype, picture, device)
    many.check_sharing(engine, jobs)
    if engine == "ray" and len(mixture) == 1 and not audio.is_folder(mixture[0]):
        raise UserError("--engine ray shares several recordings: leave it out for one.")
    work = many.find_jobs(mixture, out)
    make_folder(out)
    if len(mixture) == 1 and not audio.is_folder(mixture[0]):
        with progress_bar("Separating", quiet) as callback:
            outcome = many.separate_one(work[0], request, overwrite=overwrite, callback=callback)
        summarise(outcome, quiet)
    elif not separate_all(work, request, out, jobs, engine, overwrite, quiet):
        raise typer.Exit(1)


def separate_all(
    work: Sequence[Job], request: Request, out: Path, jobs: int | None, engine: str, overwrite: bool, quiet: bool
) -> bool:
    """Separate many recordings, tell of each that fails, and sum up; whether none failed."""
    from sourceprior import many

    request.check()
    outcomes = []
    with progress_bar("Separating", quiet) as callback:
        callback(0, len(work))
        for outcome in many.separate_many(work, request, processes=jobs, overwrite=overwrite, engine=engine):
            outcomes.append(outcome)
            callback(len(outcomes), len(work))
            notes = outcome.report.get("warnings", []) if outcome.status == "done" else []
            for note in [outcome.message] if outcome.status == "failed" else notes:
                say(f"{outcome.job.path}: {note}", error=True)
    total = many.counts(outcomes)
    if not quiet:
        say(f"{total['done']} done, {total['skipped']} done before, {total['failed']} failed; in folders of {out}")
    return not total["failed"]


def summarise(outcome: Outcome, quiet: bool) -> None:
    """Print where the stems are and how loud; warnings go to stderr."""
    report, folder = outcome.report, outcome.job.folder
    for warning in report["warnings"]:
        say(f"Note: {warning}", error=True)
    if quiet:
        return
    if outcome.status == "skipped":
        say(f"The stems in {folder} are those of this very command; --overwrite makes them again.")
        return
    for name, stem in report["stems"].items():
        say(f"{name:20} {stem['level_db']:7.1f} dB  {100 * stem['energy_share']:5.1f} % of the energy")
    say(f"{report['samples'] / report['sample_rate']:.1f} s of audio in {report['seconds']:.1f} s; written to {folder}")


def say(line: str, error: bool = False) -> None:
    """Print one line, whatever characters a file's name brings."""
    typer.echo(" ".join(line.splitlines()).encode("utf-8", "replace").decode(), err=error)
