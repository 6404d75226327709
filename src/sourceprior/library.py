"""Which priors a call uses: the bundled ones, folders, hub names, or objects the caller already holds."""

from __future__ import annotations

import os
from collections.abc import Iterable

from sourceprior.priors import SourcePrior, bundled

PriorLike = str | os.PathLike[str] | SourcePrior


def load_priors(prior: PriorLike | Iterable[PriorLike] | None = None) -> list[SourcePrior]:
    """Load priors from folders or hub names; priors that are loaded already are taken as they are.

    None means the bundled ones. Raises UserError where one cannot be loaded.
    """
    if prior is None:
        return list(bundled())
    if isinstance(prior, (str, os.PathLike)) or not isinstance(prior, Iterable):
        return [_load(prior)]
    return [_load(item) for item in prior]


def _load(item: PriorLike) -> SourcePrior:
    return SourcePrior.from_pretrained(os.fspath(item)) if isinstance(item, (str, os.PathLike)) else item
