"""`sourceprior listen MIX`: which of the known sources a recording could hold."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import Annotated

import typer


def listen(
    mixture: Annotated[Path, typer.Argument(metavar="MIX", readable=False, help="The recording.")],
    count: Annotated[int, typer.Option("-n", "--count", min=1, help="How many labels to list.")] = 10,
    json: Annotated[bool, typer.Option("--json", help="A list of objects with label, prior and fit.")] = False,
    prior: Annotated[
        list[str] | None, typer.Option("--prior", help="Folder or hub name of a prior; the bundled ones by default.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
) -> None:
    """Rank the known sources by how much of the recording each restores best of all, without separating it.

    A first guess at what to ask `separate` for; the fit is no probability.
    """
    from sourceprior.listening import rank

    rows = [{"label": label, "prior": name, "fit": round(fit, 3)} for label, name, fit in rank(mixture, prior, device)]
    if json:
        print(json_format.dumps(rows[:count], indent=2, ensure_ascii=False))
        return
    for row in rows[:count]:
        print(f"{row['label']:28} {row['fit']:6.3f}   {row['prior']}")
