"""Names of sources as people write them, and the priors that know them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import count

from sourceprior.errors import UnknownLabel, UserError, nearest
from sourceprior.priors import Source, SourcePrior

ANYTHING = "anything"
"""The label of a sound prior that stands for any sound."""

RESERVED = ("residual", "mixture")
"""What a separation has beside its stems: no stem is called that."""

ALIASES = {
    "dog": "Bark",
    "dog_bark": "Bark",
    "voice": "speech",
    "talking": "speech",
    "guitar": "Acoustic_guitar",
    "violin": "Violin_or_fiddle",
    "fiddle": "Violin_or_fiddle",
    "sax": "Saxophone",
    "bird": "birds",
    "fire": "crackling_fire",
    "baby": "crying_baby",
    "baby_crying": "crying_baby",
    "clock": "clock_tick",
    "waves": "sea_waves",
    "gunshot": "Gunshot_or_gunfire",
    "clapping": "Hand_clap",
    "typing": "Computer_keyboard",
    "keyboard": "Computer_keyboard",
    "broken_glass": "Shatter",
    "any": ANYTHING,
    "other": ANYTHING,
}
"""Other names for labels of the bundled priors; a label of a prior goes before an alias of the same name."""


def folded(name: str) -> str:
    """The name without what does not tell labels apart: case, spaces, hyphens, underscores."""
    return "".join(letter for letter in name.casefold() if letter not in " -_\t")


def meant_by(name: str) -> set[str]:
    """The name and the label it is an alias of, folded."""
    return {folded(name), *(folded(label) for alias, label in ALIASES.items() if folded(alias) == folded(name))}


def match(name: str, labels: Iterable[str]) -> str:
    """The one of `labels` that a person means by `name`.

    Raises UnknownLabel, with the nearest names, if there is none.
    """
    labels = list(labels)
    by_folded = {folded(label): label for label in labels}
    for alias, label in ALIASES.items():
        if label in labels:
            by_folded.setdefault(folded(alias), label)
    try:
        return by_folded[folded(name)]
    except KeyError:
        # Several spellings may lead to one label: name each label once.
        close = (by_folded[known] for known in nearest(folded(name), by_folded))
        raise UnknownLabel(name, list(dict.fromkeys(close))) from None


def find(names: Sequence[str], priors: Sequence[SourcePrior]) -> list[Source]:
    """The sources a person asks for, in their order: of several priors that know a label the first one.

    Raises UserError for no names or labels that no prior knows.
    """
    if not names:
        raise UserError("Name at least one source, for example speech.")
    known = {label: prior for prior in reversed(priors) for label in prior.labels}
    labels = [match(name, known) for name in names]
    return [
        Source(known[label], known[label].index(label), name)
        for label, name in zip(labels, stem_names(names), strict=True)
    ]


def stem_names(names: Sequence[str]) -> list[str]:
    """One name per stem: as it was asked for, and numbered where a name comes more than once or is one of RESERVED.

    Numbers that would make a name another source has are left out, so that all names differ, and the names of files
    made of them, too.
    """
    keys, spelt = [_bare(name) for name in names], [folded(name) for name in names]
    total = Counter(keys)
    alone = {key for key in keys if total[key] == 1 and key not in RESERVED}
    taken, found = {*RESERVED, *alone}, []
    for key, own in zip(keys, spelt, strict=True):
        name = names[spelt.index(own)].strip()
        if key not in alone:
            name = next(numbered for i in count(1) if _bare(numbered := f"{name}_{i}") not in taken)
            taken.add(_bare(name))
        found.append(name)
    return found


def _bare(name: str) -> str:
    """The name without what names of files, on any system, may not tell apart, or the eye hardly does."""
    return re.sub(r"[\s/\\_-]", "", name.casefold())
