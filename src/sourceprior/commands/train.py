"""`sourceprior train`: a prior from recordings of single sources."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

SOURCES = ("speech", "sounds", "all")


def train(
    data: Annotated[
        str,
        typer.Option(
            help="Folder with manifest.csv, a folder per class, VCTK, FSDKaggle2018, a pack or shards; or where shards "
            "are stored."
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Run folder: checkpoints, curves, and the prior itself.")],
    recipe: Annotated[
        str, typer.Option(help="compact, paper or fine-tune, or a TOML file; options given here win over it.")
    ] = "compact",
    network: Annotated[str | None, typer.Option(help="conv_unet, attention_unet or diffwave.")] = None,
    sources: Annotated[str, typer.Option(help="What the prior knows: speech, sounds, or all.")] = "sounds",
    minutes: Annotated[float | None, typer.Option(help="Training time after which the cosine decay ends.")] = None,
    steps: Annotated[
        int | None, typer.Option(help="Steps after which it ends, if that comes first; 0 only picks labels of --init.")
    ] = None,
    until: Annotated[float, typer.Option(help="Stop this call after so many minutes; the next one goes on.")] = 1e9,
    batch: Annotated[int | None, typer.Option(help="Examples per step, of all processes together.")] = None,
    accumulate: Annotated[int | None, typer.Option(help="Parts that a process cuts its batch into.")] = None,
    rate: Annotated[float | None, typer.Option(help="Highest learning rate.")] = None,
    negatives: Annotated[
        str | None, typer.Option(help="none, whole or spliced clips of other sources as silence.")
    ] = None,
    shared_spectrum: Annotated[bool | None, typer.Option(help="One average spectrum for all classes.")] = None,
    licence: Annotated[str, typer.Option(help="commercial (CC0, CC-BY, MIT, public domain) or any.")] = "commercial",
    voices: Annotated[
        bool, typer.Option(help="Tell male, female and child speech apart, where the manifest has gender and age.")
    ] = False,
    voice_groups: Annotated[
        int, typer.Option(min=0, max=200, help="Tell so many groups of speakers apart that sound alike.")
    ] = 0,
    init: Annotated[Path | None, typer.Option(help="Prior folder to start from.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the data and of the new weights.")] = None,
    compile: Annotated[
        bool | None, typer.Option(help="Compile the step (a minute or two, then several times faster).")
    ] = None,
    precision: Annotated[str | None, typer.Option(help="bf16, where the machine is quicker with it, or fp32.")] = None,
    memory: Annotated[
        float | None,
        typer.Option(
            help="GB for decoded clips; more data goes through in turns, but for a pack's, which are decoded at once."
        ),
    ] = None,
    check_minutes: Annotated[float | None, typer.Option(help="Minutes between checks on the valid split.")] = None,
    save_steps: Annotated[int, typer.Option(help="Steps between checkpoints, beside one every 3 minutes.")] = 0,
    change: Annotated[
        list[str] | None, typer.Option("--set", help="Any other field of a recipe: ema=0.05, network.width=16.")
    ] = None,
    report: Annotated[
        bool, typer.Option(help="At the end: figures per class, samples, separations (a minute).")
    ] = True,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Train a source prior; called again with the same folder it goes on from the last checkpoint."""
    from sourceprior import processes, recipes
    from sourceprior.corpus import Corpus
    from sourceprior.datasets import Clip, with_voices
    from sourceprior.errors import UserError
    from sourceprior.objectives import find_backbone, predicts_noise, rows_of
    from sourceprior.rolling import Rolling
    from sourceprior.runs import (
        ancestry,
        clip_table,
        describe,
        finish,
        has_learned,
        inherited,
        labels_of,
        origin_of,
        other_clips,
        own_clips,
        start_from,
        way_of_negatives,
        write_bad_clips,
    )
    from sourceprior.sampling import training_device
    from sourceprior.selectivity import selectivity
    from sourceprior.stem_files import make_folder
    from sourceprior.timbre import Timbre
    from sourceprior.training import Trainer, need_tensorboard

    need_tensorboard()
    if sources not in SOURCES:
        raise UserError(f"--sources is one of {', '.join(SOURCES)}, not '{sources}'.")
    make_folder(out)
    if learned := has_learned(out / "prior"):
        raise UserError(
            f"The prior in '{out / 'prior'}' has learned {', '.join(learned)} since, which training would write over: "
            "move it away, or train into another folder."
        )
    given = {
        "backbone": network, "minutes": minutes, "steps": steps, "batch": batch, "accumulate": accumulate,
        "rate": rate, "negatives": negatives, "shared_spectrum": shared_spectrum, "seed": seed, "compile": compile,
        "precision": precision, "memory": memory, "check_minutes": check_minutes,
    }  # fmt: skip
    settings = recipes.settings(recipe, (), given, change or [])
    place = training_device(device)
    group = processes.find(place)
    place = group.device(place)

    def log(text: str) -> None:
        if group.rank == 0:
            print(text, flush=True)

    corpus = Corpus(data, licence, with_voices if voices else list, place)
    if voices and corpus.shards:
        raise UserError("--voices needs the clips themselves: not with shards.")
    known = corpus.labels()
    lent: list[Clip] = []
    if way_of_negatives(settings, known, 0) != "none":
        lent = corpus.borrow()
    bank = corpus.bank(known, settings.memory, settings.batch * settings.seconds, settings.seed)
    first = bank.at(0)
    unread = dict(first.bad)
    valid = corpus.valid(known, settings.memory)
    groups: tuple[str, ...] = ()
    if voice_groups:
        timbre = Timbre.fit(first, voice_groups)
        groups = timbre.labels
        if isinstance(bank, Rolling):
            bank.prepare_with(timbre.assign)
        else:
            timbre.assign(bank)
        if valid:
            timbre.assign(valid)
    # Of data in turns it is to go when its turn is over.
    del first
    settings.labels = labels = rows_of(labels_of(sources, known, groups), settings)
    hours = sum(row.seconds for row in corpus.tally("train")) / 3600
    log(f"{hours:.2f} h of {len(known)} classes on {place}; the prior knows {len(labels)} labels")
    log(f"negatives: {way_of_negatives(settings, known, len(lent))}")
    if corpus.own:
        log("the data states no licence: its clips are taken to be your own, and the card says so")
    if isinstance(bank, Rolling):
        log(f"in {bank.parts} parts of {60 * hours / bank.parts:.0f} min in turns of {bank.steps} steps, see --memory")
    if valid and not own_clips(corpus.tally("valid"), sources):
        log(f"the valid split has no clips of {sources}: nothing is checked on the way")
        valid = None
    if voice_groups and predicts_noise(settings.backbone):
        raise UserError("--voice-groups needs negatives, which a network that predicts the noise is not shown.")
    start = start_from(init, labels, settings.grow) if init else None
    if start is not None and not isinstance(start.network, find_backbone(settings.backbone)):
        raise UserError(
            f"The prior '{init}' has another network than {settings.backbone}: name its own by --network, or start "
            "without --init."
        )
    tally, before = corpus.tally("train"), inherited(init) if init else ("", {})
    negative = [*other_clips(tally, sources), *lent] if way_of_negatives(settings, known, 0) != "none" else []
    origin = origin_of(describe(data, licence, tally, sources, negative), before)
    trainer = Trainer(settings, bank, out, start, lambda text: print(text, flush=True), valid, group, origin)
    if trainer.resume():
        log(f"going on from step {trainer.step}, {trainer.elapsed / 60:.0f} minutes")

    def check(denoiser) -> dict[str, float]:
        return selectivity(denoiser, labels, valid, settings.check_clips) if valid else {}

    figures = trainer.run(until=60 * until, check=check, save_steps=save_steps)
    if group.rank:
        return
    bad = {**getattr(bank, "bad", {}), **unread, **(valid.bad if valid else {})}
    write_bad_clips(out, bad, log)
    if settings.leave == "best" and trainer.take_best():
        log(f"the prior is the best checkpoint, of step {trainer.best_step}")
        figures = check(trainer.averaged())
    rows, others = corpus.table("train"), []
    if way_of_negatives(settings, known, 0) != "none":
        others = [*other_clips(rows, sources), *lent]
    about = describe(data, licence, rows, sources, others) | {
        "clips left out": len(bad), "taken as own": corpus.own,
        "negatives from": way_of_negatives(settings, known, len(lent)),
    }  # fmt: skip
    prior = finish(
        trainer, out / "prior", about, figures, ancestry(init) if init else "",
        clip_table(data, rows, sources, others), before,
    )  # fmt: skip
    if report:
        from sourceprior.run_report import write_report

        write_report(prior, valid, out / "report", log, place)
