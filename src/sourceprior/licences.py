"""What the licences of clips allow, and with them the weights that were trained on those clips.

One function, `kind_of`, judges a licence; which clips `--licence commercial` trains on and what a prior's card says
both follow from it. It is as careful as a person who sells something: what it does not know to be free is not.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

NOT_STATED = "not stated"
"""Licence of clips that nobody has named one for."""
FREE = re.compile(
    r"cc 0|pdm|public domain|creative commons (0|zero)|cc zero|publicdomain (zero|mark)|own"
    r"|cc by|licenses by|(creative commons )?attribution|mit|apache|bsd"
)
"""How licences begin, as `_words` writes them, that allow every use if nothing but FURTHER follows."""
ANONYMOUS = re.compile(r"cc 0|pdm|public domain|creative commons (0|zero)|cc zero|publicdomain (zero|mark)|own")
"""Those of them that do not ask for the author's name."""
FURTHER = {
    "international", "universal", "unported", "generic", "license", "licence", "version", "v", "dedication", "mark",
    "creative", "commons", "public", "domain", "cc", "by", "attribution", "mit", "clause", "recording", "recordings",
    "at", "au", "de", "igo", "nl", "uk", "us",
}  # fmt: skip
"""Words that add no restriction, beside numbers; whatever else follows might be one. The last line: whose law it is."""


def _words(licence: str) -> str:
    """A licence's name or the address of its text as plain words: "cc by 4 0", "licenses by nc 3 0"."""
    text = re.sub(r"^\s*(https?://)?(www\.)?creativecommons\.org/", "", licence.casefold())
    text = re.sub(r"/(deed|legalcode)(\.[a-z_-]+)?\s*$", "", text)
    text = re.sub(r"non[\s_-]*commercial", "nc", text)
    return " ".join(re.findall(r"[^\W\d_]+|\d+", text))


def kind_of(licence: str) -> str:
    """What a clip's licence allows: "any" use, "non-commercial" use, or "unknown"."""
    text = _words(licence)
    if "nc" in text.split() or text.startswith("freeware"):
        return "non-commercial"
    # Several licences at once: each has to be kept.
    return "any" if all(map(_free, re.split(r" (?:and|or) ", text))) else "unknown"


def _free(text: str) -> bool:
    """Whether words begin as a licence that allows every use does, and name no condition after it."""
    begins = re.match(rf"({FREE.pattern})\b", text)
    return begins is not None and all(word.isdigit() or word in FURTHER for word in text[begins.end() :].split())


def commercial(licence: str) -> bool:
    """Whether clips of a licence are trained on under ``--licence commercial``: CC0, CC-BY, MIT, public domain, own."""
    return kind_of(licence) == "any"


def named(licence: str) -> bool:
    """Whether a licence of the kind "any" asks for the author's name."""
    return not all(re.match(rf"({ANONYMOUS.pattern})\b", part) for part in re.split(r" and ", _words(licence)))


def use_of(licences: Mapping[str, int]) -> str:
    """What may be done with weights that were trained on clips, from the number of clips per licence."""
    kinds = Counter[str]()
    for licence, clips in licences.items():
        kinds[kind_of(licence)] += clips
    total, reasons = sum(kinds.values()), []
    if kinds["unknown"]:
        reasons.append(
            f"ask the authors, as the licence of {kinds['unknown']} of {total} clips is unknown or restricted"
        )
    if kinds["non-commercial"]:
        reasons.append(f"no commercial use, as {kinds['non-commercial']} of {total} clips forbid it")
    if reasons or not total:
        return "; ".join(reasons) or "the licences of its clips are not known"
    return "any use, commercial use included" + ("; name the authors" if any(map(named, licences)) else "")


def licences_of(config: Mapping[str, Any], label: str | None = None) -> dict[str, int]:
    """Clips per licence that a prior was trained on, or, for a learned label, those it learned from.

    Its own clips, those that were shown to it as other sources, and all of the prior that its training started from.
    """
    if label in config.get("learned", {}):
        return dict(config["learned"][label].get("licences", {}))
    training = config.get("training", {})
    data = training.get("data", {})
    found = Counter[str]()
    for part in (data.get("clips per licence"), data.get("negatives per licence"), training.get("init licences")):
        found.update(part or {})
    return dict(found)


def use_of_label(config: Mapping[str, Any], label: str) -> str:
    """What may be done with a label of a prior; a learned one rests on the weights it was learned on top of."""
    licences = Counter(licences_of(config))
    if label in config.get("learned", {}):
        licences.update(licences_of(config, label))
        licences.update(config["learned"][label].get("licences of others", {}))
    return use_of(licences)


def licence_of_weights(licences: Mapping[str, int], before: str = "") -> str:
    """SPDX expression for weights trained on clips of these licences, on top of weights under ``before``.

    CC0 where no clip asks for more, CC-BY-4.0 where some ask for their authors' names; clips that allow less add their
    own licence. What was trained on one's own recordings alone is for their owner to license.
    """
    found = [before] if before else []
    free = [licence for licence in licences if kind_of(licence) == "any"]
    if any(map(named, free)):
        found.append("CC-BY-4.0")
    elif any(_words(licence).startswith("own") for licence in free):
        found.append("LicenseRef-own")
    elif free and not before:
        found.append("CC0-1.0")
    found += [spdx(licence) for licence in sorted(licences) if kind_of(licence) != "any"]
    return " AND ".join(dict.fromkeys(part for name in found for part in name.split(" AND "))) or spdx(NOT_STATED)


def licence_of_all(config: Mapping[str, Any]) -> str:
    """SPDX expression of a prior that has learned: of its weights, and of the clips that ask for more than CC0 does."""
    found = [config["base_licence"]]
    for label in config["learned"]:
        licences = [*licences_of(config, label), *config["learned"][label].get("licences of others", {})]
        if any(kind_of(licence) == "any" and named(licence) for licence in licences):
            found.append("CC-BY-4.0")
        found += [spdx(licence) for licence in licences if kind_of(licence) != "any"]
    return " AND ".join(dict.fromkeys(part for name in found for part in name.split(" AND ")))


def spdx(licence: str) -> str:
    """A licence as SPDX writes it: its name where it is one of Creative Commons', else a LicenseRef."""
    if re.fullmatch(r"CC-BY[A-Z-]*-\d\.\d", licence):
        return licence
    return "LicenseRef-" + (re.sub(r"[^A-Za-z0-9.]+", "-", licence).strip("-") or NOT_STATED.replace(" ", "-"))


def hub_name(licence: str) -> str:
    """A licence as the front matter of a model card names it."""
    return licence.lower() if re.fullmatch(r"(CC|MIT|Apache)[A-Za-z0-9.-]*", licence) else "other"
