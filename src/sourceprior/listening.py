"""Which of the known sources a recording could hold: each label's denoiser tried on the recording as it is."""

from __future__ import annotations

import os
from collections.abc import Iterable

import numpy as np
import torch

from sourceprior import audio
from sourceprior.confidence import confidence
from sourceprior.fullband import downmix
from sourceprior.labels import ANYTHING
from sourceprior.library import PriorLike, load_priors
from sourceprior.priors import Source
from sourceprior.sampling import find_device

LONGEST = 30.0
"""Seconds that are listened to: the loudest stretch of that length."""
AT_ONCE = 8
"""Labels that are denoised together."""


def rank(
    path: str | os.PathLike[str], prior: PriorLike | Iterable[PriorLike] | None = None, device: str = "auto"
) -> list[tuple[str, str, float]]:
    """(label, prior's name, fit) of every label but `anything`, the best first.

    The fit is `confidence` with the mixture for a stem: the part of it that the label's denoiser restores from noise. A
    label that is one of several sources keeps its own part and loses the rest.

    Raises UserError for a recording or a prior that cannot be used.
    """
    recording = audio.read(path)
    audio.check(recording.samples, recording.sample_rate)
    place = find_device(device)
    mid = loudest(downmix(recording.samples), round(LONGEST * recording.sample_rate))
    found = []
    for item in load_priors(prior):
        heard = audio.resample(mid, recording.sample_rate, item.sample_rate)
        y = torch.from_numpy(np.ascontiguousarray(heard[0])).float()
        sources = [Source(item, index, label) for index, label in enumerate(item.labels) if label != ANYTHING]
        for start in range(0, len(sources), AT_ONCE):
            group = sources[start : start + AT_ONCE]
            fits = confidence(y.expand(len(group), -1), group, device=place)
            found += [(source.name, item.name, fit) for source, fit in zip(group, fits.tolist(), strict=True)]
    return sorted(found, key=lambda row: -row[2])


def loudest(samples: np.ndarray, length: int) -> np.ndarray:
    """The `length` samples of `(1, samples)` with the greatest energy; all of them if there are fewer."""
    if samples.shape[1] <= length:
        return samples
    energy = np.cumsum(np.append(0, np.square(samples[0], dtype=np.float64)))
    start = int(np.argmax(energy[length:] - energy[:-length]))
    return samples[:, start : start + length]
