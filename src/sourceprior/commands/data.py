"""`sourceprior data pack`: a training set in a form that travels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def data(
    action: Annotated[str, typer.Argument(help="pack: one Ogg Opus file per split and an index, for `train --data`.")],
    folder: Annotated[Path, typer.Option("--data", help="Folder with manifest.csv and the clips it lists.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of the pack.")],
    split: Annotated[list[str] | None, typer.Option(help="A split to pack; once per split (train, valid).")] = None,
    licence: Annotated[str, typer.Option(help="commercial (CC0, CC-BY, MIT, public domain) or any.")] = "commercial",
    kbps: Annotated[float, typer.Option(help="Bit rate in kbit/s, 6 to 256.")] = 24.0,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No progress.")] = False,
) -> None:
    """Pack the clips of a manifest into one Ogg Opus file per split, to train from on another machine."""
    from sourceprior.errors import UserError
    from sourceprior.packs import read_clips, write_pack
    from sourceprior.progress import progress_bar

    if action != "pack":
        raise UserError(f"`sourceprior data` knows pack, not '{action}'.")
    splits = list(dict.fromkeys(split or ["train", "valid"]))
    with progress_bar("Packing", quiet) as callback:
        size = write_pack(folder, out, splits, licence, kbps, progress=callback)
    for name in splits:
        clips = read_clips(out, name, "any")
        hours = sum(clip.seconds for clip in clips) / 3600
        megabytes = (out / f"{name}.opus").stat().st_size / 1e6
        print(f"{name}: {len(clips)} clips, {hours:.2f} h, {megabytes:.1f} MB")
    print(f"{out}: {size / 1e6:.1f} MB")
