"""FSDKaggle2018: `FSDKaggle2018.audio_train|audio_test` and `FSDKaggle2018.meta/*.csv`, 41 classes, 44.1 kHz."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from sourceprior.corpora.entries import Entry, Found
from sourceprior.corpora.splits import held_out
from sourceprior.errors import UserError

PARTS = {
    "train": ("FSDKaggle2018.audio_train", "FSDKaggle2018.meta/train_post_competition.csv"),
    "test": ("FSDKaggle2018.audio_test", "FSDKaggle2018.meta/test_post_competition_scoring_clips.csv"),
}
"""Split -> folder of the clips, list of them. The test folder holds padding clips, too, which no list names."""


def fsdkaggle2018(root: Path, valid_share: float = 0.05) -> Found:
    """The 9,473 clips to train with and the 1,600 that were scored; silence at their ends is to be cut off.

    Args:
        valid_share: of each class's clips to train with, for the valid split; 0 trains on all of them, as in the paper.

    Raises:
        UserError: the folder holds none of the lists, or one lacks its columns.
    """
    found = Found()
    lists = {split: root / name for split, (_, name) in PARTS.items() if (root / name).is_file()}
    if not lists:
        raise UserError(f"'{root}' is not FSDKaggle2018: it has no {PARTS['train'][1]}.")
    for split, file in lists.items():
        with file.open(newline="", encoding="utf-8") as rows:
            reader = csv.DictReader(rows)
            if not {"fname", "label"} <= set(reader.fieldnames or ()):
                raise UserError(f"'{file}' lacks the columns fname and label.")
            listed = list(reader)
            # By the list, not by the files that are there: a missing clip moves no other one.
            held = held_out(((row["label"], _recording(row)) for row in listed), valid_share if split == "train" else 0)
            for row in listed:
                # Clips of the competition that were only padding, and rows that end early.
                if not row["fname"] or row["label"] in (None, "", "None"):
                    found.skipped["without a class"] += 1
                    continue
                path = root / PARTS[split][0] / row["fname"]
                if not path.is_file():
                    found.skipped["missing"] += 1
                    continue
                group = _recording(row)
                found.entries.append(
                    Entry(path, "sound", "valid" if (row["label"], group) in held else split, row["label"],
                          "FSDKaggle2018", path.stem, licence_of(row.get("license") or ""), group, trim=True)
                )  # fmt: skip
    return found


def _recording(row: Mapping[str, str]) -> str:
    """What clips of one Freesound recording have in common."""
    recording = row.get("freesound_id") or row.get("fsID") or ""
    return f"fs{recording}" if recording else Path(row["fname"] or "").stem


def licence_of(text: str) -> str:
    """A Freesound licence, as a name or as the address of its text, as the manifests of this project write it.

    A clip without a stated licence is taken to be non-commercial: what one does not know one does not sell.
    """
    folded = text.casefold().replace("-", "").replace(" ", "")
    if "noncommercial" in folded or "bync" in folded or "/by/nc" in folded:
        return "CC-BY-NC-3.0"
    if "sampling" in folded:
        return "CC-Sampling+"
    if "zero" in folded or "cc0" in folded or "creativecommons0" in folded:
        return "CC0-1.0"
    return "CC-BY-3.0" if "attribution" in folded or "by" in folded else "CC-BY-NC (not stated)"
