"""`sourceprior convert authors.pt out/ --classes ...`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def convert(
    checkpoint: Annotated[Path, typer.Argument(metavar="FILE", help="A published .pt file.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the prior.")],
    classes: Annotated[
        str | None, typer.Option(help="Labels in the order of the classes: with commas, or a file of one a line.")
    ] = None,
    weights: Annotated[str, typer.Option(help="ema (averaged) or model (raw).")] = "ema",
) -> None:
    """Turn a published checkpoint into a prior: safetensors, config and card."""
    from sourceprior.priors import SourcePrior

    names = None
    if classes is not None:
        listed = Path(classes).read_text().splitlines() if Path(classes).is_file() else classes.split(",")
        names = [name.strip() for name in listed if name.strip()]
    prior = SourcePrior.from_released(checkpoint, names, weights=weights)
    prior.save_pretrained(out)
    count = sum(parameter.numel() for parameter in prior.denoiser.parameters())
    print(f"{count / 1e6:.2f} M parameters, {len(prior.labels)} labels; written to {out}")
