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
    from sourceprior.errors import UserError
    from sourceprior.learning_folder import write_folder
    from sourceprior.priors import SourcePrior
    from sourceprior.stem_files import make_folder

    if out.is_dir() and any(out.iterdir()):
        raise UserError(f"'{out}' is there already: choose another folder for the prior.")
    names = None if classes is None else listed(classes)
    prior = SourcePrior.from_released(checkpoint, names, weights=weights)
    write_folder(prior, make_folder(out), {})
    count = sum(parameter.numel() for parameter in prior.denoiser.parameters())
    print(f"{count / 1e6:.2f} M parameters, {len(prior.labels)} labels; written to {out}")


def listed(classes: str) -> list[str]:
    """The labels in a text with commas, or in the file of that name, one a line.

    Raises UserError for a file that is missing or is no text.
    """
    from sourceprior.errors import UserError

    try:
        is_file = Path(classes).is_file()
    except (OSError, ValueError):
        # All labels of a checkpoint are longer than a file's name may be.
        is_file = False
    if not is_file and "," not in classes and (len(Path(classes).parts) > 1 or Path(classes).suffix):
        raise UserError(f"There is no file '{classes}': name one with a label a line, or write labels with commas.")
    try:
        names = Path(classes).read_text(encoding="utf-8-sig").splitlines() if is_file else classes.split(",")
    except UnicodeDecodeError as error:
        raise UserError(f"'{classes}' is no text in UTF-8: save it as such, with one label a line.") from error
    except OSError as error:
        raise UserError(f"'{classes}' cannot be read: {error.strerror}.") from error
    return [name.strip() for name in names if name.strip()]
