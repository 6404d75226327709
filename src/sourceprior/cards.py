"""The model card of a prior, written from its config: nothing in it is typed by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sourceprior.licences import hub_name, licences_of, use_of, use_of_label
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
| data | {data}: {clips} clips, {hours} h, split train |
| licences (clips) | {licences}; of every clip: [clips.csv](clips.csv) |
| labels | {labels} |
| network | {network}, {parameters:.1f} M parameters |
| negatives | {negatives} |
| length | {steps} steps of {batch} examples of {seconds:g} s, {minutes:g} minutes |
| started from | {init} |
| machine, versions | {machine}; {versions} |
| command | `{command}` |
"""

PLAIN = ("steps", "batch", "seconds", "minutes", "machine", "command")

DENOISING = """
## Denoising on the valid split

Mean SNR in dB of the denoised signal, at noise levels in multiples of the source's RMS: high on its own sources and low
on all others, or it tells nothing apart.

"""


LEARNED = "\n## Learned sources\n"


def with_learned(base: str, config: Mapping[str, Any]) -> str:
    """The card of the prior that something was learned on top of, with a part on what was learned."""
    text = base.partition(LEARNED)[0].rstrip("\n")
    # The licence that a hub shows is that of the whole.
    head, mark, rest = text.partition("\nlicense: ")
    if mark:
        text = head + mark + hub_name(config["licence"]) + "\n" + rest.partition("\n")[2]
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
    licences = _listed(data["clips per licence"])
    if data.get("taken as own"):
        licences += ", as a folder per class states none: taken to be recordings of whoever trained on them"
    negatives = data.get("negatives from", training["negatives"])
    if training["negatives"] != "none":
        negatives += ": recordings of other sources, whose clean estimate is silence"
    if data["negatives per licence"]:
        negatives += f"; {_listed(data['negatives per licence'])}"
    text = TEXT.format(
        name=config["name"], spdx=hub_name(config["licence"]), licence=config["licence"], rate=config["sample_rate"],
        clips=data["clips"], hours=data["hours"], licences=licences, labels=labels,
        network=config["network"]["class"],
        use=use_of(licences_of(config)), init=_start(training), data=data["name"], negatives=negatives,
        versions=", ".join(f"{name} {version}" for name, version in training["versions"].items()),
        parameters=training["parameters"] / 1e6,
        **{key: training[key] for key in PLAIN},
    )  # fmt: skip
    if figures:
        text += DENOISING + "| | " + " | ".join(f"sigma = {ratio:g}" for ratio in RATIOS) + " |\n"
        text += "|---" * (len(RATIOS) + 1) + "|\n"
        for case in dict.fromkeys(key.split(" @")[0] for key in figures):
            text += f"| {case} | " + " | ".join(f"{figures[f'{case} @{ratio:g}']:.1f}" for ratio in RATIOS) + " |\n"
    return text


def _listed(licences: Mapping[str, int]) -> str:
    return ", ".join(f"{licence} ({clips})" for licence, clips in licences.items())


def _start(training: Mapping[str, Any]) -> str:
    if not training["init"]:
        return "new weights"
    return f"{training['init']}; its clips, as sources and as negatives: {_listed(training['init licences'])}"
