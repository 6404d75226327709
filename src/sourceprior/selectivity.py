"""How well a denoiser knows its own source, and how little it does for every other: watched in training.

In a mixture a prior that denoises everything takes everything (METHODS: what decides separation is selectivity).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from sourceprior.datasets import SPEECH, SPOKEN, VOICES, ClipBank
from sourceprior.examples import NULL


class Denoises(Protocol):
    """D(x, sigma, label) at a level, see ``denoisers``."""

    level: float

    def __call__(self, x: Tensor, sigma: Tensor, label: Tensor) -> Tensor: ...


RATIOS = (1.0, 2.0, 5.0)
"""Noise levels, in multiples of the source's RMS."""


def denoising_snr(clean: Tensor, estimate: Tensor) -> Tensor:
    """Signal-to-error ratio in dB per item, (B, N), (B, N) -> (B,)."""
    error = (clean - estimate).square().sum(-1)
    return 10 * torch.log10(clean.square().sum(-1) / error.clamp_min(1e-20))


def mean_snr(clean: Tensor, estimate: Tensor) -> float:
    """Mean of `denoising_snr` over the items that are not silence, dB."""
    heard = clean.any(-1)
    return float(denoising_snr(clean[heard], estimate[heard]).mean()) if bool(heard.any()) else 0.0


@torch.no_grad()
def selectivity(
    denoiser: Denoises, labels: Sequence[str], bank: ClipBank, count: int = 32, seconds: float = 4.0
) -> dict[str, float]:
    """Mean denoising SNR in dB at sigma = 1, 2, 5 x RMS on clips of ``bank`` (B = ``count`` each, fixed seed).

    Keys: ``speech/own``, ``speech/on sounds`` (sounds read as speech), ``sounds/own``, ``sounds/wrong label``,
    ``sounds/null label``, ``sounds/on speech`` (speech read as a random class), and ``/own``, ``/on other voices`` of
    each kind of voice and of groups of voices, each with ``@1 @2 @5``; as far as labels and clips allow.
    """
    rows = {label: i for i, label in enumerate(labels)}
    g = torch.Generator().manual_seed(1)
    samples = round(seconds * bank.sample_rate)

    def draw(names: Sequence[str]) -> tuple[Tensor, Tensor]:
        clips = torch.multinomial(bank.weights(names).cpu(), count, replacement=True, generator=g)
        wave = bank.render(clips.to(bank.wave.device), samples, g, augment=False) * denoiser.level
        return wave, bank.label[clips.to(bank.wave.device)]

    def there(names: Sequence[str]) -> bool:
        return bool(bank.weights(names).any())

    sounds = [name for name in bank.labels if name in rows and name not in (*SPOKEN, NULL)]
    others = [name for name in bank.labels if name not in SPOKEN]
    trials: dict[str, tuple[Tensor, Tensor]] = {}
    if SPEECH in rows and there([SPEECH]):
        full = torch.full((count,), rows[SPEECH], device=bank.wave.device)
        trials["speech/own"] = draw([SPEECH])[0], full
        if there(others):
            trials["speech/on sounds"] = draw(others)[0], full
    for name in VOICES:
        rest = [voice for voice in VOICES if voice != name and voice in bank.labels]
        if name in rows and there([name]) and there(rest):
            trials[f"{name}/own"] = draw([name])[0], torch.full((count,), rows[name], device=bank.wave.device)
            trials[f"{name}/on other voices"] = draw(rest)[0], trials[f"{name}/own"][1]
    groups = [(i, rows[name]) for i, name in enumerate(bank.voices) if name in rows]
    if len(groups) > 1 and bool((bank.voice >= 0).any()):
        clips = torch.multinomial(bank.weights([SPEECH]).cpu(), count, replacement=True, generator=g)
        clips = clips.to(bank.wave.device)
        wave = bank.render(clips, samples, g, augment=False) * denoiser.level
        shift = torch.randint(1, len(groups), (count,), generator=g).to(bank.wave.device)
        row = torch.tensor([row for _, row in groups], device=bank.wave.device)
        trials["voices/own"] = wave, row[bank.voice[clips]]
        trials["voices/wrong group"] = wave, row[(bank.voice[clips] + shift) % len(groups)]
    if there(sounds):
        wave, index = draw(sounds)
        row = torch.tensor([rows.get(name, 0) for name in bank.labels], device=bank.wave.device)[index]
        choice = torch.tensor([rows[name] for name in sounds], device=bank.wave.device)
        shift = torch.randint(1, max(2, len(sounds)), (count,), generator=g).to(bank.wave.device)
        where = (row[:, None] == choice).long().argmax(1)
        wrong = choice[(where + shift) % len(choice)]
        trials["sounds/own"] = wave, row
        if len(sounds) > 1:
            trials["sounds/wrong label"] = wave, wrong
        if NULL in rows:
            trials["sounds/null label"] = wave, torch.full_like(row, rows[NULL])
        if there([SPEECH]):
            trials["sounds/on speech"] = draw([SPEECH])[0], wrong
    figures = {}
    for name, (wave, label) in trials.items():
        noise = torch.randn(wave.shape, generator=g).to(wave.device)
        for ratio in RATIOS:
            sigma = torch.full((count,), ratio * denoiser.level, device=wave.device)
            estimate = denoiser(wave + sigma[:, None] * noise, sigma, label)
            figures[f"{name} @{ratio:g}"] = mean_snr(wave, estimate)
    return figures


@torch.no_grad()
def per_class(
    denoiser: Denoises, labels: Sequence[str], bank: ClipBank, count: int = 4
) -> list[dict[str, str | float]]:
    """Mean denoising SNR in dB of every label that ``bank`` has clips of, at sigma = 1, 2, 5 x RMS, fixed seed.

    One row per label: ``own @1 @2 @5`` on ``count`` of its clips, ``others @1 @2 @5`` on as many of other labels.
    """
    g, rows = torch.Generator().manual_seed(1), []
    samples, device = 4 * bank.sample_rate, bank.wave.device
    for name in labels:
        others = [other for other in bank.labels if other != name and not (name == SPEECH and other in VOICES)]
        if name not in bank.labels or not bool(bank.weights([name]).any()):
            continue
        row: dict[str, str | float] = {"label": name, "clips": len(bank.groups[bank.labels.index(name)])}
        label = torch.full((count,), list(labels).index(name), device=device)
        for case, names in (("own", [name]), ("others", others)):
            weights = bank.weights(names).cpu()
            if not bool(weights.any()):
                continue
            clips = torch.multinomial(weights, count, replacement=True, generator=g).to(device)
            wave = bank.render(clips, samples, g, augment=False) * denoiser.level
            noise = torch.randn(wave.shape, generator=g).to(device)
            for ratio in RATIOS:
                sigma = torch.full((count,), ratio * denoiser.level, device=device)
                estimate = denoiser(wave + sigma[:, None] * noise, sigma, label)
                row[f"{case} @{ratio:g}"] = round(mean_snr(wave, estimate), 2)
        rows.append(row)
    return rows
