"""The model card of a prior, written from its config: nothing in it is typed by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from sourceprior.selectivity import RATIOS

TEXT = """---
license: {spdx}
library_name: sourceprior
tags: [audio, source-separation, diffusion]
---

# sourceprior {name}

A denoiser D(x, sigma, label) of {name} at {rate} Hz: a source prior that `sourceprior separate` puts under its solvers.
It was trained on recordings of single sources; no mixture was made or seen.

## What it may be used for

Weights: {licence}. Going by the licences of the clips they were trained on: {use}. Credits are in ATTRIBUTION.md beside
the bundled priors, or beside the data.

## Training

| | |
|---|---|
| data | {clips} clips, {hours} h, split train |
| licences (clips) | {licences}; of every clip: [clips.csv](clips.csv) |
| labels | {labels} |
| network | {network}, {parameters:.1f} M parameters |
| negatives | {negatives}: recordings of other sources, whose clean estimate is silence |
| length | {steps} steps of {batch} examples of {seconds:g} s, {minutes:g} minutes |
| started from | {init} |
| machine, versions | {machine}; torch {torch} |
| command | `{command}` |
"""

PLAIN = ("negatives", "steps", "batch", "seconds", "minutes", "machine", "torch", "command")

DENOISING = """
## Denoising on the valid split

Mean SNR in dB of the denoised signal, at noise levels in multiples of the source's RMS: high on its own sources and low
on all others, or it tells nothing apart.

"""


NOT_STATED = "not stated"
"""Licence of clips that nobody has named one for."""
PERMISSIVE = ("cc0", "cc-by", "mit", "public domain", "pdm", "apache", "bsd", "own")
"""How licences begin that allow every use, if they go on with no restriction."""
ANONYMOUS = ("cc0", "public domain", "pdm", "own")
"""Those of them that do not ask for the author's name."""


def kind_of(licence: str) -> str:
    """What a clip's licence allows: "any" use, "non-commercial" use, or "unknown"."""
    words = licence.casefold().replace("_", "-").replace("cc by", "cc-by")
    if "-nc" in words or "non-commercial" in words or words.startswith("freeware"):
        return "non-commercial"
    # No derivatives, share alike, sampling: whether weights are a derivative is for the user to decide.
    bound = any(part in words for part in ("-nd", "-sa", "sampling"))
    return "any" if words.startswith(PERMISSIVE) and not bound else "unknown"


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
    named = any(not licence.casefold().startswith(ANONYMOUS) for licence in licences)
    return "any use, commercial use included" + ("; name the authors" if named else "")


def licences_of(config: Mapping[str, Any], label: str | None = None) -> dict[str, int]:
    """Clips per licence that a prior was trained on, or, for a learned label, those it learned from."""
    if label in config.get("learned", {}):
        return dict(config["learned"][label].get("licences", {}))
    return dict(config.get("training", {}).get("data", {}).get("clips per licence", {}))


def use_of_label(config: Mapping[str, Any], label: str) -> str:
    """What may be done with a label of a prior; a learned one rests on the weights it was learned on top of."""
    licences = Counter(licences_of(config))
    if label in config.get("learned", {}):
        licences.update(licences_of(config, label))
    return use_of(licences)


def licence_of_all(config: Mapping[str, Any]) -> str:
    """SPDX expression of a prior that has learned: of its weights, and of the clips that allow less than any use."""
    found = [config["base_licence"]]
    for label in config["learned"]:
        found += [licence for licence in licences_of(config, label) if kind_of(licence) != "any"]
    return " AND ".join(dict.fromkeys("LicenseRef-not-stated" if name == NOT_STATED else name for name in found))


LEARNED = "\n## Learned sources\n"


def with_learned(base: str, config: Mapping[str, Any]) -> str:
    """The card of the prior that something was learned on top of, with a part on what was learned."""
    text = base.partition(LEARNED)[0].rstrip("\n")
    # The licence that a hub shows is that of the whole.
    head, mark, rest = text.partition("\nlicense: ")
    if mark:
        spdx = config["licence"].lower() if " " not in config["licence"] else "other"
        text = head + mark + spdx + "\n" + rest.partition("\n")[2]
    text += "\n" + LEARNED + "\nBy `sourceprior learn`, on top of the above, which is unchanged.\n"
    for name, record in config["learned"].items():
        text += f"\n### {name}\n\nMay be used for: {use_of_label(config, name)}.\n"
        clips = record.get("clips", [])
        if clips:
            text += f"\n{len(clips)} clips, {sum(clip['seconds'] for clip in clips):.1f} s:\n\n"
            text += "| clip | s | licence |\n|---|---|---|\n"
            text += "".join(f"| {_cell(c['file'])} | {c['seconds']:.1f} | {_cell(c['licence'])} |\n" for c in clips)
        if "sentences" in record:
            text += "\n" + "\n".join(f"- {sentence}" for sentence in record["sentences"]) + "\n"
        if "command" in record:
            text += f"\nCommand: `{record['command']}`\n"
    return text


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "/")


def card(config: dict[str, Any], labels: int) -> str:
    """Markdown for a model hub, from a prior's config (``training`` with its ``data`` and ``figures``)."""
    training = config["training"]
    data, figures = training["data"], training["figures"]
    licences = ", ".join(f"{licence} ({clips})" for licence, clips in data["clips per licence"].items())
    text = TEXT.format(
        name=config["name"], spdx=config["licence"].lower(), licence=config["licence"], rate=config["sample_rate"],
        clips=data["clips"], hours=data["hours"], licences=licences, labels=labels, network=config["network"]["class"],
        use=use_of(data["clips per licence"]), init=training["init"] or "new weights",
        parameters=training["parameters"] / 1e6,
        **{key: training[key] for key in PLAIN},
    )  # fmt: skip
    if figures:
        text += DENOISING + "| | " + " | ".join(f"sigma = {ratio:g}" for ratio in RATIOS) + " |\n"
        text += "|---" * (len(RATIOS) + 1) + "|\n"
        for case in dict.fromkeys(key.split(" @")[0] for key in figures):
            text += f"| {case} | " + " | ".join(f"{figures[f'{case} @{ratio:g}']:.1f}" for ratio in RATIOS) + " |\n"
    return text
