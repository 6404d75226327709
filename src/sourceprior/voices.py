"""Two sources of one label, told apart by the kinds of that label which the prior knows.

`-s speech -s speech` gives two sources the same prior, and nothing but chance says which of them a syllable belongs to.
A prior may know parts of a label, such as child speech or a group of voices that sound alike. Every assignment of
different parts is judged by what the parts' denoisers find in the mixture: together they should find all of it, once.
The best few are tried by a short run, and the one whose stems its priors would change least is taken; if none explains
the mixture nearly as well as the label itself does, the label stays.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from sourceprior.candidates import inconsistency
from sourceprior.initial import noise, standard_normal
from sourceprior.mixture import Mixture
from sourceprior.priors import Source
from sourceprior.schedules import karras
from sourceprior.solvers.posterior_mean import posterior_mean

STEPS, FIRST, LAST = 6, 4.0, 0.1
"""Of the short run: noise levels, from and to in units of the sources' level."""
PATIENCE = 1.5
"""How much more than with the whole label the priors may want to change the stems."""
LOOKS = (1.0,)
"""Noise levels at which the parts look at the mixture, in units of the sources' level."""
TRIED = 3
"""Assignments that get a short run."""
MOST = 5000
"""Assignments that are judged at all: many sources of one label are told apart by its first parts only."""


def assignments(sources: Sequence[Source]) -> list[list[Source]]:
    """The sources themselves, then every way to give those of one label different parts of it, in one order only."""
    groups: dict[tuple[int, int], list[int]] = {}
    for k, source in enumerate(sources):
        groups.setdefault((id(source.prior), source.index), []).append(k)
    choices = []
    for members in groups.values():
        prior, index = sources[members[0]].prior, sources[members[0]].index
        parts = prior.config.get("parts", {}).get(prior.labels[index], [])
        while math.comb(len(parts), len(members)) > MOST:
            parts = parts[:-1]
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
def shortlist(
    tried: Sequence[Sequence[Source]], problem: Callable[[Sequence[Source]], Mixture], level: float, seed: int
) -> list[int]:
    """Which `TRIED` assignments leave least of the mixture unexplained, best first.

    Every part looks at the mixture once per noise level, as D_k(y + sigma z): it returns what it takes for its own. Of
    an assignment, ||y - sum_k D_k||^2 counts what nobody claims and what two claim; it needs the products of the D_k
    only, so that hundreds of assignments cost as much as their parts.
    """
    if len(tried) <= TRIED:
        return list(range(len(tried)))
    rows = {(id(source.prior), source.index): source for trial in tried for source in trial}
    place = {key: i for i, key in enumerate(rows)}
    mixture = problem(list(rows.values()))
    generator = torch.Generator().manual_seed(seed)
    left = torch.zeros(len(tried), dtype=torch.float64)
    for look in LOOKS:
        z = standard_normal((1, mixture.y.shape[-1]), [generator], mixture.y)
        x = (mixture.y[:, None] + look * level * z).expand(1, len(rows), -1)
        found = mixture.denoise(x, look * level)[0].double()
        products = (found @ found.T).cpu()
        with_mixture = (found @ mixture.y[0].double()).cpu()
        for i, trial in enumerate(tried):
            chosen = torch.tensor([place[id(source.prior), source.index] for source in trial])
            left[i] += products[chosen][:, chosen].sum() - 2 * with_mixture[chosen].sum()
    return left.argsort()[:TRIED].tolist()


@torch.no_grad()
def tell_apart(
    sources: Sequence[Source], problem: Callable[[Sequence[Source]], Mixture], level: float, seed: int = 0
) -> list[Source]:
    """The sources, those of one label as different parts of it where that explains the mixture.

    Args:
        problem: makes the mixture `(1, N)` with the joint denoiser of given sources.
        level: RMS of a typical source.
        seed: of the noise, the same for all assignments.
    """
    whole, *tried = assignments(sources)
    if not tried:
        return whole
    tried = [whole, *(tried[i] for i in shortlist(tried, problem, level, seed))]
    scores = [score(problem(trial), level, seed) for trial in tried]
    best = min(range(1, len(tried)), key=scores.__getitem__)
    return tried[best] if scores[best] <= PATIENCE * scores[0] else whole


def score(mixture: Mixture, level: float, seed: int) -> float:
    """How much the priors would change the stems of a short run, `candidates.inconsistency`."""
    sigmas = karras(STEPS, LAST * level, FIRST * level)
    generators = [torch.Generator().manual_seed(seed)]
    start = noise(mixture, float(sigmas[0]), generators)
    stems: Tensor = posterior_mean(mixture, sigmas, start, generators=generators)
    return float(inconsistency(mixture, stems)[0])
