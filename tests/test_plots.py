"""What the picture shows must be so: levels on one scale, tones at their frequency."""

import tracemalloc

import matplotlib.image
import numpy as np
import pytest

from sourceprior.plots import BANDS, DYNAMICS, LOWEST, MOST_COLUMNS, Sketch, figure, log_spectrogram, spectrograms


def tone(frequency: float, rate: int, seconds: float = 1.0, amplitude: float = 0.1) -> np.ndarray:
    return amplitude * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
@pytest.mark.parametrize("frequency", [110.0, 1000.0, 3500.0])
def test_a_tone_is_in_its_row_at_its_level(rate, frequency):
    picture = log_spectrogram(tone(frequency, rate), rate)
    middle = picture[:, picture.shape[1] // 2]
    row = np.log(frequency / LOWEST) / np.log(rate / 2 / LOWEST) * BANDS
    assert picture.shape[0] == BANDS
    # At low frequencies one bin of 64 ms spans several rows.
    assert abs(middle.argmax() - row) < max(2, 16 / frequency / np.log(rate / 2 / LOWEST) * BANDS)
    assert abs(middle.max() - -20) < 2


def test_one_level_scale_for_all_panels():
    signals = {"mixture": tone(500, 16000), "soft": tone(500, 16000, amplitude=0.001)}
    images = [axes.images[0] for axes in figure(signals, 16000).axes if axes.images]
    assert len(images) == 2
    assert {image.get_clim() for image in images} == {(-20 - DYNAMICS, -20)}
    assert images[0].get_array().max() - images[1].get_array().max() == pytest.approx(40, abs=0.1)


def test_titles_say_name_level_and_note():
    titles = [
        axes.get_title(loc)
        for axes in figure({"dog_bark": tone(500, 16000)}, 16000, {"dog_bark": "SI-SDR 9.9 dB"}).axes
        for loc in ("left", "right")
    ]
    assert "dog bark" in titles
    assert "-23.0 dB  SI-SDR 9.9 dB" in titles


@pytest.mark.parametrize("count", [1, 3, 6])
def test_a_file_for_any_number_of_stems(tmp_path, count):
    signals = {f"s{i}": np.stack([tone(300 * (i + 1), 22050)] * 2) for i in range(count)}
    spectrograms(signals, 22050, tmp_path / "a.png")
    height, width = matplotlib.image.imread(tmp_path / "a.png").shape[:2]
    assert width > 110 * 3.7 * min(count, 4)
    assert height > 110 * 4.2 * (1 + (count > 4))


@pytest.mark.parametrize("samples", [1, 50, 700_000])
def test_very_short_and_long_recordings(samples):
    assert log_spectrogram(np.full(samples, 0.1), 16000).shape[1] <= 1 + min(MOST_COLUMNS, samples // 256)
    figure({"a": np.full(samples, 0.1)}, 16000)


@pytest.mark.parametrize("length", [0, 1, 599, 601, 44100])
def test_stretches_of_the_waveform_are_those_of_an_even_split(length):
    edges = [part[0] for part in np.array_split(np.arange(max(1, length)), min(600, max(1, length)))]
    np.testing.assert_array_equal(Sketch(length, 16000).edges, edges)


def test_a_long_recording_needs_no_more_memory():
    """The edges of a whole day's stretches were once taken from an array as long as the day."""
    tracemalloc.start()
    Sketch(24 * 3600 * 48000, 48000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e6
