"""`sourceprior demo`: a mixture whose sources are known, taken apart; `make demo` runs it on the shipped one."""

from __future__ import annotations

import filecmp
import shutil
from pathlib import Path
from typing import Annotated

import typer

from sourceprior.progress import progress_bar


def demo(
    folder: Annotated[Path, typer.Argument(help="Has mixture.wav and a FLAC file per source, named by label.")] = Path(
        "examples/demo"
    ),
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for stems, residual, report and picture.")] = Path(
        "demo-out"
    ),
    preset: Annotated[str, typer.Option(help="fast, default or best.")] = "default",
    prior: Annotated[
        list[str] | None, typer.Option("--prior", help="Folder or hub name of a prior; once per prior.")
    ] = None,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No progress bar.")] = False,
) -> None:
    """Separate a mixture whose sources are known, and say how near the stems are to them."""
    from sourceprior.errors import UserError

    truth = {path.stem: path for path in sorted(folder.glob("*.flac"))}
    if not truth:
        raise UserError(f"{folder} has no source files (*.flac); run the demo from the project's folder.")

    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from sourceprior import audio
    from sourceprior.audio import channels_first
    from sourceprior.metrics import si_sdr
    from sourceprior.plots import spectrograms
    from sourceprior.separation import separate
    from sourceprior.stem_files import PICTURE, REPORT, earlier_run, file_name, make_folder

    make_folder(out)
    mixture = folder / "mixture.wav"
    copied = out / "mixture.wav"
    earlier = earlier_run(out).files
    ours = {*earlier, REPORT} if earlier else set()
    stems = [f"{file_name(name)}.wav" for name in (*truth, "residual")]
    for name in {*stems, REPORT, PICTURE} - ours:
        if (out / name).exists():
            raise UserError(f"{out} holds another {name}: choose another folder with -o.")
    if copied.exists() and not filecmp.cmp(copied, mixture, shallow=False):
        raise UserError(f"{copied} is another mixture: choose another folder with -o.")
    mixed = audio.read(mixture)
    sources = []
    for path in truth.values():
        source = audio.read(path)
        if (source.sample_rate, source.samples.shape[1]) != (mixed.sample_rate, mixed.samples.shape[1]):
            raise UserError(f"{path} has another rate or length than {mixture}: the stems cannot be compared with it.")
        sources.append(source.samples.mean(0))
    with progress_bar("Separating", quiet) as callback:
        result = separate(mixture, None, list(truth), preset=preset, prior=prior or None, callback=callback)
    result.save(out)
    if not copied.exists():
        shutil.copyfile(mixture, copied)

    table = Table("source", "SI-SDR of the stem", "unprocessed", box=None, header_style="bold")
    notes = {}
    for source, (name, stem) in zip(sources, result.stems.items(), strict=True):
        heard = [channels_first(signal)[0].mean(0) for signal in (result.mixture, stem)]
        before, after = (float(si_sdr(signal, source)) for signal in heard)
        table.add_row(escape(name), f"{after:.1f} dB", f"{before:.1f} dB")
        notes[name] = f"·  SI-SDR {after:.1f} dB"
    # In place of the one that `save` has drawn, and told of in the report: with the figures in it.
    spectrograms({"mixture": result.mixture, **result.stems}, result.sample_rate, out / "spectrograms.png", notes)
    console = Console()
    console.print(table)
    console.print(f"{result.report['seconds']:.1f} s for {len(result.mixture) / result.sample_rate:.1f} s of audio;")
    console.print(f"stems, residual, report.json and spectrograms.png are in {out}")
