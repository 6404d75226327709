"""How loud a recording is around each moment: priors expect their sources at one level, and a long recording has many.

A window of a quiet passage is as far below the level at which the priors were trained as it is below the recording's
mean. So the mixture is multiplied by a gain that follows its loudness over some seconds, and the stems are divided by
it. Stems add up to the mixture at every sample whatever the gain is.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

GRID = 0.25
"""Seconds between two values of a recording's loudness."""
REACH = 4.0
"""Seconds before and after a moment that count, with Hann weights; in training levels are those of 4 s."""
QUIETEST = 10 ** (-25 / 20)
"""RMS below which nothing is raised any more, relative to the recording's: silence stays silent."""


def step_samples(rate: int) -> int:
    """Samples between two values of a loudness."""
    return max(1, round(GRID * rate))


class Energies:
    """Adds up the energy of every GRID seconds of a signal that comes in pieces."""

    def __init__(self, rate: int) -> None:
        self.step = step_samples(rate)
        self.length, self._sums, self._rest = 0, [np.zeros(0)], np.zeros(0)

    def add(self, piece: np.ndarray) -> None:
        """The next samples `(n,)`."""
        self.length += len(piece)
        samples = np.concatenate([self._rest, np.square(piece, dtype=np.float64)])
        whole = len(samples) // self.step * self.step
        self._sums.append(samples[:whole].reshape(-1, self.step).sum(1))
        self._rest = samples[whole:]

    def sums(self) -> np.ndarray:
        """Energy of every step, `(steps,)`; the last one may be a short one."""
        return np.concatenate([*self._sums, self._rest.sum(keepdims=True)])

    def rms(self) -> np.ndarray:
        """RMS around the middle of every step, `(steps,)`, no lower than QUIETEST times the whole signal's."""
        sums = self.sums()
        sizes = np.full(len(sums), float(self.step))
        sizes[-1] = len(self._rest)
        total = sums.sum() / max(1, self.length)
        reach = round(REACH / GRID)
        weight = np.hanning(2 * reach + 3)[1:-1]
        energy = around(sums, weight) / np.maximum(around(sizes, weight), 1e-9)
        return np.sqrt(np.maximum(energy, QUIETEST**2 * total))


def around(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Weighted sums of values `(n,)` around each of them; `weight` `(2 r + 1,)`."""
    reach = len(weight) // 2
    padded = np.concatenate([np.zeros(reach), values, np.zeros(reach)])
    return np.convolve(padded, weight, mode="valid")


def per_step(products: Tensor, rate: int) -> np.ndarray:
    """Sums of `(..., N)` over every GRID seconds, `(..., steps)`, the last one perhaps shorter; float64."""
    step = step_samples(rate)
    padded = torch.nn.functional.pad(products, (0, -products.shape[-1] % step))
    return np.asarray(padded.cpu().unfold(-1, step, step).double().sum(-1).numpy())


def sums_around(energies: np.ndarray, seconds: float) -> np.ndarray:
    """Sums over so many seconds around every step of energies `(..., steps)`; ends count as zeros."""
    weight = np.ones(2 * round(seconds / 2 / GRID) + 1)
    return np.apply_along_axis(around, -1, energies, weight)


def between(values: np.ndarray, step: int, start: int, stop: int) -> Tensor:
    """Values in the middle of steps of so many samples, joined by straight lines: samples start to stop, float32."""
    middles = (np.arange(len(values)) + 0.5) * step
    return torch.from_numpy(np.interp(np.arange(start, stop), middles, values).astype(np.float32))
