"""Makes the small bank of other sounds that `sourceprior learn` shows a new class, from the train split of the data.

    python benchmarks/negatives.py --data DATA -o src/sourceprior/weights/negatives

A few seconds of every class that a bundled prior knows and of many speakers, as one Ogg Opus pack: "train" is what a
new class learns from, "valid" what its selectivity is measured on, from other recordings where a class has several.
Nothing of the data's own valid and test splits is in it.
"""

from __future__ import annotations

import argparse
import csv
import random
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

from sourceprior.datasets import read_clip
from sourceprior.licences import commercial
from sourceprior.packs import read_clips, write_pack

RATE = 16000
LONGEST = 3.0
"""Seconds kept of a clip, its loudest; an utterance is kept up to UTTERANCE."""
UTTERANCE = 5.0
PER_CLASS = {"train": 3, "valid": 2}
SPEAKERS = {"train": 40, "valid": 12}

CREDITS = """# Clips of the bank of other sounds

Excerpts of at most {longest:g} s (speech: {utterance:g} s), coded with Opus, of clips whose licence allows it. The
authors that some of these licences ask to name are in ../ATTRIBUTION.md, by the names below.

Speech, CC-BY-4.0: **speechocean762**, Junbo Zhang et al., "speechocean762: An Open-Source Non-native English Speech
Corpus For Pronunciation Assessment", Interspeech 2021 (OpenSLR 101, github.com/jimbozhang/speechocean762). Licence:
https://creativecommons.org/licenses/by/4.0/

| clip | class | source | licence |
|---|---|---|---|
"""


def choose(rows: list[dict[str, str]]) -> Iterator[dict[str, str]]:
    """Rows of the bank, with its own split; of a class or speaker, other recordings in "valid" than in "train"."""
    rng = random.Random(0)
    labels = sorted({row["label"] for row in rows if row["kind"] == "sound"})
    for label in labels:
        own = [row for row in rows if row["kind"] == "sound" and row["label"] == label]
        rng.shuffle(own)
        # One clip of every recording first, then the second ones.
        seen = Counter[str]()
        order = []
        for row in own:
            order.append((seen[row["group"]], row))
            seen[row["group"]] += 1
        own = [row for _, row in sorted(order, key=lambda item: item[0])]
        held = own[: min(PER_CLASS["valid"], len(own) // 2)]
        kept = {row["group"] for row in held}
        rest = [row for row in own if row not in held]
        apart = [row for row in rest if row["group"] not in kept] or rest
        yield from (row | {"split": "valid"} for row in held)
        yield from (row | {"split": "train"} for row in apart[: PER_CLASS["train"]])
    speakers = sorted({row["label"] for row in rows if row["kind"] == "speech"})
    rng.shuffle(speakers)
    for i, name in enumerate(speakers[: sum(SPEAKERS.values())]):
        own = [row for row in rows if row["label"] == name]
        longest = max(own, key=lambda row: float(row["seconds"]))
        yield longest | {"split": "valid" if i < SPEAKERS["valid"] else "train"}


def loudest(wave: np.ndarray, length: int) -> np.ndarray:
    """The stretch of that many samples with the greatest energy."""
    if len(wave) <= length:
        return wave
    energy = np.cumsum(np.append(0, np.square(wave, dtype=np.float64)))
    start = int(np.argmax(energy[length:] - energy[:-length]))
    return wave[start : start + length]


def main() -> None:
    """Choose, cut, pack, and say how large it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--kbps", type=float, default=24.0)
    args = parser.parse_args()
    with (args.data / "manifest.csv").open(newline="") as file:
        rows = [
            row for row in csv.DictReader(file)
            if row["split"] == "train" and commercial(row["licence"])
        ]  # fmt: skip
    chosen = sorted(choose(rows), key=lambda row: row["path"])
    with tempfile.TemporaryDirectory() as folder:
        root, credits = Path(folder), ""
        for row in chosen:
            speech = row["kind"] == "speech"
            wave = loudest(read_clip(args.data / row["path"], RATE), round((UTTERANCE if speech else LONGEST) * RATE))
            (root / row["path"]).parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(root / row["path"], wave, RATE)
            row["seconds"] = f"{len(wave) / RATE:.3f}"
            what = "speech" if speech else row["label"]
            credits += f"| {row['original_id']} | {what} | {row['source']} | {row['licence']} |\n"
        with (root / "manifest.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(chosen)
        (root / "CREDITS.md").write_text(CREDITS.format(longest=LONGEST, utterance=UTTERANCE) + credits)
        write_pack(root, args.out, ("train", "valid"), kbps=args.kbps)
    size = sum(file.stat().st_size for file in args.out.iterdir() if file.is_file())
    for split in ("train", "valid"):
        clips = read_clips(args.out, split, "any")
        count, seconds = len({clip.label for clip in clips}), sum(clip.seconds for clip in clips)
        print(f"{split}: {len(clips)} clips of {count} classes, {seconds:.0f} s")
    print(f"{args.out}: {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
