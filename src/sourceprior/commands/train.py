"""`sourceprior train`: a prior from folders of single sources."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

SOURCES = ("speech", "sounds", "all")


def train(
    data: Annotated[Path, typer.Option(help="Folder with manifest.csv and its clips, or a pack (`data pack`).")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Run folder: checkpoints, curves, and the prior itself.")],
    sources: Annotated[str, typer.Option(help="What the prior knows: speech, sounds, or all.")] = "sounds",
    minutes: Annotated[float, typer.Option(help="Training time after which the cosine decay ends.")] = 60.0,
    steps: Annotated[
        int, typer.Option(help="Steps after which it ends, if that comes first; 0 only picks labels of --init.")
    ] = 1_000_000,
    until: Annotated[float, typer.Option(help="Stop this call after so many minutes; the next one goes on.")] = 1e9,
    batch: Annotated[int, typer.Option(help="Examples per step.")] = 32,
    rate: Annotated[float, typer.Option(help="Highest learning rate.")] = 2e-3,
    negatives: Annotated[
        str, typer.Option(help="none, whole or spliced clips of other sources as silence.")
    ] = "spliced",
    shared_spectrum: Annotated[bool, typer.Option(help="One average spectrum for all classes.")] = False,
    licence: Annotated[str, typer.Option(help="commercial (CC0, CC-BY, MIT, public domain) or any.")] = "commercial",
    voices: Annotated[
        bool, typer.Option(help="Tell male, female and child speech apart, where the manifest has gender and age.")
    ] = False,
    voice_groups: Annotated[
        int, typer.Option(min=0, max=200, help="Tell so many groups of speakers apart that sound alike.")
    ] = 0,
    init: Annotated[Path | None, typer.Option(help="Prior folder to start from.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the data and of the new weights.")] = 0,
    compile: Annotated[
        bool, typer.Option(help="Compile the step (a minute or two, then several times faster).")
    ] = True,
    check_minutes: Annotated[float, typer.Option(help="Minutes between checks on the valid split.")] = 15.0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Train a source prior; called again with the same folder it goes on from the last checkpoint."""
    import torch

    from sourceprior.datasets import ClipBank, with_voices
    from sourceprior.denoisers import SpectralDenoiser
    from sourceprior.errors import UserError
    from sourceprior.packs import read_clips, reader
    from sourceprior.runs import ancestry, describe, finish, labels_of, start_from
    from sourceprior.selectivity import selectivity
    from sourceprior.timbre import Timbre
    from sourceprior.training import Settings, Trainer

    if sources not in SOURCES:
        raise UserError(f"--sources is one of {', '.join(SOURCES)}, not '{sources}'.")
    where = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    clips, valid_clips = (
        with_voices(read) if voices else read for read in (read_clips(data, s, licence) for s in ("train", "valid"))
    )
    known = sorted({clip.label for clip in clips})
    # The readers live no longer than these lines: a pack's holds all of its audio.
    bank = ClipBank(clips, known, read=reader(data, "train")).to(where)
    valid = ClipBank(valid_clips, known, read=reader(data, "valid")).to(where)
    groups: tuple[str, ...] = ()
    if voice_groups:
        timbre = Timbre.fit(bank, voice_groups)
        timbre.assign(bank)
        timbre.assign(valid)
        groups = timbre.labels
    labels = labels_of(sources, known, groups)
    settings = Settings(
        labels=labels, negatives=negatives, shared_spectrum=shared_spectrum, batch=batch, steps=steps, minutes=minutes,
        rate=rate, seed=seed, compile=compile,
    )  # fmt: skip
    print(
        f"{bank.seconds / 3600:.2f} h of {len(known)} classes on {where}; the prior knows {len(labels)} labels",
        flush=True,
    )
    trainer = Trainer(
        settings, bank, out, init=start_from(init, labels) if init else None, log=lambda text: print(text, flush=True)
    )
    if trainer.resume():
        print(f"going on from step {trainer.step}, {trainer.elapsed / 60:.0f} minutes", flush=True)

    def check(denoiser: SpectralDenoiser) -> dict[str, float]:
        return selectivity(denoiser, labels, valid)

    figures = trainer.run(until=60 * until, check_every=60 * check_minutes, check=check)
    finish(trainer, out / "prior", describe(data, licence, clips, sources), figures, ancestry(init) if init else "")
