"""Files that several processes of one run write at once: each writes one of its own and moves it into place."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import soundfile

from sourceprior.errors import UserError


@contextlib.contextmanager
def in_place(path: Path) -> Iterator[Path]:
    """Give a path beside `path` that no other process has; move it to `path` if the block ends well, else remove it.

    `writing.replacing` takes one name for all processes, of which the second then finds its file gone.

    Raises:
        UserError: the file cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        part.replace(path)
    except (OSError, soundfile.LibsndfileError) as error:
        raise UserError(f"{path} cannot be written: {getattr(error, 'strerror', None) or error}.") from error
    finally:
        part.unlink(missing_ok=True)
