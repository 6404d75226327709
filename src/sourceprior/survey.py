"""What one pass over a recording tells: its length, level, offset, and what is odd with it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sourceprior.audio import Stream
from sourceprior.errors import UserError

LOWEST_RATE, HIGHEST_RATE = 8_000, 192_000
MOST_CHANNELS = 8
LOUDEST = 1e12
"""Full scales beyond which no unit makes sense of samples, and their squares leave single precision."""
SHORT = 0.1
"""Seconds below which a recording is reported as too short for the priors to say much."""
STRAY = 0.1
"""Offset (DC), relative to the RMS of what varies, from which on it is taken off before a recording is separated."""
FEW = 4000
"""Samples per channel below which there is no telling an offset from a slow sound."""


@dataclass
class Survey:
    """What one pass over a recording tells.

    Attributes:
        length: samples per channel.
        finite: whether all are numbers.
        energy: sum of squares of each channel, `(channels,)`.
        varying: that of each channel without its mean.
        offset: mean of each channel, `(channels,)`.
        mid_energy: that of the mean of the channels.
        peak: greatest absolute value.
        over: samples beyond full scale.
        stuck: samples at the peak that equal the one before.
    """

    length: int
    finite: bool
    energy: np.ndarray
    varying: np.ndarray
    offset: np.ndarray
    mid_energy: float
    peak: float
    over: int
    stuck: int

    @property
    def stray(self) -> bool:
        """Whether the offset is considerable beside what varies; the mean of very few samples tells nothing."""
        stray = float(np.square(self.offset).mean() * self.length)
        return self.length >= FEW and stray > STRAY**2 * float(self.varying.mean())

    @property
    def rms(self) -> float:
        """Root mean square over all channels, linear."""
        return float(np.sqrt(self.energy.mean() / max(1, self.length)))


def survey(source: Stream) -> Survey:
    """Go through a recording once. Stops at the first sample that is no number."""
    energy, offset, shifted = np.zeros((3, source.channels))
    length, mid_energy, peak, over, stuck = 0, 0.0, 0.0, 0, 0
    first = last = np.zeros((source.channels, 0))
    for piece in source.pieces():
        samples = piece.astype(np.float64)
        if not np.isfinite(samples).all():
            return Survey(length, False, energy, energy, offset, mid_energy, peak, over, stuck)
        first = first if length else samples[:, :1]
        length += samples.shape[1]
        energy += np.square(samples).sum(1)
        mid_energy += float(np.square(samples.mean(0)).sum())
        # Without the first sample's value a constant has a variance of exactly 0.
        offset += (samples - first).sum(1)
        shifted += np.square(samples - first).sum(1)
        size = np.abs(samples)
        over += int(np.count_nonzero(size > 1))
        if size.max() > peak:
            peak, stuck = float(size.max()), 0
        # A clipped wave stays at its peak; a normalised one only touches it.
        before = np.concatenate([last, samples[:, :-1]], axis=1)
        now = slice(samples.shape[1] - before.shape[1], None)
        stuck += int(np.count_nonzero((size[:, now] >= peak) & (samples[:, now] == before)))
        last = samples[:, -1:]
    varying = np.maximum(0, shifted - offset**2 / max(1, length))
    mean = offset / max(1, length) + (first[:, 0] if length else 0.0)
    return Survey(length, True, energy, varying, mean, mid_energy, peak, over, stuck)


def check_recording(seen: Survey, sample_rate: int) -> None:
    """Raise UserError unless a recording of which that was seen can be separated."""
    if not LOWEST_RATE <= sample_rate <= HIGHEST_RATE:
        raise UserError(
            f"The sample rate must be {LOWEST_RATE} to {HIGHEST_RATE} Hz; this recording has {sample_rate} Hz."
        )
    if not 1 <= len(seen.energy) <= MOST_CHANNELS:
        raise UserError(f"At most {MOST_CHANNELS} channels can be separated; this recording has {len(seen.energy)}.")
    if not seen.finite:
        raise UserError("The recording has samples that are not finite (NaN or infinity).")
    if seen.length == 0:
        raise UserError("The recording is empty: it has no samples.")
    if seen.peak > LOUDEST:
        raise UserError(f"The recording has samples of up to {seen.peak:.0e} times full scale: it is damaged.")
    if seen.rms < 1e-7:
        raise UserError("The recording is silent: there is nothing to separate.")
    if seen.length > 1 and np.sqrt(seen.varying.mean() / seen.length) < 1e-7:
        raise UserError("The recording is a constant (DC) without any sound: there is nothing to separate.")


def oddities(seen: Survey, sample_rate: int) -> list[str]:
    """Sentences about what a person should know of a recording that can be separated."""
    notes = []
    if seen.stray:
        most = float(np.abs(seen.offset).max())
        notes.append(f"The recording has an offset (DC) of {most:.2g} of full scale, which is left to the residual.")
    if seen.length < SHORT * sample_rate:
        plural = "sample" if seen.length == 1 else "samples"
        notes.append(f"The recording has {seen.length} {plural}: too little for the priors to tell sources apart.")
    if seen.over:
        notes.append(f"The recording has {seen.over} samples beyond full scale.")
    if seen.peak > 0.9 and seen.stuck >= 10:
        notes.append("The recording is clipped; stems hold the distortion, too.")
    return notes
