"""The tables of a report, as rows of text: Markdown and HTML are made from the same cells."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from sourceprior.benchmark.published import MARK, TABLE2, TABLE3, TABLE4
from sourceprior.benchmark.records import Records
from sourceprior.benchmark.rows import Row
from sourceprior.evaluation import Outcome
from sourceprior.metrics import bootstrap_interval

TITLES = {
    "speech_sound": "1 speech + 1 sound",
    "speech_two_sounds": "1 speech + 2 sounds",
    "two_sounds": "2 sounds",
    "three_sounds": "3 sounds",
    "two_speech": "2 speech",
}
NONE = "–"
UNPROCESSED = "unprocessed"
ROUNDING_DB = 0.01
"""SI-SDR that is no other than the mixture's."""


@dataclass(frozen=True)
class Line:
    """A row's outcomes by column: (task, seconds) -> digest of the mixture -> outcome. `of` is the row's own name."""

    name: str
    title: str
    group: str
    published: str
    of: str
    outcomes: Mapping[tuple[str, float], Mapping[str, Outcome]]

    def mixtures(self) -> int:
        """The most mixtures of a column."""
        return max((len(own) for own in self.outcomes.values()), default=0)


@dataclass
class Grid:
    """A table: title, header, rows; a row of one cell is a heading, one that begins with MARK is the paper's."""

    title: str
    header: list[str]
    rows: list[list[str]] = field(default_factory=list)
    note: str = ""

    def markdown(self) -> str:
        """As Markdown."""
        lines = [f"### {self.title}", "", _bar(self.header), _bar(["---"] * len(self.header))]
        for row in self.rows:
            cells = [f"**{row[0]}**", *[""] * (len(self.header) - 1)] if len(row) == 1 else row
            lines.append(
                _bar([f"*{cell}*" if row[0].startswith(MARK) and cell not in ("", NONE) else cell for cell in cells])
            )
        return "\n".join([*lines, *(["", self.note] if self.note else [])]) + "\n"

    def html(self) -> str:
        """As HTML."""
        parts = [f"<h2>{html.escape(self.title)}</h2>", "<table>", _cells("th", self.header)]
        for row in self.rows:
            if len(row) == 1:
                parts.append(f'<tr><th colspan="{len(self.header)}" class="group">{html.escape(row[0])}</th></tr>')
            else:
                parts.append(_cells("td", row, "paper" if row[0].startswith(MARK) else ""))
        return "\n".join([*parts, "</table>", *([f"<p>{html.escape(self.note)}</p>"] if self.note else [])])


def lines_of(rows: Sequence[Row], records: Sequence[Records], wanted: Mapping[str, float]) -> list[Line]:
    """A line per row with outcomes, and one more for those that the consistency step changes.

    Args:
        wanted: digest of a mixture -> its length in seconds; others do not count.
    """
    lines = []
    for row, own in zip(rows, records, strict=True):
        columns: dict[tuple[str, float], dict[str, Outcome]] = {}
        for digest, seconds in wanted.items():
            if digest in own.outcomes:
                outcome = own.outcomes[digest]
                columns.setdefault((outcome.task, seconds), {})[digest] = outcome
        if not columns:
            continue
        lines.append(Line(row.name, row.title, row.group, row.published, row.name, columns))
        if any(outcome.consistent for column in columns.values() for outcome in column.values()):
            repaired = {
                task: {digest: _repaired(outcome) for digest, outcome in column.items()}
                for task, column in columns.items()
            }
            lines.append(
                Line(f"{row.name}+consistency", f"{row.title} + consistency", row.group, "", row.name, repaired)
            )
    return lines


def _repaired(outcome: Outcome) -> Outcome:
    """The outcome as if the consistent stems were the stems."""
    if not outcome.consistent:
        return outcome
    return replace(
        outcome, si_sdr=outcome.consistent, best=outcome.consistent_best, pesq=outcome.consistent_pesq,
        residual_db=None, blocks=[], exchanged=None,
    )  # fmt: skip


def compared_with(lines: Sequence[Line], rows: Sequence[Row], wanted: str) -> tuple[str, str]:
    """Which row the others are compared with, and a sentence if it is not the wanted one, as that was not measured.

    It is the wanted row (or the first of that name on other priors, `wanted@NAME`), else the first solver's that was
    measured, else the first but for the mixture itself.

    Args:
        lines: of the rows that were measured.
        rows: of the table.
    """
    measured = [line.of for line in lines if line.name == line.of]
    own = [row for row in rows if row.name == wanted] or [row for row in rows if row.name.partition("@")[0] == wanted]
    others = sorted(
        (row for row in rows if row.name != UNPROCESSED),
        key=lambda row: row.identity.get("method") != "solver",
    )
    found = next((row for row in [*own, *others] if row.name in measured), None)
    title = own[0].title if own else wanted
    if found is None:
        return "", f"There is no row to compare with: {title} is not measured (yet)."
    if found in own:
        return found.name, ""
    return found.name, f"Rows are compared with {found.title}, as {title} is not measured (yet)."


def si_sdr_of(outcome: Outcome) -> float:
    """The figure of a mixture: mean SI-SDR of its sources, dB."""
    return float(np.mean(outcome.si_sdr))


def pesq_of(outcome: Outcome) -> float:
    """Mean PESQ of a mixture's speech; nan where none was measured."""
    values = [value for value in outcome.pesq if value is not None]
    return float(np.mean(values)) if values else float("nan")


def table2(lines: Sequence[Line], columns: Sequence[tuple[str, float]]) -> Grid:
    """The paper's Table 2: SI-SDR, PESQ of speech, failures of two speakers."""
    grid = Grid("SI-SDR in dB with 95 % intervals, PESQ", ["method", "mixtures"])
    for task, _ in columns:
        grid.header.append(f"{TITLES[task]}: SI-SDR")
        if "speech" in task:
            grid.header.append("PESQ")
        if task == "two_speech":
            grid.header.append("failures")

    def own(line: Line) -> list[str]:
        cells = [_counts(line, columns)]
        for task, seconds in columns:
            found = list(line.outcomes.get((task, seconds), {}).values())
            cells.append(_mean(found, si_sdr_of))
            if "speech" in task:
                cells.append(_plain_mean(found, pesq_of))
            if task == "two_speech":
                cells.append(_failures(found))
        return cells

    def paper(line: Line) -> list[str] | None:
        figures = TABLE2.get(line.published)
        # The paper's mixtures are of 4 s.
        if figures is None or any(seconds != 4.0 for _, seconds in columns):
            return None
        cells = ["400"]
        for task, _ in columns:
            known = figures[task]
            cells.append(f"{known['si_sdr']:.2f}")
            if "speech" in task:
                cells.append(f"{known['pesq']:.2f}")
            if task == "two_speech":
                cells.append(f"{100 * known['failures']:.1f} %" if "failures" in known else NONE)
        return cells

    return _filled(grid, lines, own, paper)


def table3(lines: Sequence[Line], columns: Sequence[tuple[str, float]]) -> Grid:
    """The paper's Table 3: two speakers, by backbone: successes, failures, all, for every length."""
    header = ["method", "mixtures"]
    for _, seconds in columns:
        header += [f"{seconds:g} s: SI-SDR of successes", "failures", "SI-SDR of all"]
    grid = Grid("Two speakers: SI-SDR in dB with 95 % intervals", header)

    def own(line: Line) -> list[str]:
        cells = [_counts(line, columns)]
        for column in columns:
            found = list(line.outcomes.get(column, {}).values())
            good = [outcome for outcome in found if si_sdr_of(outcome) >= 0]
            successes = NONE if _untouched(found) else _plain_mean(good, si_sdr_of)
            cells += [successes, _failures(found), _mean(found, si_sdr_of)]
        return cells

    def paper(figures: Mapping[float, Mapping[str, float]]) -> list[str]:
        cells = ["400"]
        for _, seconds in columns:
            known = figures.get(seconds, {})
            cells += [
                f"{known['successes']:.2f}" if "successes" in known else NONE,
                f"{100 * known['failures']:.0f} %" if "failures" in known else NONE,
                f"{known['si_sdr']:.2f}" if "si_sdr" in known else NONE,
            ]
        return cells

    _filled(grid, lines, own, lambda _: None)
    grid.rows.append(["The paper's Table 3"])
    grid.rows += [[f"{MARK}: {name}", *paper(figures)] for name, figures in TABLE3.items()]
    return grid


def table4(lines: Sequence[Line], columns: Sequence[tuple[str, float]]) -> Grid:
    """The paper's Table 4: ablations on 1 speech + 1 sound, each also as the difference to the full setting."""
    grid = Grid(
        f"Ablations of the hybrid rule, {TITLES[columns[0][0]]}",
        ["setting", "mixtures", "SI-SDR dB", "difference", "PESQ", "difference"],
    )
    full = next((line for line in lines if line.name == "hybrid"), None)
    if full is None:
        grid.note = "Its differences are to the setting with all of it, which is not measured (yet)."

    def own(line: Line) -> list[str]:
        found = line.outcomes.get(columns[0], {})
        same = full is None or line.name == "hybrid"
        against = {} if full is None else full.outcomes.get(columns[0], {})
        return [
            _counts(line, columns),
            _mean(list(found.values()), si_sdr_of),
            NONE if same else paired(found, against, si_sdr_of),
            _plain_mean(list(found.values()), pesq_of),
            NONE if same else paired(found, against, pesq_of),
        ]

    def paper(line: Line) -> list[str] | None:
        figures, whole = TABLE4.get(line.published), TABLE4["hybrid"]
        # The paper's mixtures are of 4 s.
        if figures is None or columns[0] != ("speech_sound", 4.0):
            return None
        changes = [f"{figures[name] - whole[name]:+.2f}" for name in ("si_sdr", "pesq")]
        if figures is whole:
            changes = [NONE, NONE]
        return ["400", f"{figures['si_sdr']:.2f}", changes[0], f"{figures['pesq']:.2f}", changes[1]]

    return _filled(grid, [line for line in lines if "+" not in line.name], own, paper)


def differences(lines: Sequence[Line], columns: Sequence[tuple[str, float]], against: str) -> Grid | None:
    """Paired differences in SI-SDR to a chosen row, over the mixtures both were measured on."""
    chosen = next((line for line in lines if line.name == against), None)
    if chosen is None:
        return None
    grid = Grid(
        f"Difference in SI-SDR to {chosen.title}, dB, paired by mixture, with 95 % intervals",
        ["method", *[_heading(column, columns) for column in columns]],
        note="Over the mixtures that both rows were measured on; their number follows the interval.",
    )

    def own(line: Line) -> list[str]:
        return [
            NONE if line is chosen else paired(line.outcomes.get(c, {}), chosen.outcomes.get(c, {}), si_sdr_of, True)
            for c in columns
        ]

    return _filled(grid, lines, own, lambda _: None)


def details(lines: Sequence[Line], column: tuple[str, float], columns: Sequence[tuple[str, float]]) -> Grid:
    """Everything else that is measured for one task."""
    same_class = column[0] == "two_speech"
    header = [
        "method", "improvement dB", "best permutation dB", "failures", "successes dB", "residual dB of the mixture",
        *(["blocks permuted dB", "swaps dB", "energy exchanged"] if same_class else []),
    ]  # fmt: skip
    note = "Best permutation: labels disregarded. Failure: a mixture below 0 dB. Residual: what the stems leave."
    if same_class:
        note += (
            " Blocks permuted: SI-SDR after an oracle has put every 0.25 s into the right stem, what is left is "
            "leakage; swaps: what that gains over the best order of whole stems (an upper bound: an oracle also gains "
            "from chance)."
        )
    grid = Grid(f"Details: {_heading(column, columns)}", header, note=note)

    def own(line: Line) -> list[str]:
        found = list(line.outcomes.get(column, {}).values())
        good = [outcome for outcome in found if si_sdr_of(outcome) >= 0]
        residuals = [o.residual_db for o in found if o.residual_db is not None]
        cells = [
            _mean(found, lambda o: si_sdr_of(o) - float(np.mean(o.unprocessed))),
            _plain_mean(found, lambda o: float(np.mean(o.best))),
            _failures(found),
            NONE if _untouched(found) else _plain_mean(good, si_sdr_of),
            NONE
            if not residuals or line.of == UNPROCESSED
            else "adds up"
            if max(residuals) < -60
            else f"{np.mean(residuals):.1f}",
        ]
        if same_class:
            cut = [o for o in found if o.blocks]
            cells += [
                _plain_mean(cut, lambda o: float(np.mean(o.blocks))),
                _plain_mean(cut, lambda o: float(np.mean(o.blocks)) - float(np.mean(o.si_sdr))),
                f"{100 * np.mean([o.exchanged or 0.0 for o in cut]):.0f} %" if cut else NONE,
            ]
        return cells

    return _filled(grid, [line for line in lines if column in line.outcomes], own, lambda _: None)


def costs(lines: Sequence[Line]) -> Grid:
    """What a row costs; the consistency step costs nothing worth telling."""
    grid = Grid(
        "Cost per mixture",
        ["method", "network forwards", "network backwards", "seconds per second of audio", "peak memory MB"],
        note="Forwards and backwards: signals of one source through a network, mean over mixtures. Seconds: median. "
        "Memory: of the whole process, with everything that is loaded, while the row was at work.",
    )

    def own(line: Line) -> list[str]:
        found = [outcome for column in line.outcomes.values() for outcome in column.values()]
        memory = [o.memory_mb for o in found if o.memory_mb is not None]
        return [
            f"{np.mean([o.forwards for o in found]):.0f}",
            f"{np.mean([o.backwards for o in found]):.0f}",
            f"{np.median([o.seconds / o.audio_seconds for o in found]):.3g}",
            f"{max(memory):.0f}" if memory else NONE,
        ]

    return _filled(grid, [line for line in lines if line.name == line.of], own, lambda _: None)


def paired(
    found: Mapping[str, Outcome], others: Mapping[str, Outcome], figure: Callable[[Outcome], float], count: bool = False
) -> str:
    """Mean difference over shared mixtures with its interval, as text."""
    values = np.array([figure(found[digest]) - figure(others[digest]) for digest in found if digest in others])
    values = values[np.isfinite(values)]
    if not len(values):
        return NONE
    low, high = bootstrap_interval(values)
    spread = f" ({low:+.2f} to {high:+.2f})" if len(values) > 1 else ""
    return f"{values.mean():+.2f}{spread}" + (f" n={len(values)}" if count else "")


def _filled(
    grid: Grid, lines: Sequence[Line], own: Callable[[Line], list[str]], paper: Callable[[Line], list[str] | None]
) -> Grid:
    group = ""
    for line in lines:
        if line.group != group:
            group = line.group
            grid.rows.append([group])
        grid.rows.append([line.title, *own(line)])
        published = paper(line)
        if published:
            grid.rows.append([MARK, *published])
    return grid


def _heading(column: tuple[str, float], columns: Sequence[tuple[str, float]]) -> str:
    task, seconds = column
    return TITLES[task] if len({other for _, other in columns}) == 1 else f"{TITLES[task]}, {seconds:g} s"


def _counts(line: Line, columns: Sequence[tuple[str, float]]) -> str:
    counts = [len(line.outcomes.get(column, {})) for column in columns]
    return str(counts[0]) if len(set(counts)) == 1 else "/".join(map(str, counts))


def _mean(found: Sequence[Outcome], figure: Callable[[Outcome], float]) -> str:
    values = np.array([figure(outcome) for outcome in found])
    if not len(values):
        return NONE
    low, high = bootstrap_interval(values)
    return f"{values.mean():.2f} ({low:.2f} to {high:.2f})" if len(values) > 1 else f"{values.mean():.2f}"


def _plain_mean(found: Sequence[Outcome], figure: Callable[[Outcome], float]) -> str:
    values = np.array([figure(outcome) for outcome in found])
    values = values[np.isfinite(values)] if len(values) else values
    return f"{values.mean():.2f}" if len(values) else NONE


def _failures(found: Sequence[Outcome]) -> str:
    if not found or _untouched(found):
        return NONE
    return f"{100 * np.mean([si_sdr_of(outcome) < 0 for outcome in found]):.1f} %"


def _untouched(found: Sequence[Outcome]) -> bool:
    """Whether all stems are as good as the mixture itself: of two sources it lies at 0 dB, whose sign is a coin's toss.

    So it is with the mixture, and with what knows both sources by one spectrum or dictionary and halves it.
    """
    return all(
        abs(value - before) <= ROUNDING_DB
        for outcome in found
        for value, before in zip(outcome.si_sdr, outcome.unprocessed, strict=True)
    )


def _bar(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cells(kind: str, cells: Sequence[str], style: str = "") -> str:
    inside = "".join(f"<{kind}>{html.escape(cell)}</{kind}>" for cell in cells)
    return f'<tr class="{style}">{inside}</tr>' if style else f"<tr>{inside}</tr>"
