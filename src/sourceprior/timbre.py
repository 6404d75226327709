"""Voices that sound alike, found among the speakers of a data set without anybody naming them.

Two recordings of speech are told apart by what differs between their speakers: pitch, the size of the mouth, the room
and microphone. Each speaker is described by a few numbers for these, and k-means makes groups of them. A prior learns
one label per group, "voice_1" (lowest) and so on; which two of them are in a mixture is found when it is separated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sourceprior.datasets import SPOKEN, ClipBank
from sourceprior.errors import UserError

FRAME, HOP = 0.064, 0.02
"""Seconds of a frame, wide enough for three periods of the lowest voice, and between frames."""
PITCH = 65.0, 420.0
"""Range of the pitch in Hz."""
BANDS = 10
PITCH_WEIGHT = 2.5
"""Of the pitch beside each band's level, both in units of their deviation over the speakers: it does most."""


def describe_voice(wave: np.ndarray, rate: int, seconds: float = 40.0) -> np.ndarray:
    """Median pitch (octaves above 100 Hz) and levels in `BANDS` bands (dB, mean removed) of a speaker, `(1 + BANDS,)`.

    Args:
        wave: recordings of one speaker `(N,)`, any scale.
        rate: Hz.
        seconds: how much of them to look at, from the beginning.
    """
    x = wave[: round(seconds * rate)].astype(np.float64)
    size = round(FRAME * rate)
    x = np.pad(x, (0, max(0, size - len(x))))
    window = np.hanning(size)
    frames = np.lib.stride_tricks.sliding_window_view(x, size)[:: round(HOP * rate)] * window
    energy = np.square(frames).sum(1)
    loud = frames[energy >= 0.3 * energy.mean()]
    power = np.square(np.abs(np.fft.rfft(loud, 2 * size)))
    edges = 120.0 * (0.46 * rate / 120.0) ** (np.arange(BANDS + 1) / BANDS)
    bins = np.round(edges / rate * 2 * size).astype(int)
    level = 10 * np.log10(np.add.reduceat(power.mean(0), bins)[:-1] + 1e-12 * power.mean() + 1e-12)
    # Autocorrelation of the frame over that of its window (Boersma 1993): a periodic frame has 1 at its period.
    correlation = np.fft.irfft(power)[:, :size]
    taper = np.fft.irfft(np.square(np.abs(np.fft.rfft(window, 2 * size))))[:size]
    ratio = correlation / np.maximum(correlation[:, :1], 1e-12) / np.maximum(taper / taper[0], 1e-3)
    low, high = int(rate / PITCH[1]), int(rate / PITCH[0])
    # A small slope against longer lags: twice the period fits as well.
    scores = ratio[:, low:high] - 0.1 * np.arange(high - low) / (high - low)
    lag = scores.argmax(1) + low
    voiced = ratio[np.arange(len(lag)), lag] > 0.6
    pitch = np.median(np.log2(rate / lag[voiced] / 100)) if voiced.any() else 1.0
    return np.concatenate([[pitch], level - level.mean()])


@dataclass(frozen=True)
class Timbre:
    """Groups of voices.

    Attributes:
        scale: deviation of each number over the speakers, divided by its weight `(D,)`.
        centres: mean of each group in these units, `(groups, D)`, lowest pitch first.
    """

    scale: np.ndarray
    centres: np.ndarray

    @property
    def labels(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(f"voice_{k + 1}" for k in range(len(self.centres)))

    @classmethod
    def fit(cls, bank: ClipBank, groups: int, seed: int = 0) -> Timbre:
        """Groups of the speakers of a bank, at most as many as there are speakers. Raises UserError if it has none."""
        from sklearn.cluster import KMeans

        voices = spoken(bank)
        if not voices:
            raise UserError("The data has no speech whose voices could be told apart: leave out --voice-groups.")
        found = np.stack([describe_voice(bank.clip(i), bank.sample_rate) for i in voices])
        weight = np.array([PITCH_WEIGHT, *[1.0] * BANDS])
        scale = (found.std(0) + 1e-6) / weight
        means = KMeans(min(groups, len(found)), n_init=20, random_state=seed).fit(found / scale).cluster_centers_
        return cls(scale, means[np.argsort(means[:, 0])])

    def assign(self, bank: ClipBank) -> None:
        """Give each speaker of a bank the group with the nearest centre."""
        bank.voices = self.labels
        for i in spoken(bank):
            found = describe_voice(bank.clip(i), bank.sample_rate) / self.scale
            bank.voice[i] = int(np.square(self.centres - found).sum(1).argmin())


def spoken(bank: ClipBank) -> Sequence[int]:
    """Which clips of a bank are speech."""
    return [i for i, label in enumerate(bank.label.tolist()) if bank.labels[label] in SPOKEN]
