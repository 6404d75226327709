"""Ways to separate that can be evaluated: every solver on the priors, and baselines learned from the train clips."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sourceprior.baselines import nmf, wiener
from sourceprior.datasets import Clip
from sourceprior.evaluation import Separator
from sourceprior.labels import find
from sourceprior.library import PriorLike, load_priors
from sourceprior.mixtures import check_rate
from sourceprior.priors import SourcePrior
from sourceprior.sampling import Settings, find_device, solve

BASELINES = ("unprocessed", "wiener", "nmf")
"""Names beside those of the solvers."""


def with_priors(priors: Sequence[PriorLike] | None = None, **options: Any) -> Separator:
    """`separate` with these priors (None: the bundled ones) and options, priors loaded once."""
    from sourceprior.separation import separate

    loaded = load_priors(priors)

    def run(mixture: np.ndarray, sample_rate: int, labels: Sequence[str], seed: int) -> np.ndarray:
        result = separate(mixture, sample_rate, labels, prior=loaded, seed=seed, **options)
        return np.stack(list(result.stems.values()))

    return run


def solving(priors: Sequence[SourcePrior], settings: Settings, device: str = "auto") -> Separator:
    """The solver alone, at the priors' rate: `sampling.solve`, without what `separate` does for files and reports."""
    place = find_device(device)

    def run(mixture: np.ndarray, sample_rate: int, labels: Sequence[str], seed: int) -> np.ndarray:
        sources = find(labels, priors)
        check_rate(sample_rate, sources[0].prior.sample_rate)
        return solve(torch.from_numpy(mixture), sources, settings, seed=seed, device=place)[0].numpy()

    return run


def baseline(
    name: str,
    clips: Sequence[Clip],
    labels: Sequence[str],
    *,
    dictionary: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    bad: MutableMapping[str, str] | None = None,
) -> Separator:
    """A baseline of `BASELINES`, learned from train clips for these labels.

    Args:
        dictionary: NMF only: a file that dictionaries are read from and kept in; what it lacks is learned.
        bad: takes path and reason of the clips that it leaves out, unreadable or silent ones.

    Raises NothingToLearn, a UserError, for a label without a clip that can be used; UserError for a file of something
    else or of other clips.
    """
    if name == "unprocessed":
        return lambda mixture, _rate, labels, _seed: np.stack([mixture] * len(labels))
    if name == "wiener":
        return _cut(
            wiener.learn(clips, labels, bad=bad), lambda mixture, own: wiener.separate(mixture, torch.stack(own))
        )
    known = nmf.load(dictionary, clips) if dictionary and dictionary.exists() else {}
    if missing := [label for label in labels if label not in known]:
        known |= nmf.learn(clips, missing, progress=progress, bad=bad)
        if dictionary:
            nmf.save(known, dictionary, clips)
    return _cut(known, nmf.separate)


def _cut(known: Mapping[str, torch.Tensor], separate: Callable[[torch.Tensor, list], torch.Tensor]) -> Separator:
    def run(mixture: np.ndarray, sample_rate: int, labels: Sequence[str], _seed: int) -> np.ndarray:
        check_rate(sample_rate, nmf.RATE)
        with torch.inference_mode():
            return separate(torch.from_numpy(mixture), [known[label] for label in labels]).numpy()

    return run
