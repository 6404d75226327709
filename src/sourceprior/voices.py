"""Two sources of one label, told apart by the kinds of that label which the prior knows.

`-s speech -s speech` gives two sources the same prior, and nothing but chance says which of them a syllable belongs to.
A prior may know parts of a label, such as male, female and child speech. Then every assignment of different parts is
tried by a short run, and the one whose stems its priors would change least is taken; if none explains the mixture
nearly as well as the label itself does, the label stays.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from sourceprior.candidates import inconsistency
from sourceprior.initial import noise
from sourceprior.mixture import Mixture
from sourceprior.priors import Source
from sourceprior.schedules import karras
from sourceprior.solvers.posterior_mean import posterior_mean

STEPS, FIRST, LAST = 6, 4.0, 0.1
"""Of the short run: noise levels, from and to in units of the sources' level."""
PATIENCE = 1.5
"""How much more than with the whole label the priors may want to change the stems."""


def assignments(sources: Sequence[Source]) -> list[list[Source]]:
    """The sources themselves, then every way to give those of one label different parts of it, in one order only."""
    groups: dict[tuple[int, int], list[int]] = {}
    for k, source in enumerate(sources):
        groups.setdefault((id(source.prior), source.index), []).append(k)
    choices = []
    for members in groups.values():
        prior, index = sources[members[0]].prior, sources[members[0]].index
        parts = prior.config.get("parts", {}).get(prior.labels[index], [])
        if 1 < len(members) <= len(parts):
            choices.append([(members, chosen) for chosen in itertools.combinations(parts, len(members))])
    found = [list(sources)]
    for combination in itertools.product(*choices) if choices else []:
        changed = list(sources)
        for members, chosen in combination:
            for k, label in zip(members, chosen, strict=True):
                changed[k] = replace(sources[k], index=sources[k].prior.index(label))
        found.append(changed)
    return found


@torch.no_grad()
def tell_apart(
    sources: Sequence[Source], problem: Callable[[Sequence[Source]], Mixture], level: float, seed: int = 0
) -> list[Source]:
    """The sources, those of one label as different parts of it where that explains the mixture.

    Args:
        problem: makes the mixture `(1, N)` with the joint denoiser of given sources.
        level: RMS of a typical source.
        seed: of the short runs' noise, the same for all assignments.
    """
    tried = assignments(sources)
    if len(tried) == 1:
        return list(sources)
    scores = []
    for trial in tried:
        mixture = problem(trial)
        sigmas = karras(STEPS, LAST * level, FIRST * level)
        generators = [torch.Generator().manual_seed(seed)]
        start = noise(mixture, float(sigmas[0]), generators)
        stems = posterior_mean(mixture, sigmas, start, generators=generators)
        scores.append(float(inconsistency(mixture, stems)[0]))
    best = min(range(1, len(tried)), key=scores.__getitem__)
    return tried[best] if scores[best] <= PATIENCE * scores[0] else tried[0]
