"""What surrounds a training run: the labels it covers, what it starts from, and the prior it leaves behind."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from sourceprior.cards import card
from sourceprior.datasets import SPEECH, SPOKEN, VOICE_GROUP, VOICES, Clip
from sourceprior.denoisers import SpectralDenoiser
from sourceprior.errors import UserError
from sourceprior.examples import NULL
from sourceprior.networks.conv_unet import ConvUNet
from sourceprior.priors import SourcePrior
from sourceprior.training import LEVEL, Trainer


def labels_of(sources: str, known: Sequence[str], groups: Sequence[str] = ()) -> tuple[str, ...]:
    """Rows of a prior for "speech", "sounds" or "all"; the null label comes first where there are sounds.

    ``groups`` are labels of voices that sound alike, beside the kinds of voice among ``known``.

    Raises UserError if the clips have none of them.
    """
    voices = [label for label in known if label in VOICES]
    speech = [SPEECH, *voices, *groups] if voices or SPEECH in known else []
    sounds = [label for label in known if label not in SPOKEN]
    labels = {"speech": speech, "sounds": [NULL, *sounds], "all": [NULL, *speech, *sounds]}[sources]
    if not set(labels) - {NULL}:
        raise UserError(f"The manifest has no clips of {sources} with a licence that was asked for.")
    return tuple(labels)


def start_from(folder: Path, labels: Sequence[str]) -> SpectralDenoiser:
    """The denoiser of an existing prior with its rows picked for ``labels``; a kind of voice may start from speech.

    Raises UserError when the prior does not know one of them.
    """
    prior = SourcePrior.from_pretrained(folder)
    missing = [label for label in labels if known_as(label, prior.labels) not in prior.labels]
    if missing:
        raise UserError(f"The prior '{folder}' does not know {', '.join(missing[:3])}: start without --init.")
    return pick(prior, labels)


def known_as(label: str, labels: Sequence[str]) -> str:
    """The label itself, or "speech" for a kind or group of voices that ``labels`` lack."""
    return SPEECH if is_voice(label) and label not in labels else label


def is_voice(label: str) -> bool:
    """Whether a label is a part of "speech"."""
    return label in VOICES or label.startswith(VOICE_GROUP)


def ancestry(folder: Path) -> str:
    """One line on how the prior that a run started from was trained."""
    training = SourcePrior.from_pretrained(folder).config["training"]
    before = f", itself from {training['init']}" if training["init"] else ""
    return (
        f"a prior of {training['data']['sources']} sources, {training['steps']} steps of {training['batch']} examples, "
        f"{training['minutes']:g} minutes (`{training['command']}`){before}"
    )


def pick(prior: SourcePrior, labels: Sequence[str]) -> SpectralDenoiser:
    """A copy of a prior's denoiser that has the rows of ``labels`` only, in that order."""
    rows = torch.tensor([prior.index(known_as(label, prior.labels)) for label in labels])
    state = dict(prior.denoiser.state_dict())
    state["average"] = state["average"][rows]
    state["network.class_embedding.weight"] = state["network.class_embedding.weight"][rows]
    network = ConvUNet(**prior.config["network"]["options"] | {"classes": len(labels)})
    denoiser = SpectralDenoiser(network, state["average"], prior.level)
    denoiser.load_state_dict(state)
    return denoiser.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def describe(data: Path, licence: str, clips: Sequence[Clip], sources: str) -> dict[str, Any]:
    """What the prior's card says of its data: hours and clips per licence, of its own sources."""
    own = [clip for clip in clips if sources == "all" or (clip.label in SPOKEN) == (sources == "speech")]
    count = Counter(clip.licence for clip in own)
    return {
        "sources": sources, "licence filter": licence, "clips": len(own),
        "hours": round(sum(clip.seconds for clip in own) / 3600, 2),
        "clips per licence": dict(sorted(count.items())),
    }  # fmt: skip


def finish(
    trainer: Trainer, folder: Path, data: dict[str, Any], figures: dict[str, float] | None = None, init: str = ""
) -> SourcePrior:
    """Write the averaged weights of a run as a prior, with its card."""
    settings, denoiser = trainer.settings, trainer.averaged()
    config = {
        "name": data["sources"], "sample_rate": trainer.bank.sample_rate, "licence": "CC-BY-4.0",
        "denoiser": {"class": "denoisers.SpectralDenoiser"},
        "network": {"class": "conv_unet.ConvUNet", "options": denoiser.network.config},
        "training": {
            "data": data, "steps": trainer.step, "minutes": round(trainer.elapsed / 60, 1), "batch": settings.batch,
            "seconds": settings.seconds, "negatives": settings.negatives, "rate": settings.rate, "seed": settings.seed,
            "parameters": sum(p.numel() for p in denoiser.parameters()), "init": init,
            "machine": f"{os.cpu_count()} cores" if trainer.device.type == "cpu" else torch.cuda.get_device_name(),
            "torch": torch.__version__, "command": " ".join(["sourceprior", *sys.argv[1:]]),
            "figures": {name: round(value, 2) for name, value in (figures or {}).items()},
        },
    }  # fmt: skip
    voices = [label for label in settings.labels if is_voice(label)]
    if voices and SPEECH in settings.labels:
        config["parts"] = {SPEECH: voices}
    prior = SourcePrior(
        name=config["name"], denoiser=denoiser, labels=tuple(settings.labels), sample_rate=config["sample_rate"],
        level=LEVEL, licence=config["licence"], config=config, card=card(config, len(settings.labels)),
    )  # fmt: skip
    prior.save_pretrained(folder)
    return prior
