"""Two sources of one label, told apart by the kinds of that label which the prior knows.

`-s speech -s speech` gives two sources the same prior, and nothing but chance says which of them a syllable belongs to.
A prior may know parts of a label, such as child speech or a group of voices that sound alike. Every assignment of
different parts is judged by what the parts' denoisers find in the mixture: together they should find all of it, once.
The best one is taken if it explains the mixture better than one part less does. Else the voices sound alike, parts
would cut them along the frequencies, and the label stays.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from sourceprior.initial import standard_normal
from sourceprior.mixture import Mixture
from sourceprior.priors import Source

LOOK = 1.0
"""Noise level at which the parts look at the mixture, in units of the sources' level."""
WORTH = 0.95
"""An assignment must leave less than this share of what one part less leaves, see docs/experiments.md."""
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
def tell_apart(
    sources: Sequence[Source], problem: Callable[[Sequence[Source]], Mixture], level: float, seed: int = 0
) -> list[Source]:
    """The sources, those of one label as different parts of it where that explains the mixture.

    Every part looks at the mixture once, as D_k(y + sigma z): it returns what it takes for its own. An assignment
    leaves ||y - sum_k D_k||^2, what nobody claims and what two claim. That needs the products of the D_k only, so that
    hundreds of assignments cost as much as their parts.

    Args:
        problem: makes the mixture `(1, N)` with the joint denoiser of given sources.
        level: RMS of a typical source.
        seed: of the noise.
    """
    whole, *tried = assignments(sources)
    if not tried:
        return whole
    rows = {key(source): source for trial in tried for source in trial}
    place = {name: i for i, name in enumerate(rows)}
    mixture = problem(list(rows.values()))
    z = standard_normal((1, mixture.y.shape[-1]), [torch.Generator().manual_seed(seed)], mixture.y)
    looks = (mixture.y[:, None] + LOOK * level * z).expand(1, len(rows), -1)
    found = mixture.denoise(looks, LOOK * level)[0].cpu().double()
    y = mixture.y[0].cpu().double()
    products, with_mixture, power = found @ found.T, found @ y, float(y @ y)

    def left(trial: Sequence[Source]) -> float:
        chosen = torch.tensor([place[key(source)] for source in trial])
        return power + float(products[chosen][:, chosen].sum() - 2 * with_mixture[chosen].sum())

    best = min(tried, key=left)
    changed = [k for k, (new, old) in enumerate(zip(best, whole, strict=True)) if new.index != old.index]
    # One part less: without each of the parts in turn, of all assignments, as the best of fewer need not be among them.
    fewer = min(left([source for k, source in enumerate(trial) if k != out]) for trial in tried for out in changed)
    return best if left(best) < WORTH * fewer else whole


def key(source: Source) -> tuple[int, int]:
    """What decides a source's denoiser."""
    return id(source.prior), source.index
