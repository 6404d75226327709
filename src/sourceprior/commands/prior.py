"""`sourceprior prior list|merge|rename|remove`: what a prior has learned."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

FORMS = {
    "list": "list PRIOR...",
    "merge": "merge PRIOR PRIOR... -o FOLDER",
    "rename": "rename PRIOR NAME NEW-NAME",
    "remove": "remove PRIOR NAME",
}


def prior(
    action: Annotated[str, typer.Argument(help="; ".join(FORMS.values()))],
    words: Annotated[list[str], typer.Argument(metavar="PRIOR [NAME]...", help="Folders of priors, and names.")],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Of merge: folder of the merged prior.")] = None,
) -> None:
    """List, merge, rename or remove the sources that priors have learned (`sourceprior learn`)."""
    from sourceprior import adapters
    from sourceprior.errors import UserError, alternatives
    from sourceprior.learning_folder import REPORT, check_place, learning, rewrite, write_folder
    from sourceprior.licences import licences_of, use_of_label
    from sourceprior.priors import SourcePrior

    count = {"list": len(words) >= 1, "merge": len(words) >= 2, "rename": len(words) == 3, "remove": len(words) == 2}
    if action not in FORMS or not count[action] or (action == "merge") != (out is not None):
        forms = [FORMS[action]] if action in FORMS else list(FORMS.values())
        raise UserError(f"Write it so: {alternatives([f'`sourceprior prior {form}`' for form in forms])}.")
    folders = [Path(word) for word in (words if action in ("list", "merge") else words[:1])]
    priors = [SourcePrior.from_pretrained(folder) for folder in folders]
    if action == "list":
        for folder, item in zip(folders, priors, strict=True):
            items = adapters.learned_of(item)
            known = len(item.labels) - len(items)
            typer.echo(f"{folder}: {known} labels of {item.config.get('base_name', item.name)}, {len(items)} learned")
            for learned in items:
                record = learned.record
                typer.echo(
                    f"  {learned.name}: {len(record['clips'])} clips, {record['seconds']:.0f} s, gain "
                    f"{record['denoising']['held out']['1']['gain']:.1f} dB; "
                    f"{', '.join(licences_of(item.config, learned.name))}: {use_of_label(item.config, learned.name)}"
                )
    elif action == "merge":
        assert out is not None
        check_place(out)
        merged = adapters.merge(priors)
        reports = {
            path.name: path.read_text("utf-8") for folder in folders for path in sorted(folder.glob(f"*{REPORT}.*"))
        }
        write_folder(merged, out, reports)
        names = ", ".join(learned.name for learned in adapters.learned_of(merged))
        typer.echo(f"{out} knows {names} beside the labels of {merged.config['base_name']}.")
    else:
        with learning(folders[0]):
            # Once more: a source may have been learned meanwhile.
            item = SourcePrior.from_pretrained(folders[0])
            if action == "rename":
                rewrite(folders[0], adapters.rename(item, words[1], words[2]), words[1], words[2])
            else:
                rewrite(folders[0], adapters.remove(item, words[1]), words[1], None)
