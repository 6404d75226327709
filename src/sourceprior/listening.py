"""Which of the known sources a recording could hold: all their denoisers try to restore it, part by part.

Alone, many a denoiser restores much of a mixture: rain keeps whatever rustles. So they compete. The mixture is looked
at once at a high noise level, and every patch of time and frequency goes to whoever restores it best,

    g_k = 1 - |Y - D_k(y + sigma z)|² / |Y|²,   share_k = softmax over k of g_k / SHARP

A label's fit is the part of the mixture that it wins and restores, patches weighted by their energy to the power of
WEIGHT.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from sourceprior import audio
from sourceprior.datasets import is_voice_group
from sourceprior.fullband import mid
from sourceprior.initial import standard_normal
from sourceprior.labels import ANYTHING
from sourceprior.library import PriorLike, load_priors
from sourceprior.pieces import loudest
from sourceprior.priors import Source, joint
from sourceprior.sampling import find_device
from sourceprior.stft import energy, stft
from sourceprior.survey import check_recording, survey
from sourceprior.windows import windowed

LONGEST = 30.0
"""Seconds that are listened to: the loudest stretch of that length."""
AT_ONCE = 8
"""Labels that are denoised together."""
NOISE = 1.0
"""Its level, in units of that of a typical source."""
PATCH = (3, 8)
"""Bins and frames that are judged together."""
SHARP, WEIGHT = 0.01, 0.7
"""See above; chosen on valid, see docs/experiments.md."""
WINDOW = 8.0
"""Seconds that are denoised at a time."""


@torch.no_grad()
def rank(
    path: str | os.PathLike[str], prior: PriorLike | Iterable[PriorLike] | None = None, device: str = "auto"
) -> list[tuple[str, str, float]]:
    """(label, prior's name, fit) of every label but `anything` and groups of voices, the best first.

    Fits are 0 to 1, and add up to 1 at most. A part of another label, such as female_speech of speech, has its share of
    what that one has.

    Raises UserError for a recording or a prior that cannot be used.
    """
    place, priors = find_device(device), load_priors(prior)
    recording = audio.stream(path)
    rate, seen = recording.sample_rate, survey(recording)
    check_recording(seen, rate)
    signal = (piece[0] for piece in mid(recording.pieces(), seen))
    stretch = loudest(signal, round(LONGEST * rate), rate // 10)[None]
    # All are compared at one rate, the first prior's.
    common = priors[0].sample_rate
    y = resampled(stretch, rate, common)
    spectrum = stft(y)
    power = patches(energy(spectrum))
    names: list[Source] = []
    gains = []
    for item in priors:
        heard = resampled(stretch, rate, item.sample_rate)
        sources = [Source(item, index, label) for index, label in enumerate(item.labels) if is_kind(label)]
        for start in range(0, len(sources), AT_ONCE):
            group = sources[start : start + AT_ONCE]
            restored = resampled(look(heard, group, place).numpy(), item.sample_rate, common, y.shape[-1])
            left = patches(energy(spectrum - stft(restored)))
            gains.append((1 - left / power.clamp_min(1e-20)).clamp(0, 1))
            names += group
    won = compete(torch.cat(gains), [part_of(source) for source in names], [source.name for source in names])
    weight = power.double() ** WEIGHT
    fits = (won * weight).sum((1, 2)) / weight.sum().clamp_min(1e-20)
    found = [(source.name, source.prior.name, float(fit)) for source, fit in zip(names, fits, strict=True)]
    return sorted(found, key=lambda row: -row[2])


def look(y: Tensor, sources: Sequence[Source], device: torch.device) -> Tensor:
    """What every source's denoiser makes of a mixture `(1, N)` with noise, at its own level, `(K, N)` on the CPU."""
    level = sources[0].prior.level
    gain = level * 2**0.5 / float(y.square().mean().sqrt().clamp_min(1e-12))
    noisy = gain * y[None].to(device)
    noisy = noisy + NOISE * level * standard_normal((1, y.shape[-1]), [torch.Generator().manual_seed(0)], noisy)
    denoise = windowed(joint(sources, device), round(WINDOW * sources[0].prior.sample_rate))
    return denoise(noisy.expand(1, len(sources), -1), NOISE * level)[0].cpu() / gain


def compete(gains: Tensor, wholes: Sequence[str | None], names: Sequence[str]) -> Tensor:
    """What each label wins of every patch and restores: gains `(K, F, T)` -> `(K, F, T)`.

    Args:
        wholes: the label that each is a part of, with others of which it shares what that one wins.
        names: of the labels.
    """
    gains = gains.double()
    won = torch.zeros_like(gains)
    free = [k for k, whole in enumerate(wholes) if whole not in names]
    won[free] = torch.softmax(gains[free] / SHARP, 0) * gains[free]
    for whole in {whole for whole in wholes if whole in names}:
        parts = [k for k, own in enumerate(wholes) if own == whole]
        won[parts] = torch.softmax(gains[parts] / SHARP, 0) * won[names.index(whole)]
    return won


def part_of(source: Source) -> str | None:
    """The label that a source's is a part of, if any."""
    parts = source.prior.config.get("parts", {})
    return next((whole for whole, inside in parts.items() if source.name in inside), None)


def patches(power: Tensor) -> Tensor:
    """Means of PATCH bins and frames: `(K, 513, T)` -> `(K, 171, T / 8)`; at the end over those that exist."""
    return avg_pool2d(power, PATCH, ceil_mode=True, count_include_pad=False)


def resampled(samples: np.ndarray, rate: int, wanted: int, length: int | None = None) -> Tensor:
    """Signals `(K, n)` at another rate in Hz, float32; at least a sample of each."""
    length = length or max(1, round(samples.shape[1] * wanted / rate))
    other = samples if rate == wanted else audio.resample(samples, rate, wanted, length)
    return torch.from_numpy(np.ascontiguousarray(other)).float()


def is_kind(label: str) -> bool:
    """Whether a label is a kind of source: not any sound, nor one of many groups of voices."""
    return label != ANYTHING and not is_voice_group(label)
