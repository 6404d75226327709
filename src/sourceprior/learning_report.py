"""How well a learned source will do, in figures and in plain sentences, before anybody separates anything with it.

What decides is selectivity: a prior has to denoise its own source and leave every other alone. Both are measured on
clips that were not learned from: the held-out ones, and other recordings of every class in the package's bank. A click
is easier to denoise than rain, by any prior; so what is confused is told from the same clips under two labels.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sourceprior.datasets import SPEECH, Clip, ClipBank
from sourceprior.errors import listed
from sourceprior.examples import NULL
from sourceprior.labels import folded
from sourceprior.learning import NEGATIVES, Piece, Result, Settings, bank_of
from sourceprior.learning_clips import Clips
from sourceprior.library import load_priors
from sourceprior.licences import NOT_STATED, use_of_label
from sourceprior.priors import Source, SourcePrior, bundled, joint
from sourceprior.selectivity import RATIOS, denoising_snr

CLIPS, OTHERS, SECONDS = 8, 2, 2.0
"""Own clips, clips of every other class, and their length in seconds."""
CONFUSED = 1.0
"""dB: clips are denoised nearly as well under another label as under their own."""
GOOD = 3.0
"""dB between two labels from which they are easy to tell apart; trained classes are some 4 dB apart at sigma = 2."""
MANY = 5
"""Confusions from which it is no matter of single classes."""


def snr(source: Source, wave: Tensor, ratio: float) -> list[float]:
    """Denoising SNR in dB of clips (B, N) of the prior's level, read as a source, at sigma = ratio x level."""
    g = torch.Generator().manual_seed(1)
    sigma = ratio * source.prior.level
    noise = torch.randn(wave.shape, generator=g)
    estimate = joint([source])((wave + sigma * noise)[:, None], sigma)[:, 0]
    return denoising_snr(wave, estimate).tolist()


def waves_of(bank: ClipBank, label: str, most: int, level: float) -> Tensor:
    """Up to `most` clips of a label (B, N) at a level, each once."""
    members = bank.groups[bank.labels.index(label)][:most]
    g = torch.Generator().manual_seed(2)
    return bank.render(members, round(SECONDS * bank.sample_rate), g, augment=False) * level


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def examine(
    prior: SourcePrior,
    name: str,
    own: Sequence[Piece],
    held: Sequence[Piece],
    until: float = math.inf,
    negatives: Path = NEGATIVES,
) -> dict[str, Any]:
    """Figures of a learned source, see `write`.

    Args:
        own, held: pieces that it learned from, and that it did not.
        until: time (monotonic) at which the search for confusions ends; the most similar classes come first.
        negatives: the bank of other sounds.
    """
    source = Source(prior, prior.index(name), name)
    bank = bank_of(name, held, "valid", prior.sample_rate, negatives)
    mine = waves_of(bank, name, CLIPS, prior.level)
    learned = waves_of(bank_of(name, own, "valid", prior.sample_rate, negatives), name, CLIPS, prior.level)
    clean = {ratio: mean(snr(source, mine, ratio)) for ratio in RATIOS}
    figures: dict[str, Any] = {
        "denoising": {
            "held out": {f"{ratio:g}": figure(clean[ratio], ratio) for ratio in RATIOS},
            "learned from": {f"{ratio:g}": figure(mean(snr(source, learned, ratio)), ratio) for ratio in RATIOS},
        },
        "selectivity": {}, "left alone": {}, "read as": {}, "not examined": [],
    }  # fmt: skip
    everything = load_priors(prior)
    parts = {part for item in everything for group in item.config.get("parts", {}).values() for part in group}
    rivals = {
        label: Source(item, i, label)
        for item in reversed(everything)
        for i, label in enumerate(item.labels)
        if label not in (name, NULL) and label not in parts
    }
    shape = prior.denoiser.spectrum(torch.tensor([source.index]))[0].log()  # type: ignore[operator]

    def distance(label: str) -> float:
        if label == SPEECH or label not in rivals:
            return -1.0
        other = rivals[label].prior.denoiser.spectrum(torch.tensor([rivals[label].index]))[0].log()  # type: ignore[operator]
        return float((other - shape).sub(float((other - shape).mean())).square().mean())

    for label in sorted({*bank.labels, *rivals} - {name}, key=lambda label: (distance(label), label)):
        if time.monotonic() > until:
            figures["not examined"].append(label)
            continue
        if label in bank.labels and len(bank.groups[bank.labels.index(label)]):
            theirs = waves_of(bank, label, OTHERS, prior.level)
            restored = {ratio: mean(snr(source, theirs, ratio)) for ratio in RATIOS}
            figures["selectivity"][label] = {f"{ratio:g}": round(clean[ratio] - restored[ratio], 2) for ratio in RATIOS}
            if label in rivals:
                figures["left alone"][label] = round(mean(snr(rivals[label], theirs, 2.0)) - restored[2.0], 2)
        if label in rivals:
            figures["read as"][label] = round(mean(snr(rivals[label], mine[:4], 2.0)) - clean[2.0], 2)
    alone, read_as = figures["left alone"], figures["read as"]
    figures["takes"] = sorted((label for label in alone if alone[label] < CONFUSED), key=alone.__getitem__)
    figures["gives to"] = sorted((label for label in read_as if read_as[label] > -CONFUSED), key=lambda k: -read_as[k])
    return figures


def figure(found: float, ratio: float) -> dict[str, float]:
    """SNR of the denoised clip, and how much better than the noisy one it is, in dB."""
    return {"snr": round(found, 2), "gain": round(found + 20 * math.log10(ratio), 2)}


def report_of(
    prior: SourcePrior, name: str, clips: Clips, own: Sequence[Piece], held: Sequence[Piece], result: Result,
    settings: Settings, figures: dict[str, Any], others: Sequence[Clip] = (),
) -> dict[str, Any]:  # fmt: skip
    """Everything that is told of a learned source, as report.json holds it, its sentences included.

    Args:
        others: clips of other sources that it was shown.
    """
    report = {
        "name": name,
        "clips": [{"file": file, "seconds": s, "licence": terms} for file, s, terms in clips.used],
        "seconds": round(clips.seconds, 2),
        "learned from": len({piece.file for piece in own}), "held out": len({piece.file for piece in held}),
        "held apart": not {piece.file for piece in own} & {piece.file for piece in held},
        "left out": [{"file": file, "reason": reason} for file, reason in clips.left_out],
        "notes": clips.notes, "lowest sample rate": clips.lowest_rate,
        "licences": dict(Counter(terms for _, _, terms in clips.used)),
        "licences of others": dict(Counter(clip.licence for clip in others)),
        "steps": result.steps, "best step": result.best, "minutes": round(result.seconds / 60, 2),
        "began as": result.began_as, "held-out losses": result.losses, "settings": vars(settings), **figures,
    }  # fmt: skip
    config = prior.config | {"learned": {**prior.config["learned"], name: report}}
    report["use"] = use_of_label(config, name)
    report["sentences"] = sentences(report)
    return report


def renamed(report: dict[str, Any], name: str) -> dict[str, Any]:
    """A report of the same source under another name. Raises LookupError or TypeError if it is no report."""
    report = report | {"name": name}
    return report | {"sentences": sentences(report)}


def sentences(report: dict[str, Any]) -> list[str]:
    """What the figures mean, and what to record next."""
    name, held = report["name"], report["denoising"]["held out"]
    gains = [held[f"{ratio:g}"]["gain"] for ratio in RATIOS]
    # Of few files it is their end that is held out.
    apart = report.get("held apart", True)
    where = "On clips it did not learn from" if apart else "On the end of its last clip, which it did not learn from,"
    said = [
        f"{where} it lowers noise as loud as {name} by {gains[0]:.1f} dB "
        f"(twice as loud: {gains[1]:.1f} dB, five times: {gains[2]:.1f} dB)."
    ]
    alone = report["left alone"]
    if SPEECH in alone:
        said.append(
            f"Against speech it is {told(alone[SPEECH])}: read as {name}, speech is denoised {alone[SPEECH]:.1f} dB "
            "less well than as speech."
        )
    others = [value for label, value in alone.items() if label != SPEECH]
    if others:
        said.append(f"Against {len(others)} other sounds it is {told(mean(others))} on average: {mean(others):.1f} dB.")
    takes, gives = report["takes"], report["gives to"]
    if takes:
        said.append(f"{name} will take parts of {listed(takes)} where they are in one recording.")
    if gives:
        said.append(f"{listed(gives)} will take parts of {name}: do not ask for them beside it without need.")
    if not takes and not gives:
        compared = report["left alone"] or report["read as"]
        said.append(
            "It is not likely to be confused with a class that was tried."
            if compared
            else "It was not compared with any class."
        )
    if report["not examined"]:
        said.append(f"Time was up before {len(report['not examined'])} of the classes were tried.")
    if report["best step"] == 0:
        said.append(f"{nothing_learned(report)}: only the average spectrum and the nearest class are used.")
    for prior in bundled():
        if folded(name) in map(folded, prior.labels):
            said.append(
                f"The bundled prior {prior.name} has the label {name}, too; the learned one takes its place. "
                "To use both, rename the learned one (sourceprior prior rename)."
            )
    return said + advice(report)


def nothing_learned(report: dict[str, Any]) -> str:
    """Why the weights are those it began with."""
    if report["steps"]:
        return "Learning did not help on held-out clips"
    if report["settings"]["steps"]:
        return "Time was up before anything could be learned, so allow more --minutes"
    return "No step of learning was asked for"


def advice(report: dict[str, Any]) -> list[str]:
    """What to record next."""
    name, count, seconds = report["name"], len(report["clips"]), report["seconds"]
    said = []
    if count < 10 and seconds < 30:
        said.append(
            f"Record more: {count} clips of {seconds:.0f} s in all are little, 10 clips or 30 s are a beginning."
        )
    held, learned = report["denoising"]["held out"]["1"]["snr"], report["denoising"]["learned from"]["1"]["snr"]
    if learned - held > 2:
        said.append(
            f"Record {name} elsewhere and others of its kind: clips it learned from are denoised {learned - held:.1f} "
            "dB better than the held-out ones, so it knows these recordings rather than the source."
        )
    if len(report["takes"]) > MANY:
        said.append(
            f"Record {name} at its clearest, from near and with nothing else to be heard: {len(report['takes'])} "
            "classes are hard to tell from it by now."
        )
    else:
        said += [
            f"Record {name} from near, with no {label} in the background: they are confused."
            for label in report["takes"]
        ]
    if report["lowest sample rate"] and report["lowest sample rate"] < 16000:
        said.append(
            f"Record at 16000 Hz or more: some clips have {report['lowest sample rate']} Hz and lack the treble."
        )
    if len(report["left out"]) > 0.2 * (count + len(report["left out"])):
        said.append(
            f"{len(report['left out'])} files were left out: see below whether they can be had in a better form."
        )
    if NOT_STATED in report["licences"]:
        said.append(
            "Nobody knows what may be done with it: learn it again into another folder, with --licence, for example "
            "CC0-1.0."
        )
    if not said:
        said.append(f"If it still misses parts of {name}, record what it misses: other individuals, distances, rooms.")
    return said


def told(apart: float) -> str:
    if apart < CONFUSED:
        return "hardly selective"
    return "selective" if apart < GOOD else "very selective"


def text_of(report: dict[str, Any]) -> str:
    """The report as a person reads it."""
    name = report["name"]
    lines = [
        f"{name}: learned from {report['learned from']} clips, {report['held out']} held out, "
        f"{report['seconds']:.1f} s in all; {report['steps']} steps in {report['minutes']:.1f} minutes, "
        f"weights of step {report['best step']} kept.",
        "",
        *(f"- {sentence}" for sentence in report["sentences"]),
        f"- Use: {report['use']}.",
        "",
        "Denoising, dB              sigma = 1 x RMS   2 x RMS   5 x RMS",
    ]
    for case, row in report["denoising"].items():
        lines.append(f"  SNR, {case:20s}" + "".join(f"{row[f'{ratio:g}']['snr']:10.1f}" for ratio in RATIOS))
        lines.append(f"  gain, {case:19s}" + "".join(f"{row[f'{ratio:g}']['gain']:10.1f}" for ratio in RATIOS))
    lines += [
        "",
        f"Selectivity, dB: how much better {name} is denoised than others that are read as {name}, at 1, 2, 5 x RMS;",
        "then how much better these are denoised under their own label (2 x RMS), the most similar first",
    ]
    alone = report["left alone"]
    for label in sorted(report["selectivity"], key=lambda label: alone.get(label, 0.0)):
        row = report["selectivity"][label]
        line = f"  {label:25s}" + "".join(f"{row[f'{ratio:g}']:10.1f}" for ratio in RATIOS)
        lines.append(line + (f"{alone[label]:12.1f}" if label in alone else ""))
    if report["left out"]:
        reasons = Counter(item["reason"].split(":")[0].split(" of ")[0] for item in report["left out"])
        count = len(report["left out"])
        lines += ["", f"{count} file{'s were' if count > 1 else ' was'} left out:"]
        if len(reasons) < len(report["left out"]):
            lines.append("  " + ", ".join(f"{count} {reason}" for reason, count in reasons.most_common() if count > 1))
        lines += [f"  {item['file']}: {item['reason']}" for item in report["left out"]]
    lines += [f"Note: {note}" for note in report["notes"]]
    return "\n".join(lines) + "\n"
