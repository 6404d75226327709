"""`sourceprior learn recordings/robin/ --name robin -o my-prior/`: a new source from a folder of clips."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import Annotated

import typer


def learn(
    folder: Annotated[
        Path, typer.Argument(readable=False, help="Folder of clips of one source: 10 of them, or 30 s, to begin with.")
    ],
    name: Annotated[str, typer.Option(help="What the source is to be called.")],
    out: Annotated[
        Path, typer.Option("-o", "--out", help="Folder of the prior; one that is there learns this source as well.")
    ] = Path("my-prior"),
    licence: Annotated[
        str | None, typer.Option(help="Of the clips, such as CC0-1.0 or own; else as a manifest.csv among them says.")
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="Prior to start from: sounds (the default), speech for a voice, or a folder.")
    ] = None,
    same_as: Annotated[
        list[str] | None, typer.Option(help="Known label that is the same kind of sound, not another one; repeat it.")
    ] = None,
    minutes: Annotated[float, typer.Option(min=0.1, help="The most it takes; it stops by itself before.")] = 10.0,
    steps: Annotated[int, typer.Option(min=0, help="The most steps of learning.")] = 600,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same prior.")] = 0,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No progress, no report.")] = False,
) -> None:
    """Learn a new source from clips of it, for `separate --prior`; the known sources stay as they are."""
    from sourceprior.learning import Settings
    from sourceprior.learning_folder import REPORT
    from sourceprior.learning_folder import learn as run
    from sourceprior.learning_report import text_of
    from sourceprior.progress import progress_bar

    shown = time.monotonic()

    with progress_bar(f"Learning {name}", quiet) as bar:

        def progress(done: int, most: int, loss: float, left: float) -> None:
            nonlocal shown
            bar(done, most)
            # A bar is not drawn into a file; there a line now and then tells the same.
            if not quiet and time.monotonic() - shown > 20:
                shown = time.monotonic()
                typer.echo(
                    f"step {done} of at most {most}, held-out loss {loss:.3f}, at most {left / 60:.1f} min left",
                    err=True,
                )

        settings = Settings(steps=steps, seed=seed, minutes=minutes, same_as=tuple(same_as or ()))
        report = run(
            folder,
            name,
            out,
            base=base,
            licence=licence,
            settings=settings,
            minutes=minutes,
            progress=progress,
            reading=bar,
        )
    if not quiet:
        typer.echo(text_of(report), nl=False)
        use = shlex.join(["sourceprior", "separate", "MIX", "-s", name, "--prior", str(out)])
        typer.echo(f"\nWritten to {out} ({name}{REPORT}.txt). Use it: {use}")
