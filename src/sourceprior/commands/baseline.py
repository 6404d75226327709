"""`sourceprior baseline train conv_tasnet --task speech_sound --data DIR -o OUT`: a supervised network, to compare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def baseline(
    action: Annotated[str, typer.Argument(help="train: a supervised separator, for comparison with the priors.")],
    kind: Annotated[str, typer.Argument(help="conv_tasnet or tf_locoformer.")],
    task: Annotated[str, typer.Option(help="speech_sound, speech_two_sounds, two_sounds, three_sounds or two_speech.")],
    data: Annotated[Path, typer.Option(help="Folder with manifest.csv and the clips it lists.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Run folder: checkpoint and model.")],
    minutes: Annotated[float, typer.Option(min=0.0, help="Training time in all.")] = 60.0,
    steps: Annotated[int, typer.Option(min=1, help="Steps in all, if that comes first.")] = 10_000_000,
    until: Annotated[float, typer.Option(help="Stop this call after so many minutes; the next one goes on.")] = 1e9,
    size: Annotated[str, typer.Option(help="small (for two cores) or paper.")] = "small",
    batch: Annotated[int, typer.Option(min=1, help="Mixtures per step.")] = 4,
    seconds: Annotated[float, typer.Option(min=0.5, max=60, help="Length of a mixture to train on.")] = 2.0,
    rate: Annotated[float, typer.Option(min=0.0, max=1.0, help="Learning rate.")] = 1e-3,
    speech: Annotated[
        str, typer.Option(help="single: one utterance; joined: a speaker's utterances until the mixture is full.")
    ] = "single",
    precision: Annotated[str, typer.Option(help="bf16, where the machine is quicker with it, or fp32.")] = "bf16",
    licence: Annotated[str, typer.Option(help="commercial or any: of the clips trained on.")] = "commercial",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the weights and of the mixtures.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Train a supervised baseline on mixtures of the train split; with the same folder it goes on where it was."""
    from sourceprior.baselines.supervised import count, module_of
    from sourceprior.baselines.training import Settings, Trainer
    from sourceprior.datasets import read_manifest
    from sourceprior.errors import UserError, alternatives
    from sourceprior.runs import per_licence
    from sourceprior.sampling import training_device
    from sourceprior.separation import check_seed, make_folder

    if action != "train":
        raise UserError(f"`sourceprior baseline` knows train, not '{action}'.")
    check_seed(seed)
    sizes = module_of(kind).SIZES
    if size not in sizes:
        raise UserError(f"There is no size {size!r} of {kind}; choose {alternatives(list(sizes))}.")
    clips = read_manifest(data, "train", licence)
    try:
        valid = read_manifest(data, "valid", licence)
    except UserError:
        valid = []
    make_folder(out)
    if (out / "config.json").exists() and not (out / "last.pt").exists():
        raise UserError(f"{out} holds something else, perhaps a prior: choose another folder with -o.")
    settings = Settings(
        kind=kind, task=task, options=dict(sizes[size]), batch=batch, seconds=seconds, rate=rate, seed=seed,
        speech_as=speech, precision=precision,
    )  # fmt: skip
    place = training_device(device)

    def log(text: str) -> None:
        print(text, flush=True)

    origin = {
        "name of its data": data.resolve().name, "licence filter": licence,
        "number of clips per licence": per_licence(clips),
    }  # fmt: skip
    trainer = Trainer(settings, clips, data, out, valid=valid, device=place, log=log, origin=origin)
    log(f"{kind}, {size}: {count(trainer.network)} parameters, on {place}")
    if trainer.resume():
        log(f"going on from step {trainer.step}, {trainer.elapsed / 60:.0f} minutes")
    trainer.run(minutes, steps, until=until)
    improvement = trainer.check()
    hours = sum(clip.seconds for clip in clips) / 3600
    # nan is no JSON.
    known = None if improvement != improvement else round(improvement, 2)
    trainer.finish({"clips": len(clips), "hours": round(hours, 2), "licence filter": licence}, known)
    log(f"step {trainer.step}: improvement {improvement:.2f} dB on valid mixtures; the model is in {out}")
