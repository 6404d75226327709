"""`sourceprior labels`: what the priors know."""

from __future__ import annotations

import json as json_format
from typing import Annotated

import typer


def labels(
    json: Annotated[bool, typer.Option("--json", help="A list of objects with label, prior and licence.")] = False,
    prior: Annotated[
        list[str] | None, typer.Option("--prior", help="Folder or hub name of a prior; the bundled ones by default.")
    ] = None,
) -> None:
    """List the sources that the priors know."""
    from sourceprior.library import load_priors

    rows = [
        {"label": label, "prior": item.name, "licence": item.licence, "sample_rate": item.sample_rate}
        for item in load_priors(prior or None)
        for label in item.labels
    ]
    if json:
        print(json_format.dumps(rows, indent=2, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("label", "prior", "licence", box=None, header_style="bold")
    for row in rows:
        table.add_row(str(row["label"]), str(row["prior"]), str(row["licence"]))
    Console().print(table)
    print('"anything" stands for any sound. Case, spaces, hyphens and underscores in a label do not matter.')
