"""Memory between two blocks of a long recording."""

from __future__ import annotations

import contextlib
import ctypes


def give_back() -> None:
    """Let the C library return what is free to the system, where it can (glibc).

    Large arrays come and go with every step, and smaller ones between them keep the holes from being returned.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
