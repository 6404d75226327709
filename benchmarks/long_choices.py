"""How the settings for long recordings were chosen, on recordings made from clips of the valid split.

    python benchmarks/long_choices.py --data DATA [--parts windows levels absence]

windows  SI-SDR of pieces of 4 s cut from the stems of 64 s, less that of the same pieces separated alone: windows of
         8 s and 4 s, a quarter or half of them shared
levels   the same for 48 s whose loudness changes by up to 24 dB, with and without following it
absence  recordings of two sources, in stretches of 5 to 14 s both, the first or the second alone: in how many seconds,
         at least 2 s away from where it is there, an absent source's stem is 30 dB below the mixture, and SI-SDR in
         pieces of 4 s where both are there, without and with `absence` (`--first`, `--count`: which of the recordings)
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from long import LEVEL, OWN, joined
from sourceprior import sampling
from sourceprior.datasets import Clip, read_manifest
from sourceprior.labels import find
from sourceprior.library import load_priors
from sourceprior.metrics import si_sdr
from sourceprior.sampling import PRESETS, Overview, Settings, solve

PIECE = 4 * OWN
ENOUGH = 15.0
"""Seconds of valid clips that a class must have to be drawn."""


def recording(clips: list[Clip], labels: list[str], seconds: int, seed: int) -> np.ndarray:
    """Sources `(K, N)`: the first goes on with short pauses, the others with pauses of up to 2 s."""
    rows = []
    for index, label in enumerate(labels):
        own = [clip for clip in clips if (clip.speaker if label == "speech" else clip.label == label)]
        rows.append(joined(own, seconds * OWN, 2.0 if index else 0.3, seed + index))
    return np.stack(rows)


def separated(mixture: np.ndarray, labels: list[str], settings: Settings) -> np.ndarray:
    """Stems `(K, N)`."""
    return solve(torch.from_numpy(mixture), find(labels, load_priors(None)), settings)[0].numpy()


def quality(stems: np.ndarray, true: np.ndarray) -> float:
    """Mean SI-SDR in dB over sources `(K, N)`."""
    return float(np.mean([float(si_sdr(stem, one)) for stem, one in zip(stems, true, strict=True)]))


def against_alone(true: np.ndarray, labels: list[str], variants: dict[str, Settings], loudness: np.ndarray) -> None:
    """Print for every variant the difference to pieces that are separated alone."""
    places = [slice(start, start + PIECE) for start in range(0, true.shape[1] - PIECE + 1, PIECE)]
    heard = [p for p in places if np.sqrt(np.square(true[:, p] / loudness[p]).mean(1)).min() > 0.1 * LEVEL]
    mixture = true.sum(0)
    alone = [quality(separated(mixture[p], labels, PRESETS["default"]), true[:, p]) for p in heard]
    for name, settings in variants.items():
        with mock.patch.object(sampling, "overview", flat if name == "one level" else sampling.overview):
            stems = separated(mixture, labels, settings)
        difference = np.array([quality(stems[:, p], true[:, p]) for p in heard]) - alone
        error = difference.std() / len(heard) ** 0.5
        print(f"{labels}, {name}: {difference.mean():+.2f} ± {error:.2f} dB, {len(heard)} pieces", flush=True)


def flat(*arguments: object, look=sampling.overview) -> Overview:
    """What is known of a mixture, but for how its loudness changes."""
    seen = look(*arguments)
    return replace(seen, levels=np.full_like(seen.levels, seen.rms))


def windows(clips: list[Clip]) -> None:
    """Print the part of that name."""
    own = PRESETS["default"]
    variants = {
        "windows of 8 s": own,
        "windows of 4 s": replace(own, segment=4.0),
        "windows of 4 s, half shared": replace(own, segment=4.0, overlap=0.5),
    }
    for labels in (["speech", "Bark"], ["rain", "Bark"]):
        true = recording(clips, labels, 64, 0)
        against_alone(true, labels, variants, np.ones(true.shape[1]))


def levels(clips: list[Clip]) -> None:
    """Print the part of that name."""
    for labels in (["speech", "Bark"], ["speech", "rain"]):
        true = recording(clips, labels, 48, 7)
        steps = 10 ** (np.random.default_rng(1).uniform(-24, 0, 7) / 20)
        loudness = np.interp(np.arange(true.shape[1]), np.arange(7) * 8 * OWN, steps)
        variants = {"one level": PRESETS["default"], "local level": PRESETS["default"]}
        against_alone((true * loudness).astype(np.float32), labels, variants, loudness)


def absence(clips: list[Clip], first: int = 0, count: int = 40) -> None:
    """Print the part of that name, for recordings number `first` to `first + count - 1`."""
    known = {label for prior in load_priors(None) for label in prior.labels}
    seconds: Counter[str] = Counter()
    for clip in clips:
        seconds[clip.label] += 0 if clip.speaker else clip.seconds
    often = [label for label, total in seconds.most_common() if total > ENOUGH and label in known]
    rows = []
    for index, (pair, there, lengths, gain) in list(enumerate(patterns(often, first + count)))[first:]:
        true = recording(clips, pair, int(lengths.sum()), 100 + index)
        true[1] *= 10 ** (gain / 20)
        active = np.repeat(np.array(there).T, lengths * OWN, axis=1)
        true = np.where(active, true, 0).astype(np.float32)
        both = without_and_with(true.sum(0), pair)
        together = [p for p in cut_into(PIECE, true.shape[1]) if active[:, p].all()]
        for source, label in enumerate(pair):
            alone = [p for p in cut_into(OWN, true.shape[1]) if away(active[source], p)]
            down = [mean(below(stems[source, p], true[:, p].sum(0)) for p in alone) for stems in both]
            found = [mean(float(si_sdr(stems[source, p], true[source, p])) for p in together) for stems in both]
            rows.append(("speech" in pair, *down, *found))
            print(f"{index}, {label} of {pair}: " + " ".join(f"{figure:.2f}" for figure in rows[-1][1:]), flush=True)
    table = np.array(rows, dtype=float)
    for name, chosen in (("speech and a sound", table[:, 0] == 1), ("two sounds", table[:, 0] == 0)):
        for what, columns in (("absent, seconds 30 dB down", (1, 2)), ("both there, SI-SDR in dB", (3, 4))):
            some = table[chosen][:, columns]
            some = some[np.isfinite(some).all(1)]
            print_change(f"{name}, {what}", some)
            if columns == (3, 4):
                # A stem that holds nothing of its source is as good silent.
                print_change(f"{name}, {what}, where it was above 0", some[some[:, 0] > 0])


def print_change(what: str, figures: np.ndarray) -> None:
    """Means of figures `(stems, 2)`, without and with the rule."""
    if len(figures):
        without, ruled = figures.mean(0)
        error = (figures[:, 1] - figures[:, 0]).std() / len(figures) ** 0.5
        print(f"{what}: {without:.2f}, with the rule {ruled:.2f} (± {error:.2f}), {len(figures)} stems")


def patterns(labels: list[str], count: int) -> list[tuple[list[str], list[tuple[bool, bool]], np.ndarray, float]]:
    """For each recording: two labels, which of them are there in each stretch, seconds of each, gain of the second."""
    generator = np.random.default_rng(2024)
    stretches = [(True, True), (True, False), (False, True)]
    made = []
    for index in range(count):
        one, other = (str(label) for label in generator.permutation(labels)[:2])
        there = [stretches[k] for k in generator.permutation(3)]
        if generator.random() < 0.5:
            there.append(stretches[generator.integers(3)])
        pair = [["speech", one], [one, other], [one, "speech"]][index % 3]
        made.append((pair, there, generator.integers(5, 15, len(there)), float(generator.uniform(-6, 6))))
    return made


def without_and_with(mixture: np.ndarray, labels: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Stems of the default preset as the solver leaves them, and as `silence_absent` does."""
    solve_block, solved = sampling._solve_block, []

    def kept(*arguments: Any) -> Any:
        solved.append(solve_block(*arguments))
        return solved[-1]

    with (
        mock.patch.object(sampling, "_solve_block", kept),
        mock.patch.object(sampling, "silence_absent", lambda stems, *_: stems),
    ):
        without = separated(mixture, labels, PRESETS["default"])
    with mock.patch.object(sampling, "_solve_block", side_effect=solved):
        return without, separated(mixture, labels, PRESETS["default"])


def mean(figures: Iterable[float]) -> float:
    """Of any number of figures, nan of none."""
    listed = list(figures)
    return sum(listed) / len(listed) if listed else np.nan


def cut_into(size: int, length: int) -> list[slice]:
    """Places of `size` samples, one after another."""
    return [slice(start, start + size) for start in range(0, length - size + 1, size)]


def away(active: np.ndarray, place: slice) -> bool:
    """Whether a source is absent there and for two seconds before and after."""
    return not active[max(0, place.start - 2 * OWN) : place.stop + 2 * OWN].any()


def below(stem: np.ndarray, mixture: np.ndarray) -> bool:
    """Whether a stem is 30 dB below the mixture, or there is next to nothing at all."""
    return bool(np.square(stem).mean() < 1e-3 * np.square(mixture).mean() + 1e-10)


PARTS = {"windows": windows, "levels": levels, "absence": absence}


def main() -> None:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=40)
    options = parser.parse_args()
    clips = read_manifest(options.data, "valid")
    for part in options.parts:
        PARTS[part](clips, *((options.first, options.count) if part == "absence" else ()))


if __name__ == "__main__":
    main()
