"""Many recordings with one request: what is done is skipped, one bad file stops no other, processes share the work.

A recording is done if its folder has a report.json, which is written last, that tells of the same request, and the
files it names are there. An interrupted run therefore goes on where it was when the same command comes again.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sourceprior import audio
from sourceprior.audio import ENDINGS
from sourceprior.errors import UserError, alternatives, out_of_memory
from sourceprior.formats import check_names, choose_format
from sourceprior.stem_files import earlier_run
from sourceprior.version import __version__

if TYPE_CHECKING:
    from sourceprior.sampling import Settings

ENGINES = ("local", "ray")
NOT_PART_OF_THE_RESULT = ("batch",)
"""Settings that do not change the stems beyond rounding."""


@dataclass(frozen=True)
class Job:
    """One recording, and the folder for its stems."""

    path: Path
    folder: Path


@dataclass(frozen=True)
class Request:
    """What is wanted of every recording.

    Attributes:
        labels: the sources.
        prior: folders or hub names; None for the bundled priors.
        options: further arguments of `separation.separate`.
        container, subtype: of the stems, as in `choose_format`; None for the recording's own.
        picture: whether spectrograms.png is drawn.
        device: where the networks run.
    """

    labels: tuple[str, ...]
    prior: tuple[str, ...] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    container: str | None = None
    subtype: str | None = None
    picture: bool = True
    device: str = "auto"

    def check(self) -> None:
        """Raise UserError for whatever is wrong with the request itself, before any recording is looked at."""
        from sourceprior.labels import find
        from sourceprior.sampling import check_sources, find_device
        from sourceprior.separation import check_seed

        sources = find(self.labels, _priors(self.prior))
        check_seed(self.options.get("seed", 0))
        check_sources(sources, self._chosen(), find_device(self.device))
        check_names(self.container, self.subtype)

    def of(self, path: Path) -> dict[str, Any]:
        """Everything that the result for one recording depends on, as it stands in report.json."""
        try:
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}.") from error
        return {
            "sourceprior": __version__,
            "recording": content,
            "priors": [prior.name for prior in _priors(self.prior)],
            "weights": _weights(self.prior),
            "labels": list(self.labels),
            "settings": self._settings(),
            "format": self.container,
            "subtype": self.subtype,
            "picture": self.picture,
        }

    def _chosen(self) -> Settings:
        from sourceprior.sampling import settings_of
        from sourceprior.separation import noise_level

        own = {name: value for name, value in self.options.items() if name not in ("seed", "residual", "noise_db")}
        noise_db = noise_level(self.options.get("residual"), self.options.get("noise_db"))
        return settings_of(**{"preset": "default"} | own, noise_db=noise_db)

    def _settings(self) -> dict[str, Any]:
        settings = asdict(self._chosen())
        kept = {name: value for name, value in settings.items() if name not in NOT_PART_OF_THE_RESULT}
        kept |= {"seed": self.options.get("seed", 0), "residual": self.options.get("residual")}
        return dict(json.loads(json.dumps(kept, default=str)))


@dataclass(frozen=True)
class Outcome:
    """What became of one recording.

    Attributes:
        status: done, skipped or failed.
        message: why it failed.
        report: what report.json holds, unless it failed.
    """

    job: Job
    status: str
    message: str = ""
    report: Mapping[str, Any] = field(default_factory=dict)


def find_jobs(paths: Sequence[Path], out: Path) -> list[Job]:
    """The recordings that paths stand for, and a folder for each.

    One file gets `out` itself. Otherwise every file gets a folder below `out`, named as the file without its ending,
    or with it where two would share one; a folder given stands for all recordings below it, whose order and
    sub-folders are kept. What lies in `out`, if that is inside, is no recording, nor are the stems of earlier runs.

    Raises UserError for a folder without recordings, one that may not be listed, or one that is `out` as well.
    """
    if len(paths) == 1 and not audio.is_folder(paths[0]):
        return [Job(paths[0], out)]
    found: dict[Path, Path] = {}
    for path in paths:
        if not audio.is_folder(path):
            found.setdefault(path, Path(path.name))
            continue
        if _real(path) == _real(out):
            raise UserError(f"{path} holds the recordings: choose another folder for the stems with -o.")
        inside = _recordings(path, out)
        if not inside:
            raise UserError(f"The folder {path} holds no recordings.")
        for file in inside:
            found.setdefault(file, file.relative_to(path))
    taken: set[Path] = set()
    short = [name.with_suffix("") for name in found.values()]
    jobs = []
    for path, name in found.items():
        wanted = name.with_suffix("") if short.count(name.with_suffix("")) == 1 else name
        folder, number = wanted, 1
        while folder in taken:
            number += 1
            folder = wanted.with_name(f"{wanted.name}_{number}")
        taken.add(folder)
        jobs.append(Job(path, out / folder))
    return jobs


def _recordings(folder: Path, out: Path) -> list[Path]:
    """What lies below a folder and is to be separated, sorted.

    Among it what the system keeps to itself, files that may not be looked at and sub-folders that may not be listed:
    when their turn comes they fail, so that a person hears of them, and the others are done. Raises UserError where
    the folder itself may not be listed.
    """
    refused: list[Path] = []
    inside = _within(out, folder)

    def refuse(error: OSError) -> None:
        if Path(error.filename) == folder:
            raise UserError(f"The folder {folder} may not be read: {error.strerror}.") from error
        refused.append(Path(error.filename))

    files = []
    for place, _, names in os.walk(folder, onerror=refuse):
        ours = set(earlier_run(Path(place)).files)
        files += [Path(place, name) for name in names if name not in ours]
    wanted = [file for file in files if file.suffix.lower() in ENDINGS and _may_be_a_file(file)]
    return sorted(
        path for path in wanted + refused if not _hidden(path, folder) and not (inside and _within(path, out))
    )


def _may_be_a_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return True


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _within(path: Path, out: Path) -> bool:
    real, place = _real(path), _real(out)
    return real == place or place in real.parents


def _real(path: Path) -> Path:
    """Where a path leads; unlike `Path.resolve` with no error for links in a circle."""
    return Path(os.path.realpath(path))


def finished(folder: Path, request: Mapping[str, Any]) -> dict[str, Any] | None:
    """The report in a folder if it tells of that very request and its files are there, else None."""
    try:
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        whole = report["request"] == request and all((folder / name).is_file() for name in report["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return dict(report) if whole else None


def separate_one(
    job: Job, request: Request, *, overwrite: bool = False, callback: Callable[[int, int], None] | None = None
) -> Outcome:
    """Separate one recording, unless that is done already. Raises UserError as `separate` and `save` do."""
    from sourceprior import separation

    # First, so that nobody waits for stems that cannot be written.
    form = choose_format(audio.format_of(job.path), request.container, request.subtype)
    asked = request.of(job.path)
    if not overwrite and (report := finished(job.folder, asked)):
        return Outcome(job, "skipped", report=report)
    report = separation.separate_file(
        job.path,
        job.folder,
        request.labels,
        form=form,
        picture=request.picture,
        notes={"request": asked},
        overwrite=overwrite,
        prior=_priors(request.prior),
        device=request.device,
        callback=callback,
        **request.options,
    )
    return Outcome(job, "done", report=report)


def attempt(job: Job, request: Request, overwrite: bool = False) -> Outcome:
    """`separate_one`, whatever goes wrong."""
    try:
        return separate_one(job, request, overwrite=overwrite)
    except UserError as error:
        return Outcome(job, "failed", str(error))
    except Exception as error:
        if out_of_memory(error):
            return Outcome(job, "failed", "There was not enough memory; try a shorter --segment or a smaller --batch.")
        return Outcome(job, "failed", f"An error of sourceprior itself: {type(error).__name__}: {error}")


def separate_many(
    jobs: Sequence[Job],
    request: Request,
    *,
    processes: int | None = None,
    overwrite: bool = False,
    engine: str = "local",
) -> Iterator[Outcome]:
    """Outcomes of all jobs, as they come in. A job that takes its process with it fails, too, and alone.

    Args:
        processes: jobs at a time; None for one at a time, on a cluster for as many as it has processors.
        engine: "local", or "ray" for a Ray cluster, see `cluster`.
    """
    if engine == "ray":
        from sourceprior.cluster import on_ray

        yield from on_ray(jobs, request, at_once=processes, overwrite=overwrite)
        return
    processes = processes or 1
    if processes == 1 or len(jobs) == 1:
        yield from (attempt(job, request, overwrite) for job in jobs)
        return
    waiting = deque(jobs)
    while waiting:
        lost: list[Job] = []
        for outcome in _pooled(waiting, request, min(processes, len(waiting)), overwrite):
            if isinstance(outcome, Job):
                lost.append(outcome)
            else:
                yield outcome
        # Nobody knows which of the jobs then running brought the pool down: each gets a process of its own.
        for job in lost:
            for outcome in _pooled(deque([job]), request, 1, overwrite):
                if isinstance(outcome, Job):
                    yield Outcome(job, "failed", "Its process was killed, perhaps for want of memory.")
                else:
                    yield outcome


def _pooled(waiting: deque[Job], request: Request, processes: int, overwrite: bool) -> Iterator[Outcome | Job]:
    """Outcomes from a pool of processes, and the jobs that were lost when one of them died; then the rest waits on."""
    context = multiprocessing.get_context("spawn")
    leash, held = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(processes, context, _start, (leash, processes))
    try:
        running: dict[Future[Outcome], Job] = {}
        whole = True
        while running or (waiting and whole):
            # No more than are worked on: what waits in a pool is lost with it.
            while whole and waiting and len(running) < processes:
                try:
                    running[pool.submit(_attempt, waiting[0], request, overwrite)] = waiting[0]
                    waiting.popleft()
                except BrokenProcessPool:
                    whole = False
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                job = running.pop(future)
                try:
                    yield future.result()
                except BrokenProcessPool:
                    whole = False
                    yield job
    finally:
        # Ends the workers at once, in the middle of their work if need be.
        held.close()
        pool.shutdown(cancel_futures=True)
        leash.close()


_idle = threading.Event()
"""Of a worker: nothing is under way."""
_idle.set()
LAST_WISH = 5.0
"""Seconds a worker has for removing half-written files when it has to end."""


def _attempt(job: Job, request: Request, overwrite: bool) -> Outcome:
    _idle.clear()
    try:
        return attempt(job, request, overwrite)
    except SystemExit:
        # Sent back, it would end the parent and all other jobs with it. Half-written files are away by now.
        os._exit(1)
    finally:
        _idle.set()


def _start(leash: Connection, processes: int) -> None:
    """Make a worker end with its parent, however that ends: then the other end of the leash is closed.

    Its share of the processor's threads is one of `processes`.
    """
    import torch

    def stop(*_: Any) -> None:
        raise SystemExit(1)

    def watch() -> None:
        leash.poll(None)
        if not _idle.is_set():
            # In the main thread, where the half-written files are.
            os.kill(os.getpid(), signal.SIGTERM)
            _idle.wait(LAST_WISH)
        os._exit(1)

    # Ctrl-C goes to all processes of a terminal; the parent decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, stop)
    threading.Thread(target=watch, daemon=True).start()
    torch.set_num_threads(max(1, torch.get_num_threads() // processes))


@cache
def _priors(names: tuple[str, ...] | None) -> list[Any]:
    from sourceprior.library import load_priors

    return load_priors(names)


@cache
def _weights(names: tuple[str, ...] | None) -> str:
    """A digest of everything the priors' networks know, and of how they are read."""
    digest = hashlib.sha256()
    for prior in _priors(names):
        read = [prior.labels, prior.level, prior.sample_rate]
        read += [prior.config.get(name) for name in ("network", "denoiser", "parts", "precision")]
        digest.update(json.dumps(read, default=str).encode())
        for name, value in sorted(prior.denoiser.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def check_sharing(engine: str, processes: int | None) -> None:
    """Raise UserError for an engine that does not exist, or fewer than one job at a time."""
    if engine not in ENGINES:
        raise UserError(f"There is no engine {engine!r}; choose {alternatives(ENGINES)}.")
    if processes is not None and processes < 1:
        raise UserError(f"jobs must be 1 or more, not {processes}.")


def counts(outcomes: Iterable[Outcome]) -> dict[str, int]:
    """How many are done, skipped and failed."""
    statuses = [outcome.status for outcome in outcomes]
    return {status: statuses.count(status) for status in ("done", "skipped", "failed")}
