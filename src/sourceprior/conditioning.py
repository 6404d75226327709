"""Classifier-free guidance of a prior: how much a source's label counts (Ho and Salimans 2022).

D = D_null + scale (D_label - D_null): 1 is the label alone, 0 forgets it, more than 1 goes beyond it. The null label of
a class is the wider one it was dropped for in training: "anything" for a class of sound, "speech" for a kind of voice,
the row of "no class" of a network that has one. Solvers see a denoiser like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from sourceprior.errors import UserError
from sourceprior.labels import ANYTHING
from sourceprior.mixture import Denoise
from sourceprior.priors import Source, joint
from sourceprior.vp import classifier_free

SPEECH = "speech"


def null_of(source: Source) -> Source | None:
    """The source with the null label of its prior, or None if its label is as wide as any: there is no narrowing it.

    Raises:
        UserError: the prior tells labels apart but has none that stands for all of them.
    """
    prior, label = source.prior, source.prior.labels[source.index]
    for whole, parts in prior.config.get("parts", {}).items():
        if label in parts:
            return replace(source, index=prior.index(whole))
    # In a prior of speech and sounds "anything" is any sound: it denies speech.
    if label in (ANYTHING, SPEECH) or len(prior.labels) == 1:
        return None
    if ANYTHING in prior.labels:
        return replace(source, index=prior.index(ANYTHING))
    row = getattr(getattr(prior.denoiser, "network", None), "null_label", None)
    if row is None:
        raise UserError(f"The prior {prior.name} has no label that stands for any source: leave the label scale at 1.")
    return replace(source, index=int(row))


def guided(
    conditional: Denoise, sources: Sequence[Source], scale: float, device: torch.device | str = "cpu"
) -> Denoise:
    """The joint denoiser of `sources` with their labels exaggerated by `scale`; of scale 1 the denoiser itself.

    Sources whose label is as wide as any stay what they are.

    Raises:
        UserError: no source has a null label to be told from, or a prior lacks one.
    """
    if scale == 1:
        return conditional
    nulls = [null_of(source) for source in sources]
    members = [k for k, null in enumerate(nulls) if null is not None]
    if not members:
        names = ", ".join(dict.fromkeys(source.name for source in sources))
        raise UserError(f"A label scale needs a source with a wider label than its own, not {names}: leave it at 1.")
    unconditional = joint([null for null in nulls if null is not None], device)
    return classifier_free(conditional, unconditional, scale, members)
