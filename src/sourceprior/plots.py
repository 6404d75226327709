"""Pictures: a mixture and its stems side by side, so that one look shows what went where."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sourceprior.audio import channels_first, decibel
from sourceprior.writing import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOWEST = 50.0
"""Hz at the lower edge of the spectrograms."""
BANDS = 200
MOST_COLUMNS = 900
STRETCHES = 600
"""Of the waveform's envelope."""
DYNAMICS = 70.0
"""dB from the loudest point of the picture to black."""


class Sketch:
    """What a picture shows of a mono signal that comes in pieces: spectrogram, envelope, level, in bounded memory.

    Args:
        length: samples in all.
        highest: Hz at the upper edge; by default the picture's usual one.
    """

    def __init__(self, length: int, sample_rate: int, highest: float | None = None) -> None:
        self.length, self.sample_rate = length, sample_rate
        self.highest = highest or top_of_picture(sample_rate)
        self.size = 2 ** round(np.log2(0.064 * sample_rate))
        self.hop = max(self.size // 4, -(-length // MOST_COLUMNS))
        edges = np.geomspace(LOWEST, self.highest, BANDS + 1) * self.size / sample_rate
        whole = np.minimum(np.ceil(edges).astype(int), self.size // 2 + 1)
        # A row shows the bins between its edges; one that is narrower than a bin its middle, between the two nearest.
        self.wide = np.diff(whole) > 0
        self.bins = np.stack([whole[:-1], whole[1:]], axis=1)[self.wide].ravel()
        self.middle = (edges[:-1] + edges[1:]) / 2
        self.columns: list[np.ndarray] = []
        count = min(STRETCHES, max(1, length))
        # Those of np.array_split, without an array as long as the recording.
        part, longer = divmod(max(1, length), count)
        self.edges = np.arange(count) * part + np.minimum(np.arange(count), longer)
        self.low, self.high = np.full(count, np.inf), np.full(count, -np.inf)
        self.energy, self.position = 0.0, 0
        # Frames are centred, with zeros outside.
        self.held, self.begin = np.zeros(self.size // 2, np.float32), -(self.size // 2)

    def add(self, samples: np.ndarray) -> None:
        """The next samples `(n,)`."""
        if not len(samples):
            return
        inside = np.searchsorted(self.edges, self.position + np.arange(len(samples)), side="right") - 1
        first = np.flatnonzero(np.diff(inside, prepend=-1))
        which = inside[first]
        self.low[which] = np.minimum(self.low[which], np.minimum.reduceat(samples, first))
        self.high[which] = np.maximum(self.high[which], np.maximum.reduceat(samples, first))
        self.energy += float(np.square(samples, dtype=np.float64).sum())
        self.position += len(samples)
        self._frames(samples.astype(np.float32))

    @property
    def rms(self) -> float:
        """Root mean square, linear."""
        return (self.energy / max(1, self.length)) ** 0.5

    @property
    def peak(self) -> float:
        """Greatest absolute value."""
        return float(max(self.high.max(), -self.low.min()))

    def spectrogram(self) -> np.ndarray:
        """Level in dB `(BANDS, columns)`: rows evenly spaced in log frequency, LOWEST to `highest`, once all is added.

        A sine of amplitude 1 is about 0 dB. Frames are short enough (64 ms) for syllables; where a row is wider than a
        bin it shows the strongest bin, so that no partial is lost.
        """
        if len(self.columns) * self.hop <= self.length:
            self._frames(np.zeros(self.size, np.float32))
        return 20 * np.log10(np.maximum(np.stack(self.columns, axis=1), 1e-10))

    def _frames(self, samples: np.ndarray) -> None:
        """Columns of the frames that are whole now."""
        self.held = np.concatenate([self.held, samples])
        window = np.hanning(self.size + 1)[:-1]
        while (centre := len(self.columns) * self.hop) <= self.length:
            start = centre - self.size // 2 - self.begin
            if start + self.size > len(self.held):
                break
            frame = self.held[start : start + self.size] * window
            self.columns.append(self._rows(np.abs(np.fft.rfft(frame)) / (window.sum() / 2)))
        done = min(len(self.held), max(0, len(self.columns) * self.hop - self.size // 2 - self.begin))
        self.held, self.begin = self.held[done:].copy(), self.begin + done

    def _rows(self, magnitude: np.ndarray) -> np.ndarray:
        """Bins `(size/2 + 1,)` to rows `(BANDS,)`."""
        below = np.minimum(self.middle.astype(int), len(magnitude) - 1)
        above, part = np.minimum(below + 1, len(magnitude) - 1), self.middle % 1
        rows = magnitude[below] * (1 - part) + magnitude[above] * part
        # Every second one of these maxima is of a row; one may begin where the bins end.
        rows[self.wide] = np.maximum.reduceat(np.append(magnitude, 0.0), self.bins)[::2]
        return rows


def top_of_picture(sample_rate: int) -> float:
    """Hz at the upper edge of a picture."""
    return min(sample_rate / 2, 20_000.0)


def sketch(samples: np.ndarray, sample_rate: int, highest: float | None = None) -> Sketch:
    """The sketch of mono samples `(N,)`."""
    made = Sketch(len(samples), sample_rate, highest)
    made.add(samples)
    return made


def log_spectrogram(samples: np.ndarray, sample_rate: int, highest: float | None = None) -> np.ndarray:
    """`Sketch.spectrogram` of mono samples `(N,)`, up to `highest` or half the sample rate."""
    return sketch(samples, sample_rate, highest or sample_rate / 2).spectrogram()


def spectrograms(
    signals: Mapping[str, np.ndarray], sample_rate: int, path: Path, notes: Mapping[str, str] = {}
) -> None:
    """Write a PNG with a waveform above a log-frequency spectrogram for each signal, all on the same scales.

    Args:
        signals: title to samples in any accepted shape, all equally long, the mixture first; channels are averaged.
        notes: title to a few words beside the level in its title.

    Raises UserError where the file cannot be written.
    """
    draw(_sketches(signals, sample_rate), sample_rate, path, notes)


def draw(sketches: Mapping[str, Sketch], sample_rate: int, path: Path, notes: Mapping[str, str] = {}) -> None:
    """`spectrograms` of signals that were sketched as they came. Raises UserError where the file cannot be written."""
    save_picture(_figure(sketches, sample_rate, notes), path)


def save_picture(drawing: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all. Raises UserError where that cannot be done."""
    # Encoded first: matplotlib would take the ending of the half-written file for a format.
    encoded = io.BytesIO()
    drawing.savefig(encoded, format="png", dpi=110)
    with replacing(path) as part:
        part.write_bytes(encoded.getvalue())


def plain(label: str) -> str:
    """A label as matplotlib shows it as it is: between two dollars it would read a formula."""
    return label.replace("$", r"\$")


def figure(signals: Mapping[str, np.ndarray], sample_rate: int, notes: Mapping[str, str] | None = None) -> Figure:
    """The figure that `spectrograms` writes."""
    return _figure(_sketches(signals, sample_rate), sample_rate, notes or {})


def _sketches(signals: Mapping[str, np.ndarray], sample_rate: int) -> dict[str, Sketch]:
    return {name: sketch(channels_first(samples)[0].mean(0), sample_rate) for name, samples in signals.items()}


def _figure(mono: Mapping[str, Sketch], sample_rate: int, notes: Mapping[str, str]) -> Figure:
    from matplotlib.figure import Figure

    highest = top_of_picture(sample_rate)
    levels = {name: made.spectrogram() for name, made in mono.items()}
    top = max(5 * round(level.max() / 5) for level in levels.values())
    peak = max(made.peak for made in mono.values()) or 1.0
    seconds = next(iter(mono.values())).length / sample_rate

    columns = min(len(mono), 4)
    rows = -(-len(mono) // columns)
    drawing = Figure(figsize=(1.2 + 3.7 * columns, 0.4 + 4.2 * rows), layout="constrained")
    axes = drawing.subplots(2 * rows, columns, sharex=True, squeeze=False, height_ratios=(1, 3.2) * rows)
    image: Any = None
    for index, name in enumerate(mono):
        row, column = divmod(index, columns)
        wave, spectrum = axes[2 * row : 2 * row + 2, column]
        _draw_wave(wave, mono[name], seconds, peak)
        note = f"  {notes[name]}" if name in notes else ""
        wave.set_title(plain(name).replace("_", " "), fontsize=12, fontweight="bold", loc="left")
        wave.set_title(f"{decibel(mono[name].rms):.1f} dB{note}", fontsize=9, loc="right", color="0.35")
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


def _draw_wave(axes: Any, made: Sketch, seconds: float, peak: float) -> None:
    """The waveform's envelope: lowest and highest sample of each of some hundred stretches."""
    time = (np.arange(len(made.low)) + 0.5) * seconds / len(made.low)
    axes.fill_between(time, made.low, made.high, color="0.25", linewidth=0.4)
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
