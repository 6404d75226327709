"""`sourceprior sample --label Bark -n 4 -o out/`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def sample(
    label: Annotated[str, typer.Option(help="What to generate; `labels` lists what there is.")],
    count: Annotated[int, typer.Option("-n", "--count", min=1, help="How many.")] = 1,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the files.")] = Path("out"),
    seconds: Annotated[float, typer.Option(min=0.1, max=60, help="Length of each.")] = 4.0,
    steps: Annotated[int, typer.Option(min=1, max=5000, help="Steps of the process.")] = 200,
    seed: Annotated[int, typer.Option(help="Same seed, same sounds; 0 or more.")] = 0,
    label_scale: Annotated[
        float, typer.Option(min=0, max=100, help="How much the label counts: 2 exaggerates it, 0 forgets it.")
    ] = 1.0,
    prior: Annotated[list[str] | None, typer.Option("--prior", help="Folder or hub name; once per prior.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    precision: Annotated[
        str | None, typer.Option(help="Of the networks: float32 or bfloat16; else what each prior says.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files of these names.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No progress.")] = False,
) -> None:
    """Generate sounds of one label from a prior, without any recording."""
    import torch

    from sourceprior import writing
    from sourceprior.ancestral import ancestral
    from sourceprior.conditioning import guided
    from sourceprior.errors import Diverged, UserError
    from sourceprior.formats import FileFormat
    from sourceprior.labels import find
    from sourceprior.library import load_priors
    from sourceprior.presets import scale_of, seeded
    from sourceprior.priors import joint, with_precision
    from sourceprior.progress import progress_bar
    from sourceprior.sampling import find_device
    from sourceprior.schedules import vp_linear
    from sourceprior.separation import check_seed, make_folder
    from sourceprior.stem_files import earlier_run, file_name, refuse_files

    check_seed(seed)
    (source,) = with_precision(find([label], load_priors(prior or None)), precision)
    names = [f"{file_name(source.name)}_{index + 1}.wav" for index in range(count)]
    if taken := sorted(set(names) & set(earlier_run(out).files)):
        raise UserError(f"{out} holds stems of a recording, {taken[0]} among them: choose another folder with -o.")
    refuse_files([make_folder(out) / name for name in names], overwrite)
    place = find_device(device)
    denoise = guided(joint([source], place), [source], label_scale, place)
    scale = scale_of([source])
    with progress_bar("Sampling", quiet) as callback:
        waves = ancestral(
            lambda x, sigma: denoise(scale * x, scale * sigma) / scale,
            vp_linear(steps),
            1,
            round(seconds * source.prior.sample_rate),
            generators=seeded(count, seed),
            like=torch.empty(0, device=place),
            callback=lambda step, total, *_: callback(step + 1, total),
        )
    if not bool(waves.isfinite().all()):
        raise Diverged("The sampling diverged: choose a smaller --label-scale.")
    for name, wave in zip(names, waves.cpu().numpy(), strict=True):
        writing.write(out / name, wave, source.prior.sample_rate, FileFormat("WAV", "FLOAT"))
    if not quiet:
        print(f"{count} x {seconds:g} s of {source.name} written to {out}")
