"""How the settings for long recordings were chosen, on recordings made from clips of the valid split.

    python benchmarks/long_choices.py --data DATA [--parts windows levels absence]

windows  SI-SDR of pieces of 4 s cut from the stems of 64 s, less that of the same pieces separated alone: windows of
         8 s and 4 s, a quarter or half of them shared
levels   the same for 48 s whose loudness changes by up to 24 dB, with and without following it
absence  36 s of which one source is absent in the middle third, the other in the last: how far its stem lies below the
         mixture (median over seconds at least 2 s away from its end), in how many of these seconds by 30 dB or more,
         and SI-SDR in the first third, without and with `absence`
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import torch

from long import LEVEL, OWN, joined
from sourceprior import sampling
from sourceprior.absence import silence_absent
from sourceprior.datasets import Clip, read_manifest
from sourceprior.labels import find
from sourceprior.library import load_priors
from sourceprior.metrics import si_sdr
from sourceprior.sampling import PRESETS, Overview, Settings, solve

PIECE = 4 * OWN


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


def absence(clips: list[Clip]) -> None:
    """Print the part of that name."""
    generator, third = np.random.default_rng(11), 12 * OWN
    for seed, labels in enumerate(
        [["speech", "Bark"], ["speech", "engine"], ["speech", "Flute"], ["Bark", "wind"],
         ["Acoustic_guitar", "helicopter"], ["speech", "paper"], ["Trumpet", "insects"], ["speech", "clock_tick"]]
    ):  # fmt: skip
        true = recording(clips, labels, 36, seed + 50)
        true[1] *= 10 ** (generator.uniform(-6, 6) / 20)
        true[1, third : 2 * third], true[0, 2 * third :] = 0, 0
        mixture = true.sum(0)
        for name, step in (("without", lambda stems, *_: stems), ("with", silence_absent)):
            with mock.patch.object(sampling, "silence_absent", step):
                stems = separated(mixture, labels, PRESETS["default"])
            down = []
            for source, begin in ((1, third), (0, 2 * third)):
                for start in range(begin + 2 * OWN, begin + third - 2 * OWN, OWN):
                    second = slice(start, start + OWN)
                    power = np.square(mixture[second]).mean()
                    if power > 1e-7:
                        down.append(10 * np.log10(np.square(stems[source, second]).mean() / power))
            places = [slice(start, start + PIECE) for start in range(0, third - PIECE + 1, PIECE)]
            both = np.mean([quality(stems[:, p], true[:, p]) for p in places])
            silent = np.mean(np.array(down) < -30)
            print(f"{labels}, {name}: {np.median(down):.1f} dB, {silent:.0%} silent, both {both:.2f} dB", flush=True)


PARTS = {"windows": windows, "levels": levels, "absence": absence}


def main() -> None:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    options = parser.parse_args()
    clips = read_manifest(options.data, "valid")
    for part in options.parts:
        PARTS[part](clips)


if __name__ == "__main__":
    main()
