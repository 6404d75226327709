"""The folder of a prior that learns: written whole or not at all, with a report beside the weights for each source."""

from __future__ import annotations

import contextlib
import json
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sourceprior.adapters import check_name, find_learned, learned_of, merge, with_sources
from sourceprior.errors import UserError, alternatives
from sourceprior.labels import match
from sourceprior.learning import NEGATIVES, Progress, Settings, hold_out, learn_class, others_of
from sourceprior.learning_clips import read_folder
from sourceprior.learning_report import examine, renamed, report_of, text_of
from sourceprior.library import load_priors
from sourceprior.priors import CARD, CLIPS, CONFIG, WEIGHTS, SourcePrior, bundled
from sourceprior.stem_files import locked, make_folder

PART = ".sourceprior."
"""How folders of what is not written yet begin."""
REPORT = ".report"
"""Reports are named after the source: robin.report.txt, robin.report.json."""


def learn(
    folder: str | Path,
    name: str,
    out: str | Path,
    *,
    base: str | None = None,
    licence: str | None = None,
    settings: Settings | None = None,
    minutes: float = 10.0,
    negatives: Path = NEGATIVES,
    reading: Callable[[int, int], None] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Learn a source from a folder of clips into the prior at `out`; what it knows already, it keeps.

    Args:
        name: label of the source.
        out: folder of the prior; if there is one, it learns this source on top, else it is made from `base`.
        base: a bundled prior's name or a prior's folder; by default the bundled "sounds".
        licence: of all clips; else what a manifest.csv in the folder says.
        minutes: the most it takes; a fifth of it is kept for the report.
        negatives: the bank of other sounds, a pack with splits train and valid.
        reading: called with (files read, files); `progress` as in `learn_class`.

    Returns:
        the report, as report.json holds it.

    Raises:
        UserError: for a name, folder or prior that cannot be used.
    """
    began, out = time.monotonic(), Path(out)
    settings = settings or Settings()
    prior = start(out, base)
    check_name(name, prior.labels)
    known = [label for each in load_priors(prior) for label in each.labels]
    settings = replace(settings, same_as=tuple(match(label, known) for label in settings.same_as))
    clips = read_folder(folder, prior.sample_rate, licence, reading)
    own, held = hold_out(clips.pieces, settings.held_out, settings.seed)
    left = minutes - (time.monotonic() - began) / 60
    settings = replace(settings, minutes=max(0.0, min(settings.minutes, 0.8 * left)))
    result = learn_class(prior, name, own, held, settings, negatives=negatives, progress=progress)
    # A twentieth is left for the last class under way and for writing.
    figures = examine(result.prior, name, own, held, began + 57 * minutes, negatives)
    others = others_of(name, "train", negatives, settings.same_as)
    report = report_of(result.prior, name, clips, own, held, result, settings, figures, others)
    keys = (
        "clips", "licences", "licences of others", "seconds", "steps", "best step", "minutes", "began as", "denoising",
        "takes", "gives to", "sentences", "use",
    )  # fmt: skip
    record = {key: report[key] for key in keys} | {"command": shlex.join(["sourceprior", *sys.argv[1:]])}
    items = [replace(i, record=record) if i.name == name else i for i in learned_of(result.prior)]
    # Another call may be writing to it, which takes a moment.
    with learning(out):
        write_folder(with_others(with_sources(result.prior, items), name, out), out, report_files(report))
    return report


def with_others(prior: SourcePrior, name: str, out: Path) -> SourcePrior:
    """The prior with the source `name` beside what others taught the one at `out` while this one was learned.

    Raises UserError if what is there now is none that this source can be added to.
    """
    if not (out / CONFIG).is_file():
        check_place(out)
        return prior
    return merge([SourcePrior.from_pretrained(out), with_sources(prior, [find_learned(prior, name)])])


@contextlib.contextmanager
def learning(folder: Path) -> Iterator[None]:
    """Keep others from changing the prior of a folder meanwhile."""
    place = Path(folder).absolute()
    with locked(place.parent / f".{place.name}.lock"):
        yield


def start(out: Path, base: str | None) -> SourcePrior:
    """The prior that learns: the one at `out` if there is one, else the base. Raises UserError where it cannot be."""
    if (out / CONFIG).is_file():
        if base:
            raise UserError(f"'{out}' is a prior already and goes on as it is: leave --base out or choose another -o.")
        return SourcePrior.from_pretrained(out)
    check_place(out)
    known = {prior.name: prior for prior in bundled()}
    name = base or "sounds"
    if name in known:
        return known[name]
    if Path(name).is_dir() or "/" in name:
        return SourcePrior.from_pretrained(name)
    raise UserError(f"There is no bundled prior '{name}'; choose {alternatives(list(known))}, or name a folder.")


def check_place(out: Path) -> None:
    """Raise UserError unless a prior can be made at `out`."""
    if out.exists() and (not out.is_dir() or any(not path.name.startswith(PART) for path in out.iterdir())):
        raise UserError(f"'{out}' is there already and is not a prior: choose another folder with -o.")
    make_folder(out if out.is_dir() else out.absolute().parent)


def write_folder(
    prior: SourcePrior, folder: Path, files: Mapping[str, str], keep: Callable[[str], str | None] = str
) -> None:
    """Write a prior with further text files to a folder, whole or not at all; whatever else is there stays there.

    Args:
        keep: the new name of a report that is in the folder already, None for one that goes.
    """
    folder = Path(folder).absolute()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # On the disk that the place is on, so that the last steps are renames: within it, as it may be a mount or a
        # link, or beside it.
        part = Path(tempfile.mkdtemp(prefix=PART, dir=folder if folder.is_dir() else folder.parent))
    except OSError as error:
        raise UserError(f"The folder {folder} cannot be made: {error.strerror}.") from error
    new = part / "new"
    try:
        prior.save_pretrained(new)
        going = {CONFIG, WEIGHTS, CARD, CLIPS}
        for path in folder.glob(f"*{REPORT}.*") if folder.is_dir() else ():
            name = keep(path.name)
            if name != path.name:
                going.add(path.name)
                if name:
                    shutil.copyfile(path, new / name)
        for name, text in files.items():
            (new / name).write_text(text, encoding="utf-8")
        if folder.exists():
            exchange(new, folder, part / "old", going)
        else:
            new.rename(folder)
    except OSError as error:
        raise UserError(f"The folder {folder} cannot be written: {error.strerror}.") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def exchange(new: Path, folder: Path, old: Path, going: Collection[str]) -> None:
    """Move the files of `new` into `folder`, and what they replace and `going` names to `old`; all of it or nothing.

    The config leaves first and comes last: without it a folder that a power cut left in between is no prior.
    """
    old.mkdir()
    names = sorted(path.name for path in new.iterdir())
    leaving = [name for name in sorted({*names, *going}) if (folder / name).is_file()]
    moves = [(folder / name, old / name) for name in sorted(leaving, key=lambda name: name != CONFIG)]
    moves += [(new / name, folder / name) for name in sorted(names, key=lambda name: name == CONFIG)]
    try:
        for source, target in moves:
            source.rename(target)
    except BaseException:
        for source, target in reversed(moves):
            if target.exists() and not source.exists():
                target.replace(source)
        raise


def report_files(report: dict[str, Any]) -> dict[str, str]:
    """The texts of a report by file name."""
    stem = f"{report['name']}{REPORT}"
    return {f"{stem}.txt": text_of(report), f"{stem}.json": json.dumps(report, indent=1) + "\n"}


def rewrite(folder: Path, prior: SourcePrior, old: str, new: str | None) -> None:
    """Write a prior back after a source got another name, or none; its report is of the new name, or goes."""
    name = find_learned(SourcePrior.from_pretrained(folder), old).name
    files: dict[str, str] = {}
    if new:
        try:
            report = renamed(json.loads((folder / f"{name}{REPORT}.json").read_text(encoding="utf-8")), new)
            files = report_files(report)
        except (OSError, ValueError, LookupError, TypeError):
            # Deleted, or not as we write them: what there is keeps its text and gets the name of the source.
            pass
        else:
            told = {"sentences": report["sentences"]}
            items = [replace(i, record={**i.record, **told}) if i.name == new else i for i in learned_of(prior)]
            prior = with_sources(prior, items)

    def keep(file: str) -> str | None:
        stem, mark, ending = file.partition(REPORT)
        if stem != name:
            return file
        return new + mark + ending if new else None

    write_folder(prior, folder, files, keep)
