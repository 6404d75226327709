"""What was measured, on disk: JSON lines, one mixture a line, in a file named by a hash of everything that decides it.

Lines are only ever appended, each in one write, so that a stopped run loses at most the mixture it was at, several
processes may write to one file, and results of other settings lie in other files.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sourceprior.benchmark.rows import Row, digest_of
from sourceprior.errors import UserError
from sourceprior.evaluation import Outcome
from sourceprior.mixtures import MixtureSpec


def mixture_digest(spec: MixtureSpec) -> str:
    """Hash of a mixture: its clips, crops, offsets and gains, the last of which tell of the clips' content."""
    return digest_of(asdict(spec))


class Records:
    """The outcomes of one row: a dictionary from a mixture's digest to its outcome, kept in a file.

    Args:
        folder: of all results.
        row: whose results.
        measuring: how is measured; part of the key.
    """

    def __init__(self, folder: Path, row: Row, measuring: Mapping[str, Any]) -> None:
        self.key = row.key(measuring)
        self.file = folder / f"{row.name}.{self.key}.jsonl"
        self.settings = {"row": plain_row(row), "measuring": dict(measuring)}
        self.outcomes: dict[str, Outcome] = {}
        self.read()

    def read(self) -> None:
        """Take in what is on disk; of a mixture that was measured twice the first line counts."""
        if not self.file.is_file():
            return
        for line in self.file.read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
                digest = entry.pop("mixture")
                outcome = Outcome(**entry)
            except (ValueError, KeyError, TypeError):
                # The last line of a process that was killed while it wrote.
                continue
            self.outcomes.setdefault(digest, outcome)

    def add(self, digest: str, outcome: Outcome) -> None:
        """Append one outcome. Raises UserError where it cannot be written."""
        self.outcomes.setdefault(digest, outcome)
        line = json.dumps({"mixture": digest, **asdict(outcome)}, allow_nan=False) + "\n"
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            if not self.file.exists():
                # What the hash stands for, to look up.
                beside = self.file.with_suffix(".json")
                beside.write_text(json.dumps(self.settings, indent=1, sort_keys=True) + "\n", encoding="utf-8")
            elif _torn(self.file):
                line = "\n" + line
            place = os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                if os.write(place, line.encode()) < len(line.encode()):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            finally:
                os.close(place)
        except OSError as error:
            raise UserError(f"{self.file} cannot be written: {error.strerror}.") from error


def plain_row(row: Row) -> dict[str, Any]:
    """What decides a row's results, for a person to read."""
    return {"name": row.name, "title": row.title, "identity": dict(row.identity)}


def _torn(file: Path) -> bool:
    """Whether the file ends within a line: the next one must not become part of it."""
    with file.open("rb") as content:
        if content.seek(0, os.SEEK_END) == 0:
            return False
        content.seek(-1, os.SEEK_END)
        return content.read(1) != b"\n"
