"""What lies in a benchmark's folder beside results and reports: which commands made it."""

from __future__ import annotations

import html
import shlex
from collections.abc import Sequence
from pathlib import Path

from sourceprior.benchmark.files import in_place
from sourceprior.benchmark.grids import Grid

QUIET = ("-q", "--quiet")
"""Options that change nothing that is measured."""


def note_command(folder: Path, what: str, words: Sequence[str]) -> None:
    """Keep the command line, once, as one process would be called that does it all: shards together are one run.

    Absolute paths are shortened to their last part, as they mean nothing elsewhere. What only reports has made nothing.
    """
    if "--report-only" in words:
        return
    shown = shlex.join(["sourceprior", *(_short(word) for word in _without_shard(words) if word not in QUIET)])
    if shown not in commands(folder, what):
        with _file(folder, what).open("a", encoding="utf-8") as file:
            file.write(shown + "\n")


def _without_shard(words: Sequence[str]) -> list[str]:
    return [
        word
        for word, before in zip(words, ["", *words], strict=False)
        if "--shard" not in (word, before) and not word.startswith("--shard=")
    ]


def commands(folder: Path, what: str) -> list[str]:
    """The command lines that made a table or figure, in their order."""
    file = _file(folder, what)
    return file.read_text(encoding="utf-8").splitlines() if file.is_file() else []


def write_figure(folder: Path, what: str, grid: Grid, pictures: Sequence[str], machine: str) -> None:
    """The report of a figure: NAME.md and NAME.html."""
    title = what.replace("figure", "Figure ")
    called = commands(folder, what)
    text = [f"## {title}\n", machine + "\n", "\n".join(f"    {line}" for line in called) + "\n", grid.markdown()]
    text += [f"![{Path(name).stem}]({name})\n" for name in pictures]
    with in_place(folder / f"{what}.md") as part:
        part.write_text("\n".join(text), encoding="utf-8")
    page = [f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title></head><body>']
    page += [
        f"<h1>{title}</h1><p>{html.escape(machine)}</p><pre>{html.escape(chr(10).join(called))}</pre>",
        grid.html(),
    ]
    page += [f'<p><img src="{html.escape(name)}" alt="{title}"></p>' for name in pictures]
    with in_place(folder / f"{what}.html") as part:
        part.write_text("\n".join([*page, "</body></html>"]) + "\n", encoding="utf-8")


def _file(folder: Path, what: str) -> Path:
    return folder / f"{what}.commands.txt"


def _short(word: str) -> str:
    name, sign, value = word.partition("=")
    if sign and Path(value).is_absolute():
        return f"{name}={Path(value).name}"
    return Path(word).name if Path(word).is_absolute() else word
