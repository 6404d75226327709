"""`sourceprior data vctk ROOT -o OUT`: data sets as they come into one manifest; `pack`, `shard`: forms that travel."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

LAYOUTS = ("vctk", "fsdkaggle2018", "folder", "manifest")
TAKES = {
    "vctk": ("ROOT", "--rate", "--mic", "--valid"),
    "fsdkaggle2018": ("ROOT", "--rate", "--valid"),
    "folder": ("ROOT", "--rate", "--kind", "--test", "--valid", "--licence"),
    "manifest": ("ROOT", "--rate"),
    "pack": ("--data", "--split", "--licence", "--kbps"),
    "shard": ("--data", "--split", "--licence", "--megabytes"),
}
"""What each action takes beside -o and -q."""


def data(
    action: Annotated[
        str, typer.Argument(help="vctk, fsdkaggle2018, folder or manifest: the layout of ROOT; or pack, or shard.")
    ],
    root: Annotated[
        Path | None, typer.Argument(help="The data set's folder, or a manifest file; not for pack and shard.")
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--data", help="pack, shard: folder with manifest.csv and the clips it lists, or a folder per class."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Folder of the manifest and the copies, or of the pack.")
    ] = None,
    rate: Annotated[int, typer.Option(min=8000, max=48000, help="Sample rate of the copies, Hz.")] = 16000,
    mic: Annotated[int, typer.Option(help="vctk: microphone 1 or 2.")] = 1,
    kind: Annotated[str, typer.Option(help="folder: sound (a folder per class) or speech (per speaker).")] = "sound",
    test: Annotated[float, typer.Option(help="folder: share of the recordings for the test split.")] = 0.1,
    valid: Annotated[
        float | None,
        typer.Option(
            help="Share of what could be trained on for the valid split: folder 0.1, fsdkaggle2018 0.05 of each class, "
            "vctk six speakers of a fixed list; 0 for none."
        ),
    ] = None,
    split: Annotated[
        list[str] | None, typer.Option(help="pack, shard: a split; once per split (train, valid).")
    ] = None,
    licence: Annotated[
        str | None,
        typer.Option(
            help="pack, shard: commercial (CC0, CC-BY, MIT, public domain) or any. folder: the clips' own licence, if "
            "it is known: CC-BY-4.0, own, ..."
        ),
    ] = None,
    kbps: Annotated[float, typer.Option(help="pack: bit rate in kbit/s, 6 to 256.")] = 24.0,
    megabytes: Annotated[float, typer.Option(help="shard: size of a tar file.")] = 100.0,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No progress.")] = False,
) -> None:
    """Turn a data set into a manifest with copies at one sample rate, or pack a manifest's clips to train elsewhere."""
    from sourceprior.errors import UserError, alternatives
    from sourceprior.licences import NOT_STATED

    if action not in (*LAYOUTS, "pack", "shard"):
        raise UserError(f"`sourceprior data` knows {alternatives([*LAYOUTS, 'pack', 'shard'])}, not '{action}'.")
    given = {
        "ROOT": root is not None, "--data": folder is not None, "--rate": rate != 16000, "--mic": mic != 1,
        "--kind": kind != "sound", "--test": test != 0.1, "--valid": valid is not None, "--split": bool(split),
        "--licence": licence is not None, "--kbps": kbps != 24.0, "--megabytes": megabytes != 100.0,
    }  # fmt: skip
    unused = [name for name, here in given.items() if here and name not in TAKES[action]]
    if unused:
        raise UserError(f"`sourceprior data {action}` has no use for {', '.join(unused)}: leave that out.")
    if out is None:
        raise UserError(f"Say where to write: sourceprior data {action} ... -o OUT.")
    if action in ("pack", "shard"):
        if folder is None:
            raise UserError(f"Say what to pack: sourceprior data {action} --data DIR -o OUT.")
        if action == "shard":
            _shard(folder, out, split, licence or "commercial", megabytes, quiet)
            return
        _pack(folder, out, split, licence or "commercial", kbps, quiet)
        return
    if root is None:
        raise UserError(f"Say where the data set is: sourceprior data {action} ROOT -o OUT.")
    _build(action, root, out, rate, mic, kind, licence or NOT_STATED, test, valid, quiet)


def _build(
    layout: str, root: Path, out: Path, rate: int, mic: int, kind: str, licence: str, test: float, valid: float | None,
    quiet: bool,
) -> None:  # fmt: skip
    from sourceprior.corpora.build import build
    from sourceprior.corpora.folder import folder
    from sourceprior.corpora.fsdkaggle2018 import fsdkaggle2018
    from sourceprior.corpora.manifest import manifest
    from sourceprior.corpora.vctk import vctk
    from sourceprior.errors import UserError
    from sourceprior.licences import NOT_STATED
    from sourceprior.progress import progress_bar
    from sourceprior.separation import make_folder

    if layout == "vctk" and valid:
        raise UserError("The valid split of VCTK is a fixed list of speakers: leave --valid out, or give 0 for none.")
    if not 0 <= (valid or 0) < 1:
        raise UserError(f"The share of the valid split lies between 0 and 1, not {valid}.")
    inner, target = root.resolve(), (out / kind).resolve()
    if layout == "folder" and (target.is_relative_to(inner) or inner.is_relative_to(target)):
        raise UserError(f"The copies in '{out}' would be among the recordings of '{root}': choose an -o outside of it.")
    if layout == "manifest" and (out / "manifest.csv").exists():
        given = root / "manifest.csv" if root.is_dir() else root
        if given.exists() and given.samefile(out / "manifest.csv"):
            raise UserError(f"The manifest of the copies would take the place of '{given}': choose another -o.")
    found = {
        "vctk": lambda: vctk(root, mic, hold_out=valid != 0),
        "fsdkaggle2018": lambda: fsdkaggle2018(root, 0.05 if valid is None else valid),
        "folder": lambda: folder(root, kind, licence, test, 0.1 if valid is None else valid),
        "manifest": lambda: manifest(root),
    }[layout]()
    make_folder(out)
    with progress_bar("Copying", quiet) as callback:
        built = build(found, out, rate, callback)
    for split in ("train", "valid", "test"):
        if built.clips[split]:
            labels = len({entry.label for entry in found.entries if entry.split == split})
            print(f"{split}: {built.clips[split]} clips, {built.hours[split]:.2f} h, {labels} classes or speakers")
    if layout == "folder" and licence == NOT_STATED:
        print(
            "the licence of the clips is not stated, so `--licence commercial` leaves them out: if they are yours, add "
            "`--licence own`"
        )
    trained = {entry.label for entry in found.entries if entry.split == "train"}
    untrained = sorted({entry.label for entry in found.entries if entry.kind == "sound"} - trained)
    if layout == "folder" and untrained:
        print(f"no clip to train with: {', '.join(untrained)}")
    for reason, count in built.skipped.items():
        if count:
            print(f"left out: {count} {reason}")
    if built.replaced:
        print(
            f"{built.replaced} clips that an earlier data set of the same name had brought are no longer in the "
            "manifest: to keep both, rename the folder of one and add it again"
        )
    print(f"{out / 'manifest.csv'}: {built.made} copies made, {built.kept} kept")


def _pack(folder: Path, out: Path, split: list[str] | None, licence: str, kbps: float, quiet: bool) -> None:
    from sourceprior.packs import read_clips, write_pack
    from sourceprior.progress import progress_bar

    splits = list(dict.fromkeys(split or ["train", "valid"]))
    with progress_bar("Packing", quiet) as callback:
        bad = write_pack(folder, out, splits, licence, kbps, progress=callback)
    for name in splits:
        clips = read_clips(out, name, "any")
        hours = sum(clip.seconds for clip in clips) / 3600
        megabytes = (out / f"{name}.opus").stat().st_size / 1e6
        print(f"{name}: {len(clips)} clips, {hours:.2f} h, {megabytes:.1f} MB")
    size = sum(file.stat().st_size for file in out.iterdir() if file.is_file())
    print(f"{out}: {size / 1e6:.1f} MB")
    _tell(bad)


def _shard(folder: Path, out: Path, split: list[str] | None, licence: str, megabytes: float, quiet: bool) -> None:
    from sourceprior.progress import progress_bar
    from sourceprior.shards import Shards, write_shards

    splits = list(dict.fromkeys(split or ["train", "valid"]))
    with progress_bar("Writing", quiet) as callback:
        bad = write_shards(folder, out, splits, licence, megabytes, callback)
    shards = Shards(out, "any")
    for name in splits:
        rows = shards.tally(name)
        clips, hours = sum(row.clips for row in rows), sum(row.seconds for row in rows) / 3600
        print(f"{name}: {clips} clips, {hours:.2f} h, {len(shards.split(name)['shards'])} shards")
    _tell(bad)


def _tell(bad: list[str]) -> None:
    from sourceprior.stem_files import printable

    if bad:
        print(f"{len(bad)} clips that cannot be read were left out, such as {printable(bad[0])}")
