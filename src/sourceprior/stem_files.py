"""Stems on disk: written side by side as they come, each moved to its place when it is whole, the report last."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from sourceprior import audio
from sourceprior.errors import UserError

if TYPE_CHECKING:
    from sourceprior.plots import Sketch


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

    Raises UserError where something cannot be written.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        names: Sequence[str],
        shape: tuple[int, int],
        sample_rate: int,
        form: audio.FileFormat,
        picture: bool = True,
    ) -> None:
        self.folder, self.names, self.form, self.sample_rate = make_folder(folder), list(names), form, sample_rate
        self.files = [f"{_file_name(name)}.{form.extension}" for name in [*self.names, "residual"]]
        self.shape = shape
        self.over = dict.fromkeys(self.names, 0)
        self.sketches: dict[str, Sketch] = {}
        if picture:
            from sourceprior.plots import Sketch

            self.sketches = {name: Sketch(shape[1], sample_rate) for name in ("mixture", *self.names)}

    def __enter__(self) -> StemFiles:
        # The report is written last: where it lies, everything it tells of is whole.
        _remove(self.folder / "report.json")
        self._open = contextlib.ExitStack()
        with contextlib.ExitStack() as opening:
            self._put = [
                opening.enter_context(audio.writing(self.folder / file, self.shape, self.sample_rate, self.form))
                for file in self.files
            ]
            self._open = opening.pop_all()
        return self

    def add(self, mixture: np.ndarray, stems: np.ndarray) -> None:
        """The next samples: `(channels, n)` and `(stems, channels, n)`."""
        remainder = mixture.astype(np.float64)
        for name, samples, put in zip(self.names, stems, self._put, strict=False):
            remainder = remainder - put(samples)
            self.over[name] += int(np.count_nonzero(np.abs(samples) > 1))
        self._put[-1](remainder)
        for sketch, samples in zip(self.sketches.values(), [mixture, *stems], strict=False):
            sketch.add(samples.mean(0))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)

    def report(self, told: Mapping[str, Any]) -> dict[str, Any]:
        """After the files are closed: draw the picture, and write the report with what writing adds to it."""
        files = list(self.files)
        if self.sketches:
            from sourceprior.plots import draw

            files.append("spectrograms.png")
            draw(self.sketches, self.sample_rate, self.folder / "spectrograms.png")
        kept = "kept" if self.form.is_float else "limited, and the rest put into the residual"
        limited = [
            f"{n} has {over} samples beyond full scale; they were {kept}." for n, over in self.over.items() if over
        ]
        whole = {**told, "warnings": [*told["warnings"], *limited], "files": files}
        with audio.replacing(self.folder / "report.json") as part:
            part.write_text(json.dumps(whole, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        return whole


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


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{path} cannot be replaced: {error.strerror}.") from error


def _file_name(name: str) -> str:
    return "_".join(name.split()).replace("/", "_").replace("\\", "_")
