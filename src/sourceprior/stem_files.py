"""Stems on disk: written side by side as they come, each moved to its place when it is whole, the report last.

While a folder is written to it holds two more files, LOCK, which keeps other runs out, and UNFINISHED, which tells a
later run what a killed one may have left there.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock, Timeout

from sourceprior import writing
from sourceprior.errors import UserError
from sourceprior.formats import FileFormat, check_rate

if TYPE_CHECKING:
    from sourceprior.plots import Sketch


REPORT, PICTURE = "report.json", "spectrograms.png"
LOCK, UNFINISHED = ".sourceprior.lock", ".unfinished.json"


class StemFiles:
    """Writes the stems, residual, report.json and spectrograms.png of one recording into a folder, piece by piece.

    Stems are rounded to the file's sample type first and the residual is taken against the rounded ones, so that the
    files add up to the mixture as the arrays do. In integer files samples beyond full scale are limited; what that
    takes away is in the residual too, and the report's warnings tell.

    A context: left in good order it moves all files to their places, with an error it leaves none of them.

    Args:
        folder: made if need be.
        names: of the stems.
        shape: channels and samples.
        recording: the file that is separated, which is never written over.
        digest: of the recording's content, if known.
        careful: replace only what a run on this recording has left in the folder.

    Raises UserError where something cannot be written, or another run is writing to the folder.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        names: Sequence[str],
        shape: tuple[int, int],
        sample_rate: int,
        form: FileFormat,
        picture: bool = True,
        *,
        recording: str | os.PathLike[str] | None = None,
        digest: str | None = None,
        careful: bool = False,
    ) -> None:
        self.folder, self.names, self.form, self.sample_rate = make_folder(folder), list(names), form, sample_rate
        self.files = [f"{file_name(name)}.{form.extension}" for name in [*self.names, "residual"]]
        self.shape = shape
        self.recording, self.digest, self.careful = recording, digest, careful
        self._lock = contextlib.ExitStack()
        self.over = dict.fromkeys([*self.names, "residual"], 0)
        self.sketches: dict[str, Sketch] = {}
        if picture:
            from sourceprior.plots import Sketch

            self.sketches = {name: Sketch(shape[1], sample_rate) for name in ("mixture", *self.names)}

    def __enter__(self) -> StemFiles:
        self._open = contextlib.ExitStack()
        with contextlib.ExitStack() as opening:
            self._lock.enter_context(_alone(self.folder))
            opening.push(self._unlock)
            # What a killed run has begun, told of beside the report of one before it.
            begun = _told(self.folder / UNFINISHED).files
            earlier = self._look()
            files = sorted({*earlier, *self.files, *([PICTURE] if self.sketches else [])})
            told = {"mixture": printable(whole_path(self.recording)), "recording": self.digest, "files": files}
            with writing.replacing(self.folder / UNFINISHED) as part:
                part.write_text(json.dumps(told), encoding="utf-8")
            for file in {*earlier, *begun} - {*self.files}:
                _remove(self.folder / f".{file}.part")
            self._put = [
                opening.enter_context(writing.in_pieces(self.folder / file, self.shape, self.sample_rate, self.form))
                for file in self.files
            ]
            # The first to be called: before any file is moved to its place.
            opening.push(self._outdate)
            self._open = opening.pop_all()
        return self

    def _look(self) -> list[str]:
        """Other files that earlier runs have left or begun. Raises UserError for what may or can not be written."""
        check_rate(self.form, self.sample_rate)
        for file in self.files:
            place = self.folder / file
            if self.recording is not None and os.path.realpath(place) == os.path.realpath(self.recording):
                raise UserError(f"{place} is the recording itself: choose another folder with -o.")
        earlier = earlier_run(self.folder)
        if self.careful:
            instead = "choose another folder with -o, or replace what is there with --overwrite."
            if earlier.files and not self._of_this(earlier):
                raise UserError(f"{self.folder} holds the stems of {earlier.mixture or 'an array'}: {instead}")
            known = (REPORT,) if earlier.files else ()
            for file in [*self.files, REPORT, *([PICTURE] if self.sketches else [])]:
                if file not in (*earlier.files, *known) and os.path.lexists(self.folder / file):
                    raise UserError(f"{self.folder} holds another {file}: {instead}")
        return [file for file in earlier.files if file not in self.files]

    def _of_this(self, earlier: Earlier) -> bool:
        """Whether a run was on this recording, which may have moved or changed since."""
        if self.digest is not None and earlier.digest == self.digest:
            return True
        if self.recording is None or earlier.mixture is None or not os.path.isabs(earlier.mixture):
            # Earlier versions told paths as they were typed, which may mean another file by now.
            return False
        return os.path.realpath(earlier.mixture) == os.path.realpath(str(printable(self.recording)))

    def _outdate(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Take the earlier run's report away; it comes back last: where it lies, everything it tells of is whole."""
        if kind is None:
            _remove(self.folder / REPORT)

    def _unlock(self, kind: object, error: BaseException | None, trace: object) -> None:
        """After an error: take away what only an unfinished run needs, unless files lie there that it alone tells of.

        Otherwise the folder stays locked until the report is written.
        """
        if kind is not None:
            whole, files = (self.folder / REPORT).exists(), earlier_run(self.folder).files
            if whole or not any((self.folder / file).exists() for file in files):
                _remove(self.folder / UNFINISHED)
            self._lock.close()

    def add(self, mixture: np.ndarray, stems: np.ndarray) -> None:
        """The next samples: `(channels, n)` and `(stems, channels, n)`."""
        remainder = mixture.astype(np.float64)
        for name, samples, put in zip(self.names, stems, self._put, strict=False):
            remainder = remainder - put(samples)
            self.over[name] += int(np.count_nonzero(np.abs(samples) > 1))
        self._put[-1](remainder)
        self.over["residual"] += int(np.count_nonzero(np.abs(remainder) > 1))
        for sketch, samples in zip(self.sketches.values(), [mixture, *stems], strict=False):
            sketch.add(samples.mean(0))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)

    def report(self, told: Mapping[str, Any]) -> dict[str, Any]:
        """After the files are closed: draw the picture, and write the report with what writing adds to it."""
        with self._lock:
            files = list(self.files)
            if self.sketches:
                from sourceprior.plots import draw

                files.append(PICTURE)
                draw(self.sketches, self.sample_rate, self.folder / PICTURE)
            older = [f for f in earlier_run(self.folder).files if f not in files and (self.folder / f).exists()]
            notes = [f"{file} in {self.folder} is of an earlier separation." for file in older]
            whole = {**told, "warnings": [*told["warnings"], *self._warnings(), *notes], "files": files}
            whole |= {"older": older} if older else {}
            with writing.replacing(self.folder / REPORT) as part:
                text = json.dumps(whole, indent=2, ensure_ascii=False, default=_as_json)
                part.write_text(text + "\n", encoding="utf-8")
            _remove(self.folder / UNFINISHED)
        return whole

    def _warnings(self) -> list[str]:
        kept = "kept" if self.form.is_float else "limited, and the rest put into the residual"
        found = [
            f"{n} has {self.over[n]} samples beyond full scale; they were {kept}." for n in self.names if self.over[n]
        ]
        if self.over["residual"] and not self.form.is_float:
            found.append(
                f"The residual has {self.over['residual']} samples beyond full scale, which are lost, so that the "
                "files do not add up there: write float files with --subtype float."
            )
        return found


@dataclass(frozen=True)
class Earlier:
    """What a run, finished or not, has told of itself in its folder; nothing where there was none."""

    mixture: str | None = None
    digest: str | None = None
    files: Sequence[str] = ()


def earlier_run(folder: Path) -> Earlier:
    """The run that wrote to a folder last."""
    return _told(folder / REPORT, folder / UNFINISHED)


def _told(*places: Path) -> Earlier:
    """What the first of these files that can be read tells."""
    for place in places:
        try:
            told = json.loads(place.read_text(encoding="utf-8"))
            digest = told.get("recording", told.get("request", {}).get("recording"))
            return Earlier(told["mixture"], digest, [str(file) for file in [*told["files"], *told.get("older", [])]])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
    return Earlier()


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder. Raises UserError where another one is in it."""
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locked(folder / LOCK, 0))
        except Timeout as error:
            raise UserError(
                f"Another run is writing to {folder}: wait for it, or choose another folder with -o."
            ) from error
        yield


@contextlib.contextmanager
def locked(file: Path, seconds: float = -1) -> Iterator[None]:
    """Hold a lock file, which a killed process lets go, and remove it; where there are no locks, go on without.

    Args:
        seconds: to wait for it; for ever if negative.

    Raises:
        Timeout: another one has it.
    """
    lock = FileLock(file, timeout=seconds)
    try:
        lock.acquire()
    except Timeout:
        raise
    except (OSError, NotImplementedError):
        # A file system without locks, or a place that may not be written to: as it was before there were any.
        yield
        return
    try:
        yield
    finally:
        # Some systems remove no file that is open: then it stays, and locks nothing.
        with contextlib.suppress(UserError):
            _remove(file)
        lock.release()


def _as_json(value: Any) -> Any:
    """Settings as Python's own numbers, or, of functions and the like, as text."""
    return value.item() if isinstance(value, np.generic) else str(value)


def whole_path(path: str | os.PathLike[str] | None) -> str | None:
    """A path that means the same file from every folder."""
    return None if path is None else os.path.abspath(path)


def printable(path: str | os.PathLike[str] | None) -> str | None:
    """A path as text that can be written down, whatever bytes are in it."""
    return None if path is None else os.fsencode(path).decode("utf-8", "replace")


def make_folder(folder: str | os.PathLike[str]) -> Path:
    """The folder, made if need be. Raises UserError where it cannot be made or written to."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise UserError(f"{folder} is or lies in a file, not a folder: choose another output folder.") from error
    except OSError as error:
        raise UserError(f"The folder {folder} cannot be made: {error.strerror}.") from error
    if not os.access(folder, os.W_OK):
        raise UserError(f"The folder {folder} may not be written to: permission denied.")
    return folder


def refuse_files(paths: Iterable[Path], overwrite: bool, read: Iterable[Path] = ()) -> None:
    """Raise UserError where files are there that `overwrite` does not allow to replace; those `read` are never."""
    read = [path for path in read if path.exists()]
    for path in paths:
        if any(path.exists() and path.samefile(other) for other in read):
            raise UserError(f"{path} is what is read: choose another folder with -o.")
        if path.exists() and not overwrite:
            raise UserError(f"{path} is there already: choose another folder with -o, or add --overwrite.")


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{path} cannot be replaced: {error.strerror}.") from error


def file_name(name: str) -> str:
    """A label as a part of a file's name."""
    return "_".join(name.split()).replace("/", "_").replace("\\", "_")
