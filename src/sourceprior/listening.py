"""Which of the known sources a recording could hold: each label's denoiser tried on the recording as it is."""

from __future__ import annotations

import os
from collections.abc import Iterable

import numpy as np
import torch

from sourceprior import audio
from sourceprior.confidence import confidence
from sourceprior.datasets import is_voice_group
from sourceprior.fullband import mid
from sourceprior.labels import ANYTHING
from sourceprior.library import PriorLike, load_priors
from sourceprior.pieces import loudest
from sourceprior.priors import Source
from sourceprior.sampling import find_device

LONGEST = 30.0
"""Seconds that are listened to: the loudest stretch of that length."""
AT_ONCE = 8
"""Labels that are denoised together."""


def rank(
    path: str | os.PathLike[str], prior: PriorLike | Iterable[PriorLike] | None = None, device: str = "auto"
) -> list[tuple[str, str, float]]:
    """(label, prior's name, fit) of every label but `anything` and groups of voices, the best first.

    The fit is `confidence` with the mixture for a stem: the part of it that the label's denoiser restores from noise. A
    label that is one of several sources keeps its own part and loses the rest.

    Raises UserError for a recording or a prior that cannot be used.
    """
    place, priors = find_device(device), load_priors(prior)
    recording = audio.stream(path)
    rate, seen = recording.sample_rate, audio.survey(recording)
    audio.check(seen, rate)
    signal = (piece[0] for piece in mid(recording.pieces(), seen))
    stretch = loudest(signal, round(LONGEST * rate), rate // 10)[None]
    found = []
    for item in priors:
        length = max(1, round(stretch.shape[1] * item.sample_rate / rate))
        heard = audio.resample(stretch, rate, item.sample_rate, length)
        y = torch.from_numpy(np.ascontiguousarray(heard[0])).float()
        sources = [Source(item, index, label) for index, label in enumerate(item.labels) if is_kind(label)]
        for start in range(0, len(sources), AT_ONCE):
            group = sources[start : start + AT_ONCE]
            fits = confidence(y.expand(len(group), -1), group, device=place)
            found += [(source.name, item.name, fit) for source, fit in zip(group, fits.tolist(), strict=True)]
    return sorted(found, key=lambda row: -row[2])


def is_kind(label: str) -> bool:
    """Whether a label is a kind of source: not any sound, nor one of many groups of voices."""
    return label != ANYTHING and not is_voice_group(label)
