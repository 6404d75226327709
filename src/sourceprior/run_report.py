"""What a finished run leaves beside its prior: figures per class and noise level, sounds it makes, separations it does.

    classes.csv, classes.md   denoising SNR of every class on its own clips and on those of others, per noise level
    samples/                  unconditional samples of a few labels, and their picture
    separations/              mixtures of two valid clips with known sources, taken apart, each with its picture
    figures.json              all of it in numbers

It is made in about a minute: every part is timed, and what would take longer is made with fewer steps or left out.
"""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from sourceprior import writing
from sourceprior.ancestral import ancestral
from sourceprior.datasets import SPEECH, SPOKEN, ClipBank
from sourceprior.formats import FileFormat
from sourceprior.metrics import best_permutation, si_sdr
from sourceprior.mixture import Denoise
from sourceprior.presets import TYPICAL_LEVEL, seeded
from sourceprior.priors import Source, SourcePrior, joint
from sourceprior.schedules import vp_linear
from sourceprior.selectivity import RATIOS, per_class

SAMPLES, MIXTURES = 4, 3
SECONDS = 4.0
STEPS = (10, 100)
"""Fewest and most steps of a sample."""
ENOUGH = 60.0
"""Seconds that all of it may take."""


def write_report(
    prior: SourcePrior,
    valid: ClipBank | None,
    folder: Path,
    log: Callable[[str], None] = print,
    device: torch.device | str = "cpu",
    enough: float = ENOUGH,
) -> dict[str, Any]:
    """Write the report of a prior; returns what figures.json holds.

    Args:
        valid: clips of the valid split; without them there are samples only.
        enough: seconds it may take.
    """
    began = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    was_training = prior.denoiser.training
    prior.denoiser.eval()
    cost = _seconds_per_item(prior, device)
    figures: dict[str, Any] = {"seconds per denoised clip of 4 s": round(cost, 3), "left out": []}

    def affordable(seconds: float, what: str) -> bool:
        if time.monotonic() - began + seconds <= enough:
            return True
        figures["left out"].append(what)
        return False

    if valid is not None:
        shown = [
            label for label in prior.labels if label in valid.labels and len(valid.groups[valid.labels.index(label)])
        ]
        # Own and other clips of every class at every level.
        count = int(min(4, 0.5 * enough / max(1e-9, 2 * len(RATIOS) * len(shown) * cost))) if shown else 0
        if count and affordable(0, "figures per class"):
            figures["classes"] = per_class(cast(Any, prior.denoiser), prior.labels, valid, count)
            _write_classes(figures["classes"], folder)
        elif shown:
            figures["left out"].append("figures per class")
    steps = int(min(STEPS[1], 0.2 * enough / max(1e-9, SAMPLES * cost)))
    if steps >= STEPS[0] and affordable(SAMPLES * steps * cost, "samples"):
        figures["samples"] = _samples(prior, folder / "samples", steps, device)
    elif steps < STEPS[0]:
        figures["left out"].append("samples")
    if valid is not None:
        figures["separations"] = []
        for index, pair in enumerate(_pairs(prior, valid)):
            if affordable(40 * cost, f"separation {index + 1}"):
                figures["separations"].append(_separation(prior, valid, pair, folder / "separations", index, device))
    figures["seconds"] = round(time.monotonic() - began, 1)
    (folder / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")
    if figures["left out"]:
        log(f"left out of the report, as it would take too long here: {', '.join(figures['left out'])}")
    log(f"{folder}: the run's figures, samples and separations ({figures['seconds']:.0f} s)")
    prior.denoiser.train(was_training)
    return figures


@torch.no_grad()
def _seconds_per_item(prior: SourcePrior, device: torch.device | str) -> float:
    denoise = joint([Source(prior, 0, "x")], device)
    x = torch.zeros(1, 1, round(SECONDS * prior.sample_rate), device=device)
    denoise(x, prior.level)
    began = time.monotonic()
    denoise(x, prior.level)
    return time.monotonic() - began


def _write_classes(rows: Sequence[dict[str, Any]], folder: Path) -> None:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    with (folder / "classes.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    lines += ["| " + " | ".join(str(row.get(column, "")) for column in columns) + " |" for row in rows]
    head = "Mean SNR in dB of the denoised clip, noise at so many times its RMS: own clips, and those of others.\n\n"
    (folder / "classes.md").write_text(head + "\n".join(lines) + "\n")


def _samples(prior: SourcePrior, folder: Path, steps: int, device: torch.device | str) -> list[str]:
    from sourceprior.plots import spectrograms

    folder.mkdir(parents=True, exist_ok=True)
    labels = [prior.labels[i] for i in np.linspace(0, len(prior.labels) - 1, SAMPLES).round().astype(int)]
    waves = {}
    for k, label in enumerate(labels):
        denoise = _scaled(joint([Source(prior, prior.index(label), label)], device), prior.level / TYPICAL_LEVEL)
        made = ancestral(
            denoise,
            vp_linear(steps),
            1,
            round(SECONDS * prior.sample_rate),
            generators=seeded(1, k),
            like=torch.empty(0, device=device),
        )
        wave = made[0, 0].cpu().numpy()
        name = f"{k + 1}_{_safe(label)}"
        waves[name] = wave
        writing.write(folder / f"{name}.wav", wave[None], prior.sample_rate, FileFormat("WAV", "FLOAT"))
    spectrograms(waves, prior.sample_rate, folder / "samples.png")
    return labels


def _scaled(denoise: Denoise, scale: float) -> Denoise:
    """A denoiser for signals at another level than its own."""
    return lambda x, sigma: denoise(scale * x, scale * sigma) / scale


def _pairs(prior: SourcePrior, valid: ClipBank) -> list[tuple[str, str]]:
    """Labels of mixtures: speech and sounds where the prior knows both, else neighbours among its classes."""
    present = [
        name for name, group in zip(valid.labels, valid.groups, strict=True) if len(group) and name in prior.labels
    ]
    speech, sounds = [n for n in present if n in SPOKEN][:1], [n for n in present if n not in SPOKEN]
    if speech and sounds:
        chosen = [sounds[i] for i in np.linspace(0, len(sounds) - 1, min(MIXTURES, len(sounds))).round().astype(int)]
        return [(SPEECH if SPEECH in prior.labels else speech[0], sound) for sound in chosen]
    if len(sounds) > 1:
        return [(sounds[i], sounds[(i + 1) % len(sounds)]) for i in range(min(MIXTURES, len(sounds)))]
    # Of one class alone, two clips of it.
    return [(name, name) for name in present[:1] if int((valid.weights([name]) > 0).sum()) > 1]


def _separation(
    prior: SourcePrior, valid: ClipBank, pair: tuple[str, str], folder: Path, index: int, device: torch.device | str
) -> dict[str, Any]:
    from sourceprior.separation import separate

    g = torch.Generator().manual_seed(index)
    chosen: list[int] = []
    for label in pair:
        weight = valid.weights([label]).cpu()
        # Two sources of one class are not the same clip.
        weight[chosen] = 0
        chosen.append(int(torch.multinomial(weight, 1, generator=g)))
    clips = torch.tensor(chosen, device=valid.wave.device)
    truth = valid.render(clips, round(SECONDS * valid.sample_rate), g, augment=False).cpu().numpy() * prior.level
    result = separate(truth.sum(0), valid.sample_rate, pair, prior=prior, device=str(device), tell_apart=False)
    place = folder / f"{index + 1}_{_safe(pair[0])}_{_safe(pair[1])}"
    result.save(place)
    stems = np.stack(list(result.stems.values()))
    # Nobody can tell which of two sources of one class is the first.
    order = list(best_permutation(stems, truth, pair))
    names = list(result.stems)
    for name, wave in zip([names[i] for i in order], truth, strict=True):
        writing.write(place / f"true_{_safe(name)}.wav", wave[None], valid.sample_rate, FileFormat("WAV", "FLOAT"))
    values = si_sdr(stems[order], truth)
    return {"labels": list(pair), "si_sdr_db": [round(float(value), 2) for value in values]}


def _safe(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in name)
