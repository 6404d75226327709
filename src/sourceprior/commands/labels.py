"""`sourceprior labels`: what the priors know."""

from __future__ import annotations

import json as json_format
from typing import Annotated

import typer


def labels(
    json: Annotated[bool, typer.Option("--json", help="A list of objects with label, prior, licence and use.")] = False,
    prior: Annotated[
        list[str] | None, typer.Option("--prior", help="Folder or hub name of a prior; the bundled ones by default.")
    ] = None,
) -> None:
    """List the sources that the priors know, and what may be done with them."""
    from sourceprior.datasets import VOICE_GROUP, is_voice_group
    from sourceprior.library import load_priors
    from sourceprior.licences import licences_of, use_of_label

    rows: dict[str, dict[str, object]] = {}
    for item in load_priors(prior or None):
        # What was learned on top of a prior may have another licence than the prior itself.
        own = item.config.get("base_licence", item.licence)
        for label in item.labels:
            learned = label in item.config.get("learned", {})
            row = {
                "label": label,
                "prior": item.name,
                "licence": ", ".join(licences_of(item.config, label)) if learned else own,
                "use": use_of_label(item.config, label),
                "sample_rate": item.sample_rate,
            }
            # Of several priors that know a label the first one is used.
            rows.setdefault(label, row)
    if json:
        print(json_format.dumps(list(rows.values()), indent=2, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("label", "prior", "licence", "use", box=None, header_style="bold")
    by_use: dict[str, list[str]] = {}
    for row in rows.values():
        use = str(row["use"])
        table.add_row(*(escape(str(row[key])) for key in ("label", "prior", "licence")), escape(use.partition(",")[0]))
        by_use.setdefault(use, []).append(str(row["label"]))
    Console().print(table)
    for use, names in by_use.items():
        print(f"{f'{len(names)} labels' if len(names) > 3 else ', '.join(names)}: {use}.")
    if any(map(is_voice_group, rows)):
        print(f'"{VOICE_GROUP}1" and so on are groups of voices that sound alike, from low to high.')
    print('"anything" stands for any sound. Case, spaces, hyphens and underscores in a label do not matter.')
