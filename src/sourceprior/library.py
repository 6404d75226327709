"""Which priors a call uses: the bundled ones, folders, hub names, or objects the caller already holds."""

from __future__ import annotations

import os
from collections.abc import Iterable

from sourceprior.priors import SourcePrior, bundled

PriorLike = str | os.PathLike[str] | SourcePrior


def load_priors(prior: PriorLike | Iterable[PriorLike] | None = None) -> list[SourcePrior]:
    """Load priors from folders or hub names; priors that are loaded already are taken as they are.

    None means the bundled ones. What was learned on top of a prior (`adapters.py`) is there to be used beside what is
    known already: the bundled priors follow it, but for one whose labels it all has.

    Raises UserError where one cannot be loaded.
    """
    if prior is None:
        return list(bundled())
    if isinstance(prior, (str, os.PathLike)) or not isinstance(prior, Iterable):
        given = [_load(prior)]
    else:
        given = [_load(item) for item in prior]
    learned = [item for item in given if item.config.get("learned")]
    if not learned:
        return given
    known = {label for item in given for label in item.labels}
    return given + [
        item for item in bundled() if not known.issuperset(item.labels) and item.sample_rate == learned[0].sample_rate
    ]


def _load(item: PriorLike) -> SourcePrior:
    return SourcePrior.from_pretrained(os.fspath(item)) if isinstance(item, (str, os.PathLike)) else item
