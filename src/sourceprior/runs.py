"""What surrounds a training run: the labels it covers, what it starts from, and the prior it leaves behind."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import platform
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from sourceprior.cards import card
from sourceprior.datasets import SPEECH, SPOKEN, VOICES, Clip, is_voice_group
from sourceprior.errors import UserError
from sourceprior.examples import NULL
from sourceprior.licences import licence_of_weights, licences_of
from sourceprior.objectives import predicts_noise
from sourceprior.priors import BUNDLED, CONFIG, SourcePrior, build
from sourceprior.shards import Tally, is_address
from sourceprior.stem_files import printable
from sourceprior.training import LEVEL, Settings, Trainer
from sourceprior.version import __version__


def labels_of(sources: str, known: Sequence[str], groups: Sequence[str] = ()) -> tuple[str, ...]:
    """Rows of a prior for "speech", "sounds" or "all"; the null label comes first where there are sounds.

    ``groups`` are labels of voices that sound alike, beside the kinds of voice among ``known``.

    Raises UserError if the clips have none of them, or one of their classes has the name of the null label.
    """
    if NULL in known:
        raise UserError(f"The data has a class called '{NULL}', which is a prior's word for every sound: rename it.")
    for label in filter(is_voice_group, known if sources != "speech" else ()):
        raise UserError(f"The data has a class called '{label}', which is a prior's word for some voices: rename it.")
    voices = [label for label in known if label in VOICES]
    speech = [SPEECH, *voices, *groups] if voices or SPEECH in known else []
    sounds = [label for label in known if label not in SPOKEN]
    every = [NULL, *speech, *sounds] if sounds else speech
    labels = {"speech": speech, "sounds": [NULL, *sounds], "all": every}[sources]
    if not set(labels) - {NULL}:
        raise UserError(f"The manifest has no clips of {sources} with a licence that was asked for.")
    return tuple(labels)


def start_from(folder: Path, labels: Sequence[str], grow: bool = False) -> Any:
    """The denoiser of an existing prior with its rows picked for ``labels``; a kind of voice may start from speech.

    With ``grow`` a label that the prior lacks starts from "anything".

    Raises UserError when the prior does not know one of them, or has been taught classes by `learn`.
    """
    prior = SourcePrior.from_pretrained(folder)
    if prior.config["network"]["class"].startswith("adapted."):
        raise UserError(f"The prior '{prior.name}' has learned classes: start from the one it was made of.")
    rows = [row_of(prior, label, grow) for label in labels]
    missing = [label for label, row in zip(labels, rows, strict=True) if row is None]
    if missing:
        raise UserError(f"The prior '{folder}' does not know {', '.join(missing[:3])}: start without --init.")
    return pick(prior, labels, grow)


def row_of(prior: SourcePrior, label: str, grow: bool = False) -> int | None:
    """The row of a prior that a label starts from, or None."""
    known = known_as(label, prior.labels)
    if known in prior.labels:
        return prior.index(known)
    # The row of "no class" of an ε-network, whether it was trained or not.
    spare = getattr(prior.denoiser.network, "null_label", None)
    if known == NULL or (grow and NULL not in prior.labels):
        return spare
    return prior.index(NULL) if grow else None


def known_as(label: str, labels: Sequence[str]) -> str:
    """The label itself, or "speech" for a kind or group of voices that ``labels`` lack."""
    return SPEECH if is_voice(label) and label not in labels else label


def is_voice(label: str) -> bool:
    """Whether a label is a part of "speech"."""
    return label in VOICES or is_voice_group(label)


def has_learned(folder: Path) -> list[str]:
    """Sources that `learn` has taught the prior of a folder; none where there is no prior, or none that can be read."""
    try:
        return list(json.loads((folder / CONFIG).read_text(encoding="utf-8")).get("learned", {}))
    except (OSError, ValueError, AttributeError):
        return []


def inherited(folder: Path) -> tuple[str, dict[str, int]]:
    """What the licence of a prior that a run starts from passes on: its own, and clips per licence."""
    prior = SourcePrior.from_pretrained(folder)
    # A prior that does not tell of its clips counts as one, under the licence of its weights.
    return prior.licence, licences_of(prior.config) or {prior.licence: 1}


def ancestry(folder: Path) -> str:
    """One line on how the prior that a run started from was trained."""
    prior = SourcePrior.from_pretrained(folder)
    if "training" not in prior.config:
        return f"the prior {prior.name}, which does not say how it was trained"
    training = prior.config["training"]
    before = f", itself from {training['init']}" if training["init"] else ""
    return (
        f"a prior of {training['data']['sources']} sources, {training['steps']} steps of {training['batch']} examples, "
        f"{training['minutes']:g} minutes (`{training['command']}`){before}"
    )


def pick(prior: SourcePrior, labels: Sequence[str], grow: bool = False) -> Any:
    """A copy of a prior's denoiser that has the rows of ``labels`` only, in that order."""
    rows = torch.tensor([row_of(prior, label, grow) for label in labels])
    state = dict(prior.denoiser.state_dict())
    state["average"] = state["average"][rows.clamp(max=len(state["average"]) - 1)]
    options = dict(prior.config["network"]["options"])
    null = getattr(prior.denoiser.network, "null_label", None)
    if null is not None:
        # Its embeddings have a row for "no class" after those of the classes.
        rows = torch.tensor([row_of(prior, label, grow) for label in labels if label != NULL] + [null])
    for name in state:
        if name.endswith(("class_embedding.weight", "embedding_table.weight")):
            state[name] = state[name][rows]
    if "classes" in options:
        options["classes"] = len(rows) - (null is not None)
    config = {**prior.config, "labels": list(labels), "level": prior.level}
    config["network"] = {**prior.config["network"], "options": options}
    denoiser = build(config)
    denoiser.load_state_dict(state)
    return denoiser.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def describe(
    data: str | Path, licence: str, clips: Sequence[Clip | Tally], sources: str, negatives: Sequence[Clip | Tally] = ()
) -> dict[str, Any]:
    """What the prior's card says of its data: hours and clips per licence, of its own sources and of the others.

    Clips may be a tally: clips of one label and licence, counted.

    Args:
        data: folder or address of the data, of which the last name is told.
        licence: the filter that was asked for.
        negatives: clips that are shown as other sources.
    """
    own = own_clips(clips, sources)
    count = per_licence(own)
    return {
        "name": "shards at an address" if is_address(data) else Path(data).resolve().name,
        "sources": sources, "licence filter": licence, "clips": sum(count.values()),
        "hours": round(sum(clip.seconds for clip in own) / 3600, 2),
        "clips per licence": count, "negatives per licence": per_licence(negatives),
    }  # fmt: skip


def origin_of(about: Mapping[str, Any], before: tuple[str, dict[str, int]] = ("", {})) -> dict[str, Any]:
    """What a run may not change when it goes on: the clips and the prior that the licence of its weights follows from.

    Args:
        about: see `describe`.
        before: see `inherited`.
    """
    return {
        "name of its data": about["name"], "licence filter": about["licence filter"],
        "number of clips per licence": about["clips per licence"],
        "number of negatives per licence": about["negatives per licence"],
        "licence of the prior it started from": before[0],
        "number of clips per licence of that prior": before[1],
    }  # fmt: skip


def per_licence(clips: Sequence[Clip | Tally]) -> dict[str, int]:
    """Number of clips of each licence, sorted."""
    count = Counter[str]()
    for clip in clips:
        count[clip.licence] += clip.clips
    return dict(sorted(count.items()))


def own_clips(clips: Sequence[Any], sources: str) -> list[Any]:
    """Those of "speech", "sounds" or "all"."""
    return [clip for clip in clips if sources == "all" or (clip.label in SPOKEN) == (sources == "speech")]


def other_clips(clips: Sequence[Any], sources: str) -> list[Any]:
    """Those that are of none of "speech", "sounds" or "all"."""
    own = {id(clip) for clip in own_clips(clips, sources)}
    return [clip for clip in clips if id(clip) not in own]


def way_of_negatives(settings: Settings, known: Sequence[str], lent: int) -> str:
    """In words, where the negatives of a run come from.

    Args:
        known: labels of the data.
        lent: clips of the package's bank that were added to it.
    """
    if predicts_noise(settings.backbone) or settings.negatives == "none":
        return "none"
    if lent:
        where = f"the package's bank of other sources ({lent} clips), as the data has one source only"
    elif set(known) & set(SPOKEN):
        where = "the data"
    else:
        where = f'the other classes of the data; "{NULL}" has none, as the data has no speech'
    return f"{settings.negatives}, from {where}"


def clip_table(
    data: str | Path, clips: Sequence[Clip | Tally], sources: str, negatives: Sequence[Clip | Tally] = ()
) -> str:
    """CSV of the clips a prior was trained on: path within the data, label, seconds, licence, used as.

    Of shards of earlier versions only a tally is known: a row per label and licence, with a number of clips in the
    place of the path.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["path", "label", "seconds", "licence", "used as"])
    for use, group in (("source", own_clips(clips, sources)), ("negative", negatives)):
        for clip in group:
            name = f"{clip.clips} clips" if isinstance(clip, Tally) else _name(clip.path, data)
            writer.writerow([name, clip.label, f"{clip.seconds:.2f}", clip.licence, use])
    return out.getvalue()


def _name(path: Path, data: str | Path) -> str:
    for root in (Path(data), BUNDLED):
        if path.is_relative_to(root):
            return str(printable(path.relative_to(root).as_posix()))
    return str(printable(path.as_posix()))


def finish(
    trainer: Trainer,
    folder: Path,
    data: dict[str, Any],
    figures: dict[str, float] | None = None,
    init: str = "",
    clips: str = "",
    before: tuple[str, dict[str, int]] = ("", {}),
) -> SourcePrior:
    """Write the averaged weights of a run as a prior, with its card and the table of its clips.

    Args:
        data: as `describe` gives it, and whatever else is to be told of it.
        init: what the run started from, in words.
        before: licence and clips per licence of that, see `inherited`.
    """
    settings, denoiser = trainer.settings, trainer.averaged()
    licences = Counter(data["clips per licence"]) + Counter(data["negatives per licence"])
    negatives = "none" if predicts_noise(settings.backbone) else settings.negatives
    config = {
        "name": data["sources"], "sample_rate": trainer.sample_rate,
        "licence": licence_of_weights(licences, before[0]),
        **trainer.objective.config(denoiser),
        "training": {
            "data": data, "steps": trainer.step, "minutes": round(trainer.elapsed / 60, 1), "batch": settings.batch,
            "seconds": settings.seconds, "negatives": negatives, "rate": settings.rate, "seed": settings.seed,
            "optimizer": settings.optimizer, "ema": settings.ema_decay or settings.ema, "levels": list(settings.levels),
            "valid loss": None if math.isnan(trainer.last_valid) else round(trainer.last_valid, 4),
            "processes": trainer.group.count, "precision": trainer.precision,
            "parameters": sum(p.numel() for p in denoiser.parameters()), "init": init,
            "init licences": before[1],
            "machine": f"{os.cpu_count()} cores" if trainer.device.type == "cpu" else torch.cuda.get_device_name(),
            "torch": torch.__version__, "versions": versions(), "command": " ".join(["sourceprior", *sys.argv[1:]]),
            "figures": {name: round(value, 2) for name, value in (figures or {}).items()},
        },
    }  # fmt: skip
    voices = [label for label in settings.labels if is_voice(label)]
    if voices and SPEECH in settings.labels:
        config["parts"] = {SPEECH: voices}
    prior = SourcePrior(
        name=config["name"], denoiser=denoiser, labels=tuple(settings.labels), sample_rate=config["sample_rate"],
        level=LEVEL, licence=config["licence"], config=config, card=card(config, len(settings.labels)),
        clips=clips,
    )  # fmt: skip
    prior.save_pretrained(folder)
    return prior


def versions() -> dict[str, str]:
    """Of what a run depends on."""
    packages = {name: metadata.version(name) for name in ("torch", "numpy", "soundfile", "soxr")}
    return {"sourceprior": __version__, "python": platform.python_version(), **packages}


def write_bad_clips(folder: Path, bad: Mapping[str, str], log: Callable[[str], None]) -> None:
    """Say how many clips were left out, and list them in ``bad_clips.csv`` of the run's folder."""
    file = Path(folder) / "bad_clips.csv"
    if not bad:
        file.unlink(missing_ok=True)
        return
    path, reason = next(iter(sorted(bad.items())))
    log(f"{len(bad)} clips were left out, such as {path} ({reason}); {file} lists them")
    with file.open("w", newline="", encoding="utf-8", errors="replace") as rows:
        writer = csv.writer(rows)
        writer.writerow(["path", "reason"])
        writer.writerows(sorted(bad.items()))
