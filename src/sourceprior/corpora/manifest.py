"""A manifest that is there already: `manifest.csv` with a row per clip, paths relative to it or absolute."""

from __future__ import annotations

from pathlib import Path

from sourceprior.corpora.entries import Entry, Found
from sourceprior.datasets import read_rows
from sourceprior.errors import UserError


def manifest(file: Path) -> Found:
    """Its clips; those whose files are missing are counted.

    Raises:
        UserError: there is no such file, it lacks a column, or a row is incomplete.
    """
    file = file / "manifest.csv" if file.is_dir() else file
    if not file.is_file():
        raise UserError(f"There is no manifest '{file}'.")
    found = Found()
    for _, row in read_rows(file, ("path", "kind", "split", "label", "licence"), inside=False):
        path = file.parent / row["path"]
        if not path.is_file():
            found.skipped["missing"] += 1
            continue
        label = row.get("speaker") or row["label"] if row["kind"] == "speech" else row["label"]
        found.entries.append(
            Entry(path, row["kind"], row["split"], label, row.get("source") or file.parent.name, path.stem,
                  row["licence"], row.get("group") or label, row.get("gender") or "", row.get("age") or "",
                  original_id=row.get("original_id") or "")
        )  # fmt: skip
    return found
