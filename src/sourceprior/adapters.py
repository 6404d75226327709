"""Priors that have learned further sources: made from a prior, merged, renamed and taken apart again.

Such a prior holds all it was made from, unchanged, and after it one `LearnedClass` and one average spectrum per learned
source, so that it is a prior like any other. Its config has ``learned``: what is known of each, by name, in the order
of the labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from sourceprior.cards import with_learned
from sourceprior.denoisers import SpectralDenoiser
from sourceprior.errors import UserError, alternatives, nearest
from sourceprior.labels import RESERVED, folded
from sourceprior.licences import licence_of_all
from sourceprior.networks.adapted import AdaptedNetwork, LearnedClass
from sourceprior.priors import SourcePrior

NETWORK = "adapted.AdaptedNetwork"


@dataclass(frozen=True)
class Learned:
    """One learned source.

    Attributes:
        name: its label.
        options: what its `LearnedClass` is made with.
        state: the weights of that.
        spectrum: average power per STFT bin, (513,).
        record: what is told of it: clips, licences, figures.
    """

    name: str
    options: dict[str, Any]
    state: dict[str, Tensor]
    spectrum: Tensor
    record: dict[str, Any]


def learned_of(prior: SourcePrior) -> list[Learned]:
    """The sources a prior has learned, in the order of its labels; none for one that was trained only."""
    records = prior.config.get("learned", {})
    if not records:
        return []
    network: Any = prior.denoiser.network
    average: Any = prior.denoiser.average
    first = len(prior.labels) - len(records)
    return [
        Learned(name, options, dict(module.state_dict()), average[first + i], record)
        for i, (module, options, (name, record)) in enumerate(
            zip(network.learned, network.config["learned"], records.items(), strict=True)
        )
    ]


def base_of(prior: SourcePrior) -> tuple[dict[str, Any], dict[str, Tensor], Tensor, tuple[str, ...]]:
    """What a prior was before it learned: its network's config and weights, spectra (classes, 513), labels."""
    records = prior.config.get("learned", {})
    known = len(prior.labels) - len(records)
    network: Any = prior.denoiser.network
    average = prior.denoiser.average[:known]  # type: ignore[index]
    if records:
        return network.config["base"], network.base.state_dict(), average, prior.labels[:known]
    return prior.config["network"], network.state_dict(), average, prior.labels


def with_sources(prior: SourcePrior, learned: Sequence[Learned]) -> SourcePrior:
    """What a prior was before it learned, with these sources; nothing is shared with it."""
    config, weights, average, labels = base_of(prior)
    network = AdaptedNetwork(config, [dict(item.options) for item in learned])
    network.base.load_state_dict(weights)
    for module, item in zip(network.learned, learned, strict=True):
        module.load_state_dict(item.state)
    spectra = torch.cat([average, *(item.spectrum[None] for item in learned)]).clone()
    denoiser = SpectralDenoiser(network, spectra, prior.level).to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    records = {item.name: item.record for item in learned}
    own = prior.config.get("base_name", prior.name)
    names = ", ".join(records) if len(records) < 4 else f"{len(records)} learned"
    made = prior.config | {
        "name": f"{own} + {names}", "base_name": own, "learned": records,
        "network": {"class": NETWORK, "options": network.config},
        "base_licence": prior.config.get("base_licence", prior.licence),
    }  # fmt: skip
    made["licence"] = licence_of_all(made)
    return SourcePrior(
        name=made["name"], denoiser=denoiser, labels=(*labels, *records), sample_rate=prior.sample_rate,
        level=prior.level, licence=made["licence"], config=made, card=with_learned(prior.card, made), clips=prior.clips,
    )  # fmt: skip


def extend(prior: SourcePrior, item: Learned) -> SourcePrior:
    """A prior that knows one source more. Raises UserError for a name that it has, or that cannot be one."""
    check_name(item.name, prior.labels)
    return with_sources(prior, [*learned_of(prior), item])


def base_network(prior: SourcePrior) -> nn.Module:
    """The network itself of a prior, without what it has learned."""
    network: Any = prior.denoiser.network
    return network.base if prior.config.get("learned") else network


def new_class(
    prior: SourcePrior, rank: int, biases: bool, embedding: Tensor, seed: int
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Options and weights of a class that has not learned yet: an embedding (condition,) and no other change."""
    options: dict[str, Any] = {"rank": rank, "biases": biases}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = LearnedClass(base_network(prior), **options)
    return options, dict(made.state_dict()) | {"embedding": embedding.clone()}


def merge(priors: Sequence[SourcePrior]) -> SourcePrior:
    """One prior with all that several have learned from the same one.

    Raises UserError if they were made from different ones, or two have a source of the same name.
    """
    first = priors[0]
    found: list[Learned] = []
    _, weights, average, labels = base_of(first)
    for prior in priors:
        _, other, spectra, names = base_of(prior)
        same = names == labels and other.keys() == weights.keys() and torch.equal(spectra, average)
        # In the precision of a file: one of them may not have been written yet.
        if not (same and all(torch.equal(other[name].half(), weights[name].half()) for name in weights)):
            raise UserError(
                f"'{first.name}' and '{prior.name}' were learned from different priors and cannot be merged: name both "
                "with --prior when you separate."
            )
        for item in learned_of(prior):
            check_name(item.name, [*labels, *(known.name for known in found)])
            found.append(item)
    if not found:
        raise UserError("None of these priors has learned a source: there is nothing to merge.")
    return with_sources(first, found)


def rename(prior: SourcePrior, old: str, new: str) -> SourcePrior:
    """The prior with a learned source under another name. Raises UserError for names that do not allow it."""
    item = find_learned(prior, old)
    check_name(new, [label for label in prior.labels if label != item.name])
    return with_sources(prior, [replace(i, name=new) if i.name == item.name else i for i in learned_of(prior)])


def remove(prior: SourcePrior, name: str) -> SourcePrior:
    """The prior without a learned source. Raises UserError if it has not learned it, or nothing else."""
    item = find_learned(prior, name)
    rest = [other for other in learned_of(prior) if other.name != item.name]
    if not rest:
        raise UserError(f"'{item.name}' is all that this prior has learned: delete its folder instead.")
    return with_sources(prior, rest)


def find_learned(prior: SourcePrior, name: str) -> Learned:
    """The learned source of that name, spelt freely. Raises UserError if there is none."""
    known = {folded(item.name): item for item in learned_of(prior)}
    if folded(name) in known:
        return known[folded(name)]
    if not known:
        raise UserError(f"'{prior.name}' has learned nothing: only learned sources can be renamed or removed.")
    close = nearest(folded(name), known) or list(known)
    raise UserError(f"No learned source is called '{name}'; there is {alternatives([known[c].name for c in close])}.")


def check_name(name: str, known: Sequence[str]) -> None:
    """Raise UserError for a name that cannot be a label, or means one of the known ones."""
    odd = set(name) & set("/\\,[]$") or not name.isprintable() or name != name.strip()
    if odd or not folded(name) or len(name) > 64:
        raise UserError(f"'{name}' cannot be the name of a source: use letters, digits and underscores.")
    if folded(name) in RESERVED:
        raise UserError(f"'{name}' cannot be the name of a source: a separation has one anyway; choose another name.")
    for label in known:
        if folded(label) == folded(name):
            raise UserError(f"The prior knows '{label}' already: choose another name, for example my_{name}.")
