"""A long recording against short ones: memory, time, borders of windows and blocks, quality, exchanged speakers.

    python benchmarks/long.py --data DATA [--minutes 20] [--preset default] [--parts time quality speakers pairs]

Makes stereo recordings of 44.1 kHz from the clips of the test split (`--split`): speech of all speakers one after
another, and barking dogs with pauses; for "speakers", a man and a woman, those with the most speech, who talk at once
all the time; for "pairs", two minutes each of two speakers drawn at random. Clips are at -22.5 dBFS and panned.

time      the command line on `--minutes` and on two minutes: seconds (of the clock, and of the processor, which other
          programs on the machine do not lengthen), peak memory
quality   steps at borders against steps elsewhere; SI-SDR in pieces of 4 s, and of the same pieces separated alone
speakers  at how many borders of windows and blocks the stems change places: the order of the stems that gives the
          better mean SI-SDR in the 4 s before a border is not that of the 4 s after. An order is clear where it is
          better than the other by 3 dB; both sides must be, and both speakers must be heard there
pairs     the same for several pairs of speakers, and whether the prior tells them apart at all
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf
import soxr

import child
from sourceprior import separate
from sourceprior.blocks import cut
from sourceprior.datasets import Clip, read_clip, read_manifest
from sourceprior.metrics import si_sdr
from sourceprior.sampling import Settings, block_samples
from sourceprior.windows import starts

RATE, OWN = 44100, 16000
LEVEL = 10 ** (-22.5 / 20)
PAN = np.array([[0.8, 0.5], [0.4, 0.9]])
"""Gain of each channel (columns) for each source (rows)."""


def joined(clips: Sequence[Clip], samples: int, pause: float, seed: int) -> np.ndarray:
    """Clips in random order, each at the same level, with pauses of up to `pause` seconds, `(samples,)` at 16 kHz."""
    generator = np.random.default_rng(seed)
    parts: list[np.ndarray] = []
    total = 0
    while total < samples:
        for index in generator.permutation(len(clips)):
            sound = read_clip(clips[index].path, OWN).astype(np.float32)
            sound = sound * (LEVEL / max(1e-6, float(np.sqrt(np.mean(np.square(sound))))))
            parts += [sound, np.zeros(round(pause * generator.random() * OWN), np.float32)]
            total += len(parts[-1]) + len(parts[-2])
    return np.concatenate(parts)[:samples].astype(np.float32)


def write(path: Path, sources: np.ndarray) -> np.ndarray:
    """Pan sources `(2, samples)` at 16 kHz, write their mixture at 44.1 kHz, return them, `(2, channels, N)`."""
    images = np.stack(
        [np.outer(pan, soxr.resample(source, OWN, RATE)) for pan, source in zip(PAN, sources, strict=True)]
    )
    mixture = images.sum(0)
    gain = 0.9 / np.abs(mixture).max()
    sf.write(path, (gain * mixture).T, RATE, subtype="PCM_16")
    return (gain * images).astype(np.float32)


def run(path: Path, labels: Sequence[str], out: Path, options: argparse.Namespace) -> dict[str, float]:
    """Separate with the command line; seconds of clock and processor, peak memory in MiB."""
    words = [
        sys.executable,
        "-m",
        "sourceprior",
        "separate",
        str(path),
        "-q",
        "--preset",
        options.preset,
        "-o",
        str(out),
    ]
    words += ["--steps", str(options.steps)] if options.steps else []
    words += [word for label in labels for word in ("-s", label)]
    found = child.run([*words, "--overwrite"])
    print(path.name, json.dumps(found), file=sys.stderr, flush=True)
    return found


def borders(length: int, settings: Settings) -> tuple[list[int], list[int]]:
    """Where windows begin and end, and where blocks change over: samples of `length` at 16 kHz."""
    window, shared = round(settings.segment * OWN), round(max(settings.segment / 2, 1.0) * OWN)
    places = cut(length, block_samples(settings, OWN), shared)
    ends: set[int] = set()
    for start, stop in places:
        size = stop - start
        first = starts(size, window, settings.overlap) if size > window else [0]
        ends |= {start + begin for begin in first} | {start + begin + min(window, size) for begin in first}
    changes = [start + shared * eighth // 8 for start, _ in places[1:] for eighth in (0, 2, 3, 4, 8)]
    return sorted(end for end in ends if OWN < end < length - OWN), changes


def steps(stems: np.ndarray, places: Sequence[int]) -> np.ndarray:
    """The largest step within 2 ms of each place against the largest within 0.1 s around it; more than 1 at a click."""
    near, around = round(0.002 * RATE), round(0.1 * RATE)
    size = np.abs(np.diff(stems, axis=-1)).max(0)
    ratios = []
    for place in places:
        centre = round(place * RATE / OWN)
        rest = np.concatenate([size[max(0, centre - around) : centre - near], size[centre + near : centre + around]])
        here = size[max(0, centre - near) : centre + near]
        if rest.size and here.size and rest.max() > 1e-4:
            ratios.append(float(here.max() / rest.max()))
    return np.array(ratios)


def quality(mixture: np.ndarray, images: np.ndarray, stems: np.ndarray, labels: Sequence[str], options: Any) -> dict:
    """Borders and SI-SDR of `stems` `(2, channels, samples)`."""
    settings = Settings()
    windows, changes = borders(round(mixture.shape[1] * OWN / RATE), settings)
    middle = [(a + b) // 2 for a, b in itertools.pairwise(windows) if b - a > OWN]
    found: dict[str, Any] = {}
    for name, places in (("window borders", windows), ("block borders", changes), ("elsewhere", middle)):
        ratios = np.concatenate([steps(stem, places) for stem in stems])
        own = np.concatenate([steps(image, places) for image in images])
        found[name] = {
            "places": len(ratios),
            "over 1": float((ratios > 1).sum() / max(1, len(ratios))),
            "largest": float(ratios.max(initial=0)),
            "of the sources themselves, over 1": float((own > 1).sum() / max(1, len(own))),
            "of the sources themselves, largest": float(own.max(initial=0)),
        }
    size = 4 * RATE
    every = np.arange(mixture.shape[1] // size)
    chosen = np.sort(np.random.default_rng(0).permutation(every)[: options.pieces])
    rows = []
    for index in chosen:
        place = slice(index * size, (index + 1) * size)
        true = images[..., place].mean(1)
        if quiet(images, place):
            continue
        alone = separate(mixture[:, place], RATE, labels, preset=options.preset, steps=options.steps).stems
        ours = [float(si_sdr(stem[:, place].mean(0), one)) for stem, one in zip(stems, true, strict=True)]
        theirs = [float(si_sdr(stem.mean(0), one)) for stem, one in zip(alone.values(), true, strict=True)]
        both = [float(si_sdr(mixture[:, place].mean(0), one)) for one in true]
        rows.append((np.mean(ours), np.mean(theirs), np.mean(both)))
    table = np.array(rows)
    difference = table[:, 0] - table[:, 1]
    found["SI-SDR"] = {
        "pieces": len(table),
        "long": float(table[:, 0].mean()),
        "alone": float(table[:, 1].mean()),
        "unprocessed": float(table[:, 2].mean()),
        "difference": float(difference.mean()),
        "its standard error": float(difference.std() / max(1, len(table)) ** 0.5),
    }
    return found


CLEAR = (0.0, 1.0, 3.0)
"""dB by which one order of the stems must be better than the other to count."""


def order(images: np.ndarray, stems: np.ndarray, place: slice) -> float | None:
    """By how many dB of SI-SDR the stems' order as it is beats the other one; None where a source is hardly heard."""
    true, found = images[..., place].mean(1), stems[..., place].mean(1)
    if quiet(images, place):
        return None
    figures = [[float(si_sdr(stem, one)) for one in true] for stem in found]
    return (figures[0][0] + figures[1][1] - figures[0][1] - figures[1][0]) / 2


def quiet(images: np.ndarray, place: slice) -> bool:
    """Whether a source is 20 dB below its own level there: such a piece has no SI-SDR that means anything."""
    # Every 37th sample: a level needs no more of twenty minutes, and this is asked for every piece.
    own = np.sqrt(np.square(images[..., ::37].mean(1)).mean(-1))
    return bool((np.sqrt(np.square(images[..., place].mean(1)).mean(-1)) < 0.1 * own).any())


def exchanges(images: np.ndarray, stems: np.ndarray, places: Sequence[int]) -> dict[str, Any]:
    """At how many of the places the stems' order is clear on both sides, and at what part of them it changes."""
    reach = 4 * RATE
    sides = []
    for place in places:
        centre = round(place * RATE / OWN)
        if centre >= reach and centre + reach <= stems.shape[-1]:
            both = (slice(centre - reach, centre), slice(centre, centre + reach))
            sides.append([order(images, stems, side) for side in both])
    heard = np.array([pair for pair in sides if None not in pair], dtype=float).reshape(-1, 2)
    found: dict[str, Any] = {"places": len(places), "both heard": len(heard)}
    for margin in CLEAR:
        clear = heard[(np.abs(heard) > margin).all(1)]
        found[f"clear by {margin:g} dB"] = len(clear)
        found[f"changed, clear by {margin:g} dB"] = int((clear[:, 0] * clear[:, 1] < 0).sum())
    return found


def changeovers(length: int, settings: Settings) -> tuple[list[int], list[int]]:
    """The middle of what neighbouring windows share, and where blocks change over; samples of `length` at 16 kHz."""
    window, shared = round(settings.segment * OWN), round(max(settings.segment / 2, 1.0) * OWN)
    places = cut(length, block_samples(settings, OWN), shared)
    middles = []
    for start, stop in places:
        first = starts(stop - start, window, settings.overlap) if stop - start > window else [0]
        middles += [start + (one + window + other) // 2 for one, other in itertools.pairwise(first)]
    return middles, [start + 3 * shared // 8 for start, _ in places[1:]]


def read(folder: Path, names: Sequence[str]) -> np.ndarray:
    """Stems `(sources, channels, samples)`."""
    return np.stack([sf.read(folder / f"{name}.wav", dtype="float32")[0].T for name in names])


def by_length(speech: Sequence[Clip]) -> list[str]:
    """Speakers, those with the most speech first."""
    seconds: Counter[str] = Counter()
    for clip in speech:
        seconds[clip.speaker] += clip.seconds
    return [speaker for speaker, _ in seconds.most_common()]


def talk(speech: Sequence[Clip], who: Sequence[str], samples: int, work: Path, options: Any) -> dict[str, Any]:
    """Two speakers who talk at once: what the prior took them for, and where the stems change places."""
    two = [joined([clip for clip in speech if clip.speaker == one], samples, 0.3, 2) for one in who]
    images = write(work.with_suffix(".wav"), np.stack(two))
    if not (work / "report.json").exists():
        run(work.with_suffix(".wav"), ["speech", "speech"], work, options)
    stems = read(work, ["speech_1", "speech_2"])
    report = json.loads((work / "report.json").read_text())
    found: dict[str, Any] = {"taken for": [prior["label"] for prior in report["priors"]], "seconds": report["seconds"]}
    middles, changes = changeovers(samples, Settings())
    found["window borders"] = exchanges(images, stems, middles)
    found["block borders"] = exchanges(images, stems, changes)
    size = 4 * RATE
    places = [slice(start, start + size) for start in range(0, stems.shape[-1] - size + 1, size)]
    mixture, gains = images.sum(0).mean(0), []
    for place in [place for place in places if not quiet(images, place)]:
        true = images[..., place].mean(1)
        figures = [[float(si_sdr(stem, one)) for one in true] for stem in stems[..., place].mean(1)]
        before = np.mean([float(si_sdr(mixture[place], one)) for one in true])
        gains.append(max(figures[0][0] + figures[1][1], figures[0][1] + figures[1][0]) / 2 - before)
    found["SI-SDR improvement of 4 s pieces, better order"] = float(np.mean(gains))
    return found


def main() -> None:
    """Measure, print, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--preset", default="default")
    parser.add_argument("--steps", type=int, help="fewer, where only memory and the run of the clock matter")
    parser.add_argument("--pieces", type=int, default=60, help="how many 4 s pieces are separated alone")
    parser.add_argument("--parts", nargs="+", default=["time", "quality", "speakers"])
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--split", default="test")
    parser.add_argument("--work", type=Path, help="keep recordings and stems here, and use the stems that are there")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        measured = measure(options, options.work or Path(temporary))
    print(json.dumps(measured, indent=2))
    if options.json:
        options.json.write_text(json.dumps(measured, indent=2) + "\n")


def sounds(clips: Sequence[Clip], samples: int, work: Path, options: Any) -> dict[str, Any]:
    """Speech and a barking dog: the parts "time" and "quality"."""
    labels = ["speech", "dog_bark"]
    speech, barks = [clip for clip in clips if clip.speaker], [clip for clip in clips if clip.label == "Bark"]
    sources = np.stack([joined(speech, samples, 0.3, 0), joined(barks, samples, 2.0, 1)])
    images = write(work / "long.wav", sources)
    measured: dict[str, Any] = {}
    if "time" in options.parts:
        for name, seconds in (("start", 1.0), ("short", 120.0), ("long", 60 * options.minutes)):
            if name != "long":
                write(work / f"{name}.wav", sources[:, : round(seconds * OWN)])
            measured[name] = run(work / f"{name}.wav", labels, work / name, options)
        # Without what a second's recording takes, which is loading, mostly.
        for name, seconds in (("short", 120.0), ("long", 60 * options.minutes)):
            for clock in ("seconds", "processor_seconds"):
                taken = measured[name][clock] - measured["start"][clock]
                measured[name][f"{clock}_per_second"] = taken / (seconds - 1)
    if "quality" in options.parts:
        if not (work / "long" / "report.json").exists():
            run(work / "long.wav", labels, work / "long", options)
        mixture = sf.read(work / "long.wav", dtype="float32")[0].T
        measured |= quality(mixture, images, read(work / "long", labels), labels, options)
    return measured


def measure(options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """All parts that are asked for."""
    work.mkdir(parents=True, exist_ok=True)
    clips = read_manifest(options.data, options.split)
    samples = round(60 * options.minutes * OWN)
    speech = [clip for clip in clips if clip.speaker]
    measured: dict[str, Any] = {"minutes": options.minutes, "preset": options.preset, "steps": options.steps}
    if {"time", "quality"} & set(options.parts):
        measured |= sounds(clips, samples, work, options)
    if "speakers" in options.parts:
        details = {row["speaker"]: row for row in csv.DictReader((options.data / "manifest.csv").open()) if row["age"]}
        adults = [s for s in by_length(speech) if int(details[s]["age"]) >= 18]
        two = [next(s for s in adults if details[s]["gender"] == gender) for gender in "mf"]
        measured["speakers"] = {"who": two} | talk(speech, two, samples, work / "speakers", options)
    if "pairs" in options.parts:
        everyone, generator = sorted({clip.speaker for clip in speech}), np.random.default_rng(0)
        measured["pairs"] = []
        for index in range(options.pairs):
            two = [everyone[i] for i in generator.permutation(len(everyone))[:2]]
            found = {"who": two} | talk(speech, two, 120 * OWN, work / f"pair{index}", options)
            print(json.dumps(found), flush=True)
            measured["pairs"].append(found)
    return measured


if __name__ == "__main__":
    main()
