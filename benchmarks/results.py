"""Make docs/results.md from finished benchmark runs: python benchmarks/results.py runs/table2 runs/table4.

Every folder is one that `sourceprior benchmark ... -o FOLDER` has written; all reports in it are taken over as they
are, with their commands, and their pictures are copied beside the page. So are the lines that were measured, a few
hundred bytes a mixture: `cp -r docs/results/table2 runs/` and the command of the report goes on from there.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

INTRODUCTION = """# Results

Written by `python benchmarks/results.py {folders}` from what the commands below have measured; no figure is written by
hand. How the benchmark works, and what its columns mean: [benchmark.md](benchmark.md). What was measured on every
mixture lies in [{beside}]({beside}), a line each, with the mixture lists; copied to where a command below says, that
command goes on from there.
"""


def collect(folders: Sequence[Path], page: Path, note: str = "") -> None:
    """Write the page and copy its pictures, and the lines behind its figures, into a folder of its name beside it.

    `note` is a sentence on how it was measured, below the introduction.

    Raises:
        SystemExit: a folder holds no report.
    """
    parts = [INTRODUCTION.format(folders=" ".join(f"runs/{folder.name}" for folder in folders), beside=page.stem)]
    parts += [note + "\n"] if note else []
    pictures = page.with_suffix("")
    for folder in folders:
        reports = sorted(file for pattern in ("table?.md", "figure?.md") for file in folder.glob(pattern))
        if not reports:
            raise SystemExit(f"{folder} holds no report of `sourceprior benchmark`.")
        parts += [_with_pictures(report, pictures) for report in reports]
        kept = ("*.mixtures.jsonl", "*.commands.txt", "results/*.json*")
        for file in [file for pattern in kept for file in folder.glob(pattern)]:
            copy = pictures / folder.name / file.relative_to(folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text("\n".join(parts), encoding="utf-8")


def _with_pictures(report: Path, pictures: Path) -> str:
    def moved(found: re.Match) -> str:
        name = f"{report.parent.name}_{found[2]}"
        pictures.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(report.parent / found[2], pictures / name)
        return f"![{found[1]}]({pictures.name}/{name})"

    return re.sub(r"!\[([^]]*)\]\(([^)/]+)\)", moved, report.read_text(encoding="utf-8"))


def main(words: Sequence[str]) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("-o", "--out", type=Path, default=Path("docs/results.md"))
    parser.add_argument("--note", default="", help="How it was measured, in a sentence.")
    chosen = parser.parse_args(words)
    collect(chosen.folders, chosen.out, chosen.note)
    print(f"written to {chosen.out}")


if __name__ == "__main__":
    main(sys.argv[1:])
