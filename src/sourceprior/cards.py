"""The model card of a prior, written from its config: nothing in it is typed by hand."""

from __future__ import annotations

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

Weights: {licence}, commercial use included. They were trained on clips whose licence allows it; the credits that some
of those licences ask for are in ATTRIBUTION.md beside the priors.

## Training

| | |
|---|---|
| data | {clips} clips, {hours} h, split train |
| licences (clips) | {licences} |
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


def card(config: dict[str, Any], labels: int) -> str:
    """Markdown for a model hub, from a prior's config (``training`` with its ``data`` and ``figures``)."""
    training = config["training"]
    data, figures = training["data"], training["figures"]
    licences = ", ".join(f"{licence} ({clips})" for licence, clips in data["clips per licence"].items())
    text = TEXT.format(
        name=config["name"], spdx=config["licence"].lower(), licence=config["licence"], rate=config["sample_rate"],
        clips=data["clips"], hours=data["hours"], licences=licences, labels=labels, network=config["network"]["class"],
        init=training["init"] or "new weights", parameters=training["parameters"] / 1e6,
        **{key: training[key] for key in PLAIN},
    )  # fmt: skip
    if figures:
        text += DENOISING + "| | " + " | ".join(f"sigma = {ratio:g}" for ratio in RATIOS) + " |\n"
        text += "|---" * (len(RATIOS) + 1) + "|\n"
        for case in dict.fromkeys(key.split(" @")[0] for key in figures):
            text += f"| {case} | " + " | ".join(f"{figures[f'{case} @{ratio:g}']:.1f}" for ratio in RATIOS) + " |\n"
    return text
