"""Signals that come in pieces of any length, and are wanted in other lengths."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

import numpy as np


class Pieces:
    """Takes exact lengths from arrays `(..., n)` that come one after another."""

    def __init__(self, arrays: Iterable[np.ndarray]) -> None:
        self._arrays: Iterator[np.ndarray] = iter(arrays)
        self._held: np.ndarray | None = None

    def take(self, count: int) -> np.ndarray:
        """The next `count` samples `(..., count)`; fewer where the signal ends, and an error where it never began."""
        held = [] if self._held is None else [self._held]
        while sum(array.shape[-1] for array in held) < count:
            array = next(self._arrays, None)
            if array is None:
                break
            held.append(array)
        whole = np.concatenate(held, axis=-1) if len(held) != 1 else held[0]
        # A copy, so that a small rest does not keep a large piece in memory.
        self._held = whole[..., count:].copy()
        return whole[..., :count]


def loudest(arrays: Iterable[np.ndarray], length: int, grid: int) -> np.ndarray:
    """The `length` samples with the greatest energy that begin at a multiple of `grid`; all if there are no more.

    Args:
        arrays: `(n,)` one after another; only about `length` samples of them are in memory.
    """
    pieces, best, most = Pieces(arrays), np.zeros(0), -1.0
    held: deque[np.ndarray] = deque()
    energies: deque[float] = deque()
    total = 0
    while True:
        step = pieces.take(grid)
        if step.size:
            held.append(step)
            energies.append(_energy(step))
            total += len(step)
        if total >= length or step.size < grid:
            energy = sum(energies) - (_energy(held[0][: total - length]) if total > length else 0.0)
            if energy > most:
                best, most = np.concatenate(held)[-length:] if held else np.zeros(0), energy
        if step.size < grid:
            return best
        while held and total - len(held[0]) >= length:
            total -= len(held.popleft())
            energies.popleft()


def _energy(samples: np.ndarray) -> float:
    return float(np.square(samples, dtype=np.float64).sum())
