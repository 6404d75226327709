"""The report of a table: Markdown, and a web page with pictures and players, that refer to files beside them."""

from __future__ import annotations

import html
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from sourceprior.benchmark import grids, pictures
from sourceprior.benchmark.files import in_place
from sourceprior.benchmark.grids import Grid, Line, si_sdr_of
from sourceprior.benchmark.running import stem_file, write_opus
from sourceprior.mixtures import MixtureSpec, mix, render
from sourceprior.version import __version__

STYLE = """
body { font-family: system-ui, sans-serif; margin: 2rem; max-width: 110rem; color: #222; }
table { border-collapse: collapse; margin: 1rem 0; font-size: 0.9rem; }
td, th { border: 1px solid #ccc; padding: 0.3rem 0.6rem; text-align: left; }
th.group { background: #eee; } tr.paper { color: #777; font-style: italic; }
audio { width: 16rem; height: 2rem; } img { max-width: 100%; } pre { background: #f4f4f4; padding: 0.6rem; }
"""


@dataclass(frozen=True)
class Report:
    """What a report is made of.

    Attributes:
        name: of the table: table2, table3 or table4.
        lines: rows with outcomes.
        columns: (task, seconds).
        main: the table itself.
        against: name of the row that others are compared with; empty if none was measured.
        commands: what was called.
        keys: row -> key of its results, where its stems lie.
        specs: digest -> mixture.
        root: folder of the clips.
        note: about the mixtures.
        missing: titles of the table's rows that have not been measured.
        remarks: sentences about what else the report lacks.
    """

    name: str
    lines: Sequence[Line]
    columns: Sequence[tuple[str, float]]
    main: Callable[[Sequence[Line], Sequence[tuple[str, float]]], Grid]
    against: str
    commands: Sequence[str]
    keys: dict[str, str]
    specs: dict[str, MixtureSpec]
    root: Path
    note: str
    missing: Sequence[str] = ()
    remarks: Sequence[str] = ()

    def grids(self) -> list[Grid]:
        """All tables, the main one first."""
        found = [self.main(self.lines, self.columns)]
        compared = grids.differences(self.lines, self.columns, self.against)
        return [
            *found,
            *([compared] if compared else []),
            *[grids.details(self.lines, column, self.columns) for column in self.columns],
            grids.costs(self.lines),
        ]

    def title(self) -> str:
        """Its heading."""
        return self.name.replace("table", "Table ")

    def write(self, folder: Path) -> str:
        """Write NAME.md, NAME.html and the pictures; the Markdown."""
        folder.mkdir(parents=True, exist_ok=True)
        shown = {"evaluations": pictures.evaluations, "distribution": pictures.distribution}
        for what, draw in shown.items():
            draw(self.lines, self.columns, folder / f"{self.name}_{what}.png")
        tables = self.grids()
        head = f"{self.note} {machine()}"
        for remark in self.remarks:
            head += f" {remark}"
        if self.missing:
            head += f" Not measured (yet): {'; '.join(self.missing)}."
        text = "\n".join(
            [
                f"## {self.title()}\n",
                head + "\n",
                "\n".join(f"    {command}" for command in self.commands) + "\n",
                *[grid.markdown() for grid in tables],
                *[f"![{what}]({self.name}_{what}.png)\n" for what in shown],
            ]
        )
        with in_place(folder / f"{self.name}.md") as part:
            part.write_text(text, encoding="utf-8")
        page = [
            "<!doctype html>",
            f'<html lang="en"><head><meta charset="utf-8"><title>{self.title()}</title><style>{STYLE}</style></head>',
            f"<body><h1>{self.title()}</h1><p>{html.escape(head)}</p>",
            f"<pre>{html.escape(chr(10).join(self.commands))}</pre>",
            *[grid.html() for grid in tables],
            *[f'<p><img src="{self.name}_{what}.png" alt="{what}"></p>' for what in shown],
            *self._listening(folder),
            "</body></html>",
        ]
        with in_place(folder / f"{self.name}.html") as part:
            part.write_text("\n".join(page) + "\n", encoding="utf-8")
        return text

    def _listening(self, folder: Path) -> list[str]:
        """Players for the best, the median and the worst mixture of the row that others are compared with.

        Where no stems of it are kept, for a task or at all, a sentence says so.
        """
        chosen = next((line for line in self.lines if line.name == self.against), None)
        if chosen is None:
            return []
        out = [f"<h2>To listen to: best, median and worst of {html.escape(chosen.title)}</h2>"]
        for column in self.columns:
            ranked = sorted(
                (
                    (si_sdr_of(outcome), digest)
                    for digest, outcome in chosen.outcomes.get(column, {}).items()
                    if stem_file(folder, self.keys[chosen.name], digest, 0).is_file()
                ),
                reverse=True,
            )
            if not ranked:
                where = f"{grids.TITLES[column[0]]}, {column[1]:g} s"
                out.append(f"<p>No stems of it are kept for {html.escape(where)}.</p>")
            picks = {"best": ranked[:1], "median": ranked[len(ranked) // 2 :][:1], "worst": ranked[-1:]}
            for what, pick in picks.items():
                for value, digest in pick:
                    heading = f"{grids.TITLES[column[0]]}, {what}: {value:.1f} dB"
                    out.append(f"<h3>{html.escape(heading)}</h3>")
                    out += self._players(folder, column, digest)
        return out

    def _players(self, folder: Path, column: tuple[str, float], digest: str) -> list[str]:
        spec = self.specs[digest]
        sources = render(spec, self.root)
        for k, wave in enumerate([*sources, mix(sources)]):
            file = stem_file(folder, "mixtures", digest, k)
            if not file.is_file():
                write_opus(file, wave, spec.sample_rate)
        names = [label.replace("_", " ") for label in spec.labels]
        count = len(names)
        rows = [("<th>the mixture</th>", [_player(folder, stem_file(folder, "mixtures", digest, count))])]
        rows.append(
            ("<th>true sources</th>", [_player(folder, stem_file(folder, "mixtures", digest, k)) for k in range(count)])
        )
        for line in self.lines:
            found = line.outcomes.get(column, {}).get(digest)
            files = [stem_file(folder, self.keys[line.of], digest, k) for k in range(count)]
            if line.name == line.of and found and all(file.is_file() for file in files):
                head = f"<th>{html.escape(line.title)}: {si_sdr_of(found):.1f} dB</th>"
                rows.append((head, [_player(folder, file) for file in files]))
        header = "".join(f"<th>{html.escape(name)}</th>" for name in ["", *names])
        body = [f"<tr>{head}{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>" for head, cells in rows]
        return [f"<table><tr>{header}</tr>", *body, "</table>"]


def machine() -> str:
    """The machine that writes the report, in words."""
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return f"sourceprior {__version__}, torch {torch.__version__}, {os.cpu_count()} cores, {where}."


def _player(folder: Path, file: Path) -> str:
    return f'<audio controls preload="none" src="{html.escape(file.relative_to(folder).as_posix())}"></audio>'
