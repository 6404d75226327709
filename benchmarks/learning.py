"""Learning new classes from 5, 10 and 40 clips, against the label "anything" and a prior trained from scratch.

    python benchmarks/learning.py --data DATA -o runs/learning --doc docs/learning.md     # the whole table: hours
    python benchmarks/learning.py --data DATA -o runs/try --split valid --classes siren --clips 10 --count 4

The classes are those of which the bundled priors saw no clip, and those of which they saw a handful under the same
label; of each, only clips are used whose licence kept them out. Train clips teach, mixtures are drawn from the split:
speech + the class, and the class + a known one. Every case is one line of results.jsonl: the same command goes on
after an interruption, and `--limit N` stops after N new cases.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sourceprior import learning, mixtures
from sourceprior.benchmark.rows import prior_digest
from sourceprior.datasets import SPEECH, Clip, read_clip, read_manifest
from sourceprior.denoisers import SpectralDenoiser
from sourceprior.evaluation import FLOOR_DB
from sourceprior.examples import NULL
from sourceprior.learning import Examiner, Piece, Settings, bank_of, descend, hold_out, learn_class
from sourceprior.learning_clips import cut
from sourceprior.metrics import bootstrap_interval, si_sdr
from sourceprior.optimizers import optimizers
from sourceprior.priors import Source, SourcePrior, attribute, bundled
from sourceprior.sampling import settings_of, solve

CLASSES = (
    "air_conditioner", "drilling", "engine_idling", "jackhammer", "street_music", "siren", "car_horn", "Cymbal"
)  # fmt: skip
"""No clip of the first five was seen; 4, 7 and 9 train clips of other recordings of the last three."""
SCRATCH_RATE = 2e-3
"""Learning rate of a prior from scratch, that of `sourceprior train`."""
TASKS = {"speech": "speech + class", "known": "class + known"}
BEGIN, END = "<!-- table -->", "<!-- end of table -->"


def kept_out(data: Path, split: str, label: str) -> list[Clip]:
    """Clips of a class whose licence kept them out of the bundled priors, in one shuffled order."""
    clips = [clip for clip in read_manifest(data, split, "any") if clip.label == label and not clip.commercial]
    random.Random(f"{label}/{split}").shuffle(clips)
    return clips


def mixtures_of(data: Path, split: str, label: str, count: int, known: Sequence[str]) -> dict[str, list[Any]]:
    """Mixture lists of both tasks, a known class drawn anew for every mixture of the second."""
    own, free = kept_out(data, split, label), read_manifest(data, split)
    spoken = [clip for clip in free if clip.label == SPEECH]
    sounds = [clip for clip in free if clip.label not in (SPEECH, label)]
    partners = mixtures.usable_labels(sounds, 2, known)
    random.Random(f"{label}/partners").shuffle(partners)
    pairs = [partners[i % len(partners)] for i in range(count)]
    return {
        "speech": mixtures.draw("speech_sound", count, spoken + own, data, labels=[label]),
        "known": [
            mixtures.draw("two_sounds", 1, own + sounds, data, labels=[label, pair], seed=i)[0]
            for i, pair in enumerate(pairs)
        ],
    }


def pieces_of(clips: Sequence[Clip], rate: int) -> list[Piece]:
    """As `sourceprior learn` reads them."""
    return [
        Piece(clip.path.name, piece, clip.licence)
        for clip in clips
        for piece in cut(read_clip(clip.path, rate).astype(np.float32) / 2**15, rate)
    ]


def separated(specs: Sequence[Any], data: Path, label: str, own: Source, priors: Sequence[SourcePrior]) -> list[Any]:
    """SI-SDR in dB of both stems of every mixture, the class's source given."""
    found = []
    for spec in specs:
        truth = torch.from_numpy(mixtures.render(spec, data))
        sources = []
        for name in spec.labels:
            prior = next((p for p in priors if name in p.labels), own.prior)
            sources.append(own if name == label else Source(prior, prior.index(name), name))
        stems, _ = solve(truth.sum(0), sources, settings_of("default"), seed=spec.index)
        found.append([round(float(v), 3) for v in np.maximum(si_sdr(stems.numpy(), truth.numpy()), FLOOR_DB)])
    return found


def from_scratch(
    base: SourcePrior, name: str, own: Sequence[Piece], held: Sequence[Piece], settings: Settings
) -> tuple[SourcePrior, int]:
    """A prior of this class alone, a new network trained on the same examples until time is up; its best step."""
    began = time.monotonic()
    bank = bank_of(name, own, "train", base.sample_rate, same_as=settings.same_as)
    network = base.config["network"]
    spectrum = learning.measure_spectrum(bank, name, base, settings.shrink)
    torch.manual_seed(settings.seed)
    backbone = attribute("networks", network["class"])(**network["options"] | {"classes": 1})
    denoiser = SpectralDenoiser(backbone, spectrum[None], base.level).to(memory_format=torch.channels_last)  # type: ignore
    watched = bank_of(name, held, "valid", base.sample_rate, same_as=settings.same_as)
    control = Examiner(watched, name, settings, augment=False)
    parameters = list(denoiser.network.parameters())
    _, best, _ = descend(
        denoiser, 0, parameters, Examiner(bank, name, settings), control.watch(), settings, began,
        optimizers=optimizers(backbone, "muon", settings.rate, 0.02),
    )  # fmt: skip
    prior = SourcePrior("scratch", denoiser.eval(), (name,), base.sample_rate, base.level, base.licence)
    return prior, best


@torch.no_grad()
def unchanged(taught: SourcePrior, base: SourcePrior) -> bool:
    """Whether every label that the base knew gives what it gave, to the last bit."""
    x = 0.1 * torch.randn(1, 16000, generator=torch.Generator().manual_seed(0))
    sigma = torch.tensor([0.1])
    return all(
        torch.equal(taught.denoiser(x, sigma, torch.tensor([i])), base.denoiser(x, sigma, torch.tensor([i])))
        for i in range(len(base.labels))
    )


def cases(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """What identifies each case, classes first, so that an unfinished table has whole classes."""
    for label in args.classes:
        yield {"class": label, "method": "anything", "clips": 0}
        for clips in args.clips:
            yield {"class": label, "method": "learned", "clips": clips}
            if not args.no_scratch:
                yield {"class": label, "method": "scratch", "clips": clips}


def work(case: dict[str, Any], args: argparse.Namespace, earlier: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One case: learn, separate, measure."""
    priors = bundled()
    base = next(prior for prior in priors if prior.name == "sounds")
    label, name = case["class"], f"new_{case['class']}"
    known = [known for known in base.labels if known not in (NULL, label)]
    lists = mixtures_of(args.data, args.split, label, args.count, known)
    settings = Settings(
        steps=args.steps, minutes=args.minutes, rank=args.rank, rate=args.rate, biases=not args.no_biases,
        same_as=(label,),
    )  # fmt: skip
    line = dict(case)
    if case["method"] == "anything":
        prior, name = base, NULL
    else:
        own, held = hold_out(
            pieces_of(kept_out(args.data, "train", label)[: case["clips"]], base.sample_rate), 0.2, settings.seed
        )
        if case["method"] == "learned":
            result = learn_class(base, name, own, held, settings)
            prior = result.prior
            line |= {"minutes": round(result.seconds / 60, 2), "steps": result.steps, "best": result.best}
            line |= {"began as": result.began_as, "losses": result.losses, "unchanged": unchanged(prior, base)}
        else:
            taught = next(row for row in earlier if same(row, case | {"method": "learned"}))
            limits = replace(settings, minutes=taught["minutes"], steps=100_000, patience=100_000, rate=SCRATCH_RATE)
            prior, best = from_scratch(base, name, own, held, limits)
            line |= {"minutes": taught["minutes"], "best": best}
    own_source = Source(prior, prior.index(name), name)
    return line | {task: separated(specs, args.data, label, own_source, priors) for task, specs in lists.items()}


def same(row: dict[str, Any], case: dict[str, Any]) -> bool:
    return all(row.get(key) == value for key, value in case.items())


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown: SI-SDR per class, number of clips and task, and paired differences with 95 % intervals."""
    lines = [
        "| class | clips | minutes | speech + class: anything, learned, scratch | class + known: anything, learned, "
        "scratch | learned - anything (95 %) | learned - scratch (95 %) |",
        "|---|---|---|---|---|---|---|",
    ]
    sums: dict[int, dict[str, list[float]]] = {}
    # Several processes write their rows between each other's.
    classes = list(dict.fromkeys(row["class"] for row in rows))
    by_class = sorted(rows, key=lambda row: (classes.index(row["class"]), row["clips"]))
    for learned in (row for row in by_class if row["method"] == "learned"):
        rivals = {
            "anything": next((r for r in rows if same(r, {"class": learned["class"], "method": "anything"})), None),
            "learned": learned,
            "scratch": next(
                (r for r in rows if same(r, {k: learned[k] for k in ("class", "clips")} | {"method": "scratch"})), None
            ),
        }
        values = {method: {task: np.mean(row[task], axis=1) for task in TASKS} for method, row in rivals.items() if row}
        cells = [", ".join(f"{v[task].mean():.2f}" for v in values.values()) for task in TASKS]
        total = sums.setdefault(learned["clips"], {})
        for method in ("anything", "scratch"):
            if method in values:
                difference = np.concatenate([values["learned"][task] - values[method][task] for task in TASKS])
                total.setdefault(method, []).extend(difference.tolist())
                cells.append(with_interval(difference))
            else:
                cells.append("")
        lines.append(f"| {learned['class']} | {learned['clips']} | {learned['minutes']:.1f} | {' | '.join(cells)} |")
    for clips, total in sorted(sums.items()):
        ends = [with_interval(np.array(total[method])) if method in total else "" for method in ("anything", "scratch")]
        lines.append(f"| **all** | {clips} | | | | {' | '.join(ends)} |")
    taught = [row["unchanged"] for row in rows if row["method"] == "learned"]
    lines += ["", f"In {sum(taught)} of {len(taught)} cases the labels known before gave the same to the last bit."]
    return "\n".join(lines) + "\n"


def with_interval(values: np.ndarray) -> str:
    low, high = bootstrap_interval(values)
    return f"{values.mean():+.2f} ({low:+.2f} to {high:+.2f})"


def main() -> None:
    """Do the cases that are missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--split", default="test", help="of the mixtures; valid while anything is still chosen")
    parser.add_argument("--classes", nargs="+", default=list(CLASSES))
    parser.add_argument("--clips", nargs="+", type=int, default=[5, 10, 40])
    parser.add_argument("--count", type=int, default=20, help="mixtures per task")
    parser.add_argument("--steps", type=int, default=Settings.steps)
    parser.add_argument("--minutes", type=float, default=Settings.minutes, help="the most that learning takes")
    parser.add_argument("--rank", type=int, default=Settings.rank, help="0: no change of convolutions, -1: a full one")
    parser.add_argument("--rate", type=float, default=Settings.rate)
    parser.add_argument("--no-biases", action="store_true", help="with --rank 0: embedding and spectrum alone")
    parser.add_argument("--no-scratch", action="store_true")
    parser.add_argument("--limit", type=int, default=10**9, help="new cases of this call")
    parser.add_argument("--doc", type=Path, help="file whose table is replaced")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / "results.jsonl"
    text = file.read_text() if file.is_file() else ""
    if text and not text.endswith("\n"):
        # What a killed run was writing.
        file.write_text(text[: text.rfind("\n") + 1])
    rows = [json.loads(line) for line in text.splitlines(True) if line.endswith("\n")]
    settings = {"split": args.split, "count": args.count, "limit steps": args.steps, "limit minutes": args.minutes}
    settings |= {"rank": args.rank, "rate": args.rate, "biases": not args.no_biases}
    settings |= {"priors": [prior_digest(prior) for prior in bundled()]}
    if any(not same(row, settings) for row in rows):
        parser.error(f"{file} was made with other settings: choose another -o")
    done = 0
    for case in cases(args):
        if any(same(row, case) for row in rows) or done >= args.limit:
            continue
        row = work(case, args, rows) | settings
        rows.append(row)
        done += 1
        with file.open("a") as out:
            out.write(json.dumps(row) + "\n")
        means = "  ".join(f"{text} {np.mean(row[task]):.2f} dB" for task, text in TASKS.items())
        print(f"{case['class']} {case['method']} {case['clips']}: {means}", flush=True)
    text = table(rows)
    (args.out / "table.md").write_text(text)
    print(text, end="")
    if args.doc:
        whole = args.doc.read_text()
        head, _, rest = whole.partition(BEGIN)
        args.doc.write_text(f"{head}{BEGIN}\n{text}{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
