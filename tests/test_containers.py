"""Files of which libsndfile alone would read a part, and say nothing."""

import io
import tracemalloc

import numpy as np
import pytest
import soundfile as sf

from sourceprior import audio
from sourceprior.containers import Spliced, chained, mp3_frame, mp3_frames, uncounted

RATE = 44_100


def noise(seconds: float, channels: int = 1, rate: int = RATE) -> np.ndarray:
    """Noise that grows louder, so that a variable bit rate begins low."""
    count = round(seconds * rate)
    loud = np.linspace(0.001, 0.1, count)[:, None]
    return (loud * np.random.default_rng(0).standard_normal((count, channels))).astype(np.float32)


def test_a_spliced_file_reads_as_its_parts(tmp_path) -> None:
    (tmp_path / "a").write_bytes(bytes(range(100)))
    parts = [b"xyz", (10, 20), b"", b"-", (98, 100)]
    whole = b"xyz" + bytes(range(10, 20)) + b"-" + bytes([98, 99])
    with Spliced(tmp_path / "a", parts) as file:
        assert file.read() == whole
        for start, count in ((0, 2), (2, 5), (12, 9), (15, 1), (16, 3)):
            file.seek(start)
            assert file.read(count) == whole[start : start + count]
            assert file.tell() == min(len(whole), start + count)
        assert file.seek(-2, 2) == len(whole) - 2


@pytest.mark.parametrize("mode", ["CONSTANT", "AVERAGE", "VARIABLE"])
@pytest.mark.parametrize(("channels", "rate"), [(1, 44_100), (2, 48_000), (1, 16_000), (2, 22_050), (1, 8_000)])
def test_an_mp3_without_a_count_is_read_to_its_end(tmp_path, mode, channels, rate) -> None:
    path = tmp_path / "a.mp3"
    sf.write(path, noise(4, channels, rate), rate, format="MP3", bitrate_mode=mode, compression_level=0.5)
    assert uncounted(path) is None
    whole, data = audio.read(path), path.read_bytes()
    second = list(mp3_frames(io.BytesIO(data)))[1]
    path.write_bytes(data[second[0] :])
    found = audio.read(path)
    assert not found.warnings
    # A decoder's own delay comes with it, which the lost first frame tells of.
    late = found.samples.shape[1] - whole.samples.shape[1]
    assert 0 <= late <= 2304
    offset = next(
        n for n in range(late + 1) if np.allclose(found.samples[:, n + 3000 : n + 3100], whole.samples[:, 3000:3100])
    )
    rest = whole.samples[:, 3000:-3000]
    np.testing.assert_allclose(found.samples[:, offset + 3000 :][:, : rest.shape[1]], rest, atol=1e-6)


def test_mp3_files_joined_are_read_to_the_last(tmp_path) -> None:
    path = tmp_path / "a.mp3"
    sf.write(path, noise(2), RATE, format="MP3")
    data = path.read_bytes()
    # With a tag between the two, as players leave it, of 200 bytes.
    path.write_bytes(data + b"ID3\x04\x00\x00" + bytes([0, 0, 1, 72]) + bytes(200) + data)
    assert audio.read(path).samples.shape[1] == pytest.approx(4 * RATE, abs=4 * 1152)
    path.write_bytes(data[: len(data) // 2])
    assert "breaks off" in audio.read(path).warnings[0]


def test_counting_the_frames_of_a_long_mp3_takes_no_memory(tmp_path) -> None:
    path = tmp_path / "a.mp3"
    sf.write(path, noise(5), RATE, format="MP3")
    path.write_bytes(path.read_bytes() * 100)
    tracemalloc.start()
    assert uncounted(path) is not None
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert path.stat().st_size > 2e6
    assert peak < 5e5


def test_a_wav_file_with_a_length_beyond_its_field_is_read_to_its_end(tmp_path) -> None:
    path = tmp_path / "a.wav"
    sf.write(path, np.zeros(10), RATE, subtype="PCM_16")
    head = bytearray(path.read_bytes()[:44])
    samples = (1 << 31) + 50_000
    for place, length in ((40, 2 * samples), (4, 2 * samples + 36)):
        head[place : place + 4] = (length % (1 << 32)).to_bytes(4, "little")
    with path.open("wb") as file:
        file.write(head)
        # Holes: nothing of it takes a place on the disk.
        file.truncate(44 + 2 * samples)
    stream = audio.stream(path)
    with audio._opened(path) as (files, _):
        assert files[0].frames == samples
    assert next(stream.pieces()).shape == (1, audio.PIECE)


def test_frames_of_other_layers_and_of_no_known_size_are_left_alone() -> None:
    assert mp3_frame(b"\xff\xfb\x90\x00") == 417
    for header in (b"\xff\xfd\x90\x00", b"\xff\xfb\x00\x00", b"\xff\xfb\xf0\x00", b"\xff\xfb\x9c\x00", b"\xff\xfb"):
        assert mp3_frame(header) == 0
    assert not list(mp3_frames(io.BytesIO(b"\xff\xfb\x90\x00" + bytes(1000))))


@pytest.mark.parametrize(("subtype", "rate"), [("VORBIS", RATE), ("OPUS", 48_000)])
def test_ogg_streams_that_follow_one_another_are_read_to_the_last(tmp_path, subtype, rate) -> None:
    def written(name: str, samples: np.ndarray) -> bytes:
        sf.write(tmp_path / name, samples, rate, format="OGG", subtype=subtype)
        return (tmp_path / name).read_bytes()

    path = tmp_path / "radio.ogg"
    first, second = written("a.ogg", noise(5, rate=rate)), written("b.ogg", noise(1, rate=rate)[::-1])
    path.write_bytes(first + second + first)
    links, ended = chained(path)
    assert [stop - start for start, stop in links] == [len(first), len(second), len(first)]
    assert ended
    found, a, b = audio.read(path), *(audio.read(tmp_path / name).samples for name in ("a.ogg", "b.ogg"))
    assert not found.warnings
    np.testing.assert_array_equal(found.samples, np.concatenate([a, b, a], 1))

    for data in (first + second[: len(second) // 2], first + second[:100], first[: len(first) // 2]):
        path.write_bytes(data)
        assert "breaks off" in audio.read(path).warnings[0]
    path.write_bytes(first + written("c.ogg", noise(1, 2, rate)))
    found = audio.read(path)
    np.testing.assert_array_equal(found.samples, a)
    assert "5.00 s of it could be read" in found.warnings[0]
