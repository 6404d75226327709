"""Pictures: a mixture and its stems side by side, so that one look shows what went where."""

from __future__ import annotations

import io
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sourceprior.audio import channels_first, decibel, replacing, rms

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOWEST = 50.0
"""Hz at the lower edge of the spectrograms."""
BANDS = 200
MOST_COLUMNS = 900
DYNAMICS = 70.0
"""dB from the loudest point of the picture to black."""


def log_spectrogram(samples: np.ndarray, sample_rate: int, highest: float | None = None) -> np.ndarray:
    """Level in dB `(BANDS, frames)` of mono samples `(N,)`: rows evenly spaced in log frequency, LOWEST to `highest`.

    A sine of amplitude 1 is about 0 dB. Frames are short enough (64 ms) for syllables; where a row is wider than a bin
    it shows the strongest bin, so that no partial is lost.
    """
    size = 2 ** round(np.log2(0.064 * sample_rate))
    hop = max(size // 4, -(-len(samples) // MOST_COLUMNS))
    window = np.hanning(size + 1)[:-1]
    padded = np.pad(samples.astype(np.float32), (size // 2, size))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[: len(samples) + 1 : hop]
    magnitude = np.abs(np.fft.rfft(frames * window, axis=1)).T / (window.sum() / 2)
    edges = np.geomspace(LOWEST, highest or sample_rate / 2, BANDS + 1) * size / sample_rate
    rows = []
    for low, high in itertools.pairwise(edges):
        first, last = int(np.ceil(low)), int(min(np.ceil(high), len(magnitude)))
        if last > first:
            rows.append(magnitude[first:last].max(0))
        else:
            # Narrower than a bin: between the two nearest ones.
            below, part = divmod((low + high) / 2, 1)
            pair = magnitude[[int(below), min(int(below) + 1, len(magnitude) - 1)]]
            rows.append(pair[0] * (1 - part) + pair[1] * part)
    return 20 * np.log10(np.maximum(rows, 1e-10))


def spectrograms(
    signals: Mapping[str, np.ndarray], sample_rate: int, path: Path, notes: Mapping[str, str] = {}
) -> None:
    """Write a PNG with a waveform above a log-frequency spectrogram for each signal, all on the same scales.

    Args:
        signals: title to samples in any accepted shape, all equally long, the mixture first; channels are averaged.
        notes: title to a few words beside the level in its title.

    Raises UserError where the file cannot be written.
    """
    # Encoded first: matplotlib would take the ending of the half-written file for a format.
    encoded = io.BytesIO()
    figure(signals, sample_rate, notes).savefig(encoded, format="png", dpi=110)
    with replacing(path) as part:
        part.write_bytes(encoded.getvalue())


def figure(signals: Mapping[str, np.ndarray], sample_rate: int, notes: Mapping[str, str] | None = None) -> Figure:
    """The figure that `spectrograms` writes."""
    from matplotlib.figure import Figure

    mono = {name: channels_first(samples)[0].mean(0) for name, samples in signals.items()}
    highest = min(sample_rate / 2, 20_000.0)
    levels = {name: log_spectrogram(samples, sample_rate, highest) for name, samples in mono.items()}
    top = max(5 * round(level.max() / 5) for level in levels.values())
    peak = max(float(np.abs(samples).max()) for samples in mono.values()) or 1.0
    seconds = len(next(iter(mono.values()))) / sample_rate

    columns = min(len(mono), 4)
    rows = -(-len(mono) // columns)
    drawing = Figure(figsize=(1.2 + 3.7 * columns, 0.4 + 4.2 * rows), layout="constrained")
    axes = drawing.subplots(2 * rows, columns, sharex=True, squeeze=False, height_ratios=(1, 3.2) * rows)
    image: Any = None
    for index, name in enumerate(mono):
        row, column = divmod(index, columns)
        wave, spectrum = axes[2 * row : 2 * row + 2, column]
        _draw_wave(wave, mono[name], seconds, peak)
        note = f"  {notes[name]}" if notes and name in notes else ""
        wave.set_title(name.replace("_", " "), fontsize=12, fontweight="bold", loc="left")
        wave.set_title(f"{decibel(rms(mono[name])):.1f} dB{note}", fontsize=9, loc="right", color="0.35")
        image = spectrum.imshow(
            levels[name],
            origin="lower",
            aspect="auto",
            cmap="magma",
            extent=(0, seconds, 0, 1),
            vmin=top - DYNAMICS,
            vmax=top,
            interpolation="nearest",
        )
        _frequency_axis(spectrum, highest, labelled=column == 0)
        spectrum.tick_params(labelbottom=True)
        spectrum.set_xlabel("seconds")
    for unused in list(axes[-2:].T.flat)[2 * (len(mono) - columns * (rows - 1)) :]:
        unused.axis("off")
    bar = drawing.colorbar(image, ax=axes, aspect=40, pad=0.01)
    bar.set_label("level in dB full scale")
    return drawing


def _draw_wave(axes: Any, samples: np.ndarray, seconds: float, peak: float) -> None:
    """The waveform's envelope: lowest and highest sample of each of some hundred stretches."""
    stretches = np.array_split(samples, min(600, len(samples)))
    time = (np.arange(len(stretches)) + 0.5) * seconds / len(stretches)
    axes.fill_between(time, [s.min() for s in stretches], [s.max() for s in stretches], color="0.25", linewidth=0.4)
    axes.set(ylim=(-1.05 * peak, 1.05 * peak), xlim=(0, seconds), yticks=[])
    axes.tick_params(labelbottom=False)
    axes.axhline(0, color="0.25", linewidth=0.4)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def _frequency_axis(axes: Any, highest: float, labelled: bool) -> None:
    marks = [f for f in (50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000) if f <= highest]
    axes.set_yticks(np.log(np.array(marks) / LOWEST) / np.log(highest / LOWEST))
    axes.set_yticklabels([f"{f // 1000}k" if f >= 1000 else str(f) for f in marks] if labelled else [])
    if labelled:
        axes.set_ylabel("frequency in Hz")
