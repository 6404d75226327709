"""`sourceprior evaluate --data DIR --task speech_sound -n 50`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def evaluate(
    data: Annotated[Path, typer.Option(help="Folder with manifest.csv and the clips it lists.")],
    split: Annotated[
        str | None, typer.Option(help="Split of the manifest that mixtures are drawn from; test by default.")
    ] = None,
    task: Annotated[
        list[str] | None, typer.Option(help="speech_sound, speech_two_sounds, two_sounds, three_sounds, two_speech.")
    ] = None,
    count: Annotated[
        int | None, typer.Option("-n", "--count", min=1, help="Mixtures per task: 50, or all of a list.")
    ] = None,
    list_seed: Annotated[int, typer.Option(help="Seed of the mixture lists.")] = 0,
    mixtures: Annotated[Path | None, typer.Option(help="A mixture list to use in place of drawing one.")] = None,
    solver: Annotated[
        str | None, typer.Option(help="A solver, or nmf, wiener, unprocessed; else the preset's own.")
    ] = None,
    preset: Annotated[
        str, typer.Option(help="fast, default, best or sample; msdm, paper or released for others' solvers.")
    ] = "default",
    steps: Annotated[int | None, typer.Option(help="Noise levels.")] = None,
    candidates: Annotated[int | None, typer.Option(help="Runs from different noise, averaged.")] = None,
    prior: Annotated[list[str] | None, typer.Option("--prior", help="Folder or hub name; once per prior.")] = None,
    option: Annotated[
        list[str] | None, typer.Option("-O", "--option", metavar="NAME=VALUE", help="An option of the solver.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    licence: Annotated[
        str, typer.Option(help="commercial or any: of the clips mixed and learned from.")
    ] = "commercial",
    min_clips: Annotated[
        int | None, typer.Option(min=1, help="Clips a sound class must have in the split (test: 4, others: 2).")
    ] = None,
    speech: Annotated[
        str | None,
        typer.Option(
            help="single (the default): one utterance, cropped or placed at random like a sound; joined: a speaker's "
            "utterances until the mixture is full."
        ),
    ] = None,
    zero_mean: Annotated[bool, typer.Option(help="SI-SDR of zero-mean signals.")] = False,
    dictionary: Annotated[Path | None, typer.Option(help="File to keep NMF dictionaries in.")] = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Folder for lists, outcomes and table.")] = None,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No progress.")] = False,
) -> None:
    """Separate seeded mixtures of real clips and print SI-SDR with 95 % intervals.

    With --out, the same command goes on where it was stopped.
    """
    from sourceprior import mixtures as lists
    from sourceprior.benchmark import rows
    from sourceprior.benchmark.records import mixture_digest
    from sourceprior.datasets import licence_filter, read_manifest
    from sourceprior.errors import UserError
    from sourceprior.evaluation import Outcome, peak_memory_mb, read_outcomes, summarise, table, write_outcomes
    from sourceprior.evaluation import evaluate as run
    from sourceprior.library import load_priors
    from sourceprior.progress import progress_bar
    from sourceprior.sampling import settings_of
    from sourceprior.separation import make_folder
    from sourceprior.separators import BASELINES, baseline, with_priors
    from sourceprior.solver_choice import parse_options

    # A mixture list and priors read no manifest.
    licence_filter(licence)
    baselines_only = solver in BASELINES
    options = parse_options(option) if option else None
    if baselines_only:
        idle = {"preset": preset != "default", "steps": steps, "candidates": candidates, "option": option}
        for name in (name for name, given in idle.items() if given):
            raise UserError(f"The baseline {solver} has no {name}: leave --{name} out.")
    else:
        # Before anything is written.
        settings = settings_of(preset, steps=steps, candidates=candidates, solver=solver, options=options)
        solver = settings.solver
    for name, given in {"task": task, "split": split, "min-clips": min_clips, "speech": speech}.items():
        if mixtures and given:
            raise UserError(f"A list of mixtures says which they are: leave out --mixtures or --{name}.")
    split = split or "test"
    priors = None
    try:
        priors = load_priors(prior or None)
    except UserError:
        # Baselines need no prior; with one, they get the same mixtures as it.
        if prior or not baselines_only:
            raise
    train = read_manifest(data, "train", licence) if baselines_only and solver != "unprocessed" else []
    if mixtures:
        specs = lists.read_list(mixtures)
        order = [[spec for spec in specs if spec.task == name][:count] for name in dict.fromkeys(s.task for s in specs)]
        specs = [spec for some in order for spec in some]
    else:
        clips = read_manifest(data, split, licence)
        known = {label for p in priors for label in p.labels} if priors else None
        labels = lists.labels_to_draw(data, split, known, licence, min_clips)
        specs = [
            spec
            for name in task or lists.TASKS
            for spec in lists.draw(
                name, count or 50, clips, data, labels=labels, seed=list_seed, speech_as=speech or "single"
            )
        ]
    if baselines_only:
        wanted = sorted({label for spec in specs for label in spec.labels})
        bad: dict[str, str] = {}
        with progress_bar("Learning", quiet) as callback:
            separate = baseline(str(solver), train, wanted, dictionary=dictionary, progress=callback, bad=bad)
        if bad:
            typer.echo(f"Note: left out {len(bad)} of the training clips, broken or silent.", err=True)
    else:
        separate = with_priors(
            priors, preset=preset, steps=steps, candidates=candidates, solver=solver, options=options, device=device
        )

    measured: dict[str, Outcome] = {}
    if out:
        make_folder(out)
        measured = read_outcomes(out / "outcomes.jsonl")
    if out and not baselines_only:
        used = rows.PriorSet.of("priors", priors or load_priors(None))
        row = rows.on_priors(preset, preset, rows.OURS, False, settings, used, device)
        key = row.key({"zero_mean": zero_mean})
        marks = {id(spec): rows.digest_of([key, mixture_digest(spec)]) for spec in specs}
        before = {mark: measured[mark] for mark in marks.values() if mark in measured}
        if before:
            typer.echo(f"{len(before)} of {len(specs)} mixtures were measured before.", err=True)
        todo = [spec for spec in specs if marks[id(spec)] not in before]
        outcomes = run(todo, data, separate, zero_mean=zero_mean)
        outcomes = write_outcomes(
            outcomes, out / "outcomes.jsonl", [marks[id(spec)] for spec in todo], before, measured
        )
    else:
        outcomes = run(specs, data, separate, zero_mean=zero_mean)
        if out:
            own = [rows.digest_of([solver, zero_mean, mixture_digest(spec)]) for spec in specs]
            kept = {mark: outcome for mark, outcome in measured.items() if mark not in own}
            outcomes = write_outcomes(outcomes, out / "outcomes.jsonl", own, kept=kept)
    if out:
        lists.write_list(out / "mixtures.jsonl", specs)
    found = []
    with progress_bar("Separating", quiet) as callback:
        for outcome in outcomes:
            found.append(outcome)
            callback(len(found), len(specs))
    text = (
        table(summarise(found))
        + f"\n{solver}, {mixtures.name if mixtures else f'{split} split'}, peak memory {peak_memory_mb():.0f} MB\n"
    )
    if out:
        (out / "table.md").write_text(text)
    print(text, end="")
