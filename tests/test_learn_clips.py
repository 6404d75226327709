"""A folder of clips: what cannot be learned from is left out and told of, and pauses are cut away."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from sourceprior.errors import UserError
from sourceprior.learning_clips import cut, read_clip, read_folder, read_licences

DATA = Path(__file__).parent / "data" / "sound" / "train"
RATE = 16000


def clip(name: str) -> np.ndarray:
    return soundfile.read(DATA / name, dtype="float32")[0]


BARK, SAX = clip("Bark/ESC-10_001-5-231762-A.flac"), clip("Saxophone/weresax_a3_p_rr1_cnd.flac")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three good clips, one of them stereo at another rate, and everything that can be wrong with the others."""
    soundfile.write(tmp_path / "a_bark.wav", BARK, RATE)
    (tmp_path / "deep").mkdir()
    soundfile.write(tmp_path / "deep" / "sax.flac", np.stack([SAX, 0.5 * SAX], 1), 44100)
    soundfile.write(tmp_path / "low.ogg", clip("rain/ESC-10_002-3-132852-A.flac")[:16000], 8000)
    (tmp_path / "z_broken.wav").write_bytes(b"RIFF nothing that could be read")
    (tmp_path / "z_empty.mp3").write_bytes(b"")
    soundfile.write(tmp_path / "z_copy.wav", 0.3 * BARK, RATE, subtype="PCM_24")
    soundfile.write(tmp_path / "z_copy.mp3", BARK[200:], RATE)
    soundfile.write(tmp_path / "z_silent.wav", np.zeros(RATE), RATE)
    soundfile.write(tmp_path / "z_hiss.wav", 1e-4 * np.random.default_rng(0).normal(size=RATE), RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "z_quiet.wav", 0.002 * SAX / np.abs(SAX).max(), RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "z_short.wav", BARK[:800], RATE)
    soundfile.write(tmp_path / "z_nan.wav", np.full(RATE, np.nan, np.float32), RATE, subtype="FLOAT")
    (tmp_path / "notes.txt").write_text("no clip")
    (tmp_path / ".hidden.wav").write_bytes(b"")
    return tmp_path


def test_what_is_used_and_what_is_left_out_and_why(folder: Path) -> None:
    calls: list[tuple[int, int]] = []
    found = read_folder(folder, RATE, progress=lambda done, total: calls.append((done, total)))
    assert [file for file, _, _ in found.used] == ["a_bark.wav", "deep/sax.flac", "low.ogg"]
    reasons = dict(found.left_out)
    assert reasons.keys() == {path.name for path in folder.glob("z_*")}
    expected = {
        "z_broken.wav": "not a sound file", "z_empty.mp3": "empty", "z_copy.wav": "a copy of a_bark.wav",
        "z_copy.mp3": "a copy of a_bark.wav", "z_silent.wav": "silent", "z_hiss.wav": "near-silent",
        "z_quiet.wav": "too quiet", "z_short.wav": "too short", "z_nan.wav": "not finite",
    }  # fmt: skip
    for file, words in expected.items():
        assert words in reasons[file]
    assert calls[-1] == (12, 12)
    assert found.lowest_rate == 8000
    assert found.seconds == pytest.approx(sum(len(piece.wave) for piece in found.pieces) / RATE, abs=0.01)


def test_licences_come_from_the_option_or_a_manifest(folder: Path) -> None:
    assert {terms for _, _, terms in read_folder(folder, RATE).used} == {"not stated"}
    (folder / "manifest.csv").write_text("path,licence\na_bark.wav,CC0-1.0\ndeep/sax.flac,CC-BY-NC-3.0\n")
    assert [terms for _, _, terms in read_folder(folder, RATE).used] == ["CC0-1.0", "CC-BY-NC-3.0", "not stated"]
    assert {terms for _, _, terms in read_folder(folder, RATE, "own").used} == {"own"}


def test_licences_of_a_table_that_a_spreadsheet_saved(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text("path,licence\nbärk.wav,CC0-1.0\n", encoding="utf-8-sig")
    assert read_licences(tmp_path) == {"bärk.wav": "CC0-1.0"}


def test_takes_of_one_tone_are_no_copies_but_a_copy_of_a_take_is(tmp_path: Path) -> None:
    random, time = np.random.default_rng(0), np.arange(RATE) / RATE
    for i in range(3):
        beep = 0.3 * np.sin(2 * np.pi * (1000 * time + random.uniform())) + 0.02 * random.normal(size=RATE)
        soundfile.write(tmp_path / f"{i}.wav", beep, RATE)
    soundfile.write(tmp_path / "copy.ogg", 0.5 * beep[100:], RATE)
    found = read_folder(tmp_path, RATE)
    assert found.left_out == [("copy.ogg", "a copy of 2.wav")]


def test_a_clip_beyond_full_scale_is_scaled_down_and_told_of(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "loud.wav", 4 * BARK / np.abs(BARK).max(), RATE, subtype="FLOAT")
    found = read_folder(tmp_path, RATE)
    wave = np.concatenate([piece.wave for piece in found.pieces])
    assert np.mean(np.abs(wave.astype(int)) >= 32767) < 1e-3
    assert found.notes == ["loud.wav is beyond full scale (peak 4.0) and was scaled down."]


def test_a_clip_beyond_what_the_prior_hears_is_told_of_as_that(tmp_path: Path) -> None:
    time = np.arange(96_000) / 96_000
    soundfile.write(tmp_path / "bat.wav", 0.3 * np.sin(2 * np.pi * 21_000 * time), 96_000)
    soundfile.write(tmp_path / "quiet.wav", 1e-3 * np.sin(2 * np.pi * 1_000 * time), 96_000)
    soundfile.write(tmp_path / "robin.wav", 0.3 * np.sin(2 * np.pi * 5_000 * time), 96_000)
    found = read_folder(tmp_path, 16_000)
    assert [name for name, *_ in found.used] == ["robin.wav"]
    reasons = dict(found.left_out)
    assert reasons["bat.wav"] == "it lies above 8 kHz, the highest that this prior hears."
    assert reasons["quiet.wav"].startswith("too quiet")


def test_different_sounds_are_no_copies(tmp_path: Path) -> None:
    for path in sorted(DATA.rglob("*.flac")):
        soundfile.write(tmp_path / path.name, soundfile.read(path)[0], RATE)
    assert not read_folder(tmp_path, RATE).left_out


def test_a_folder_without_a_usable_clip_says_why(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no folder"):
        read_folder(tmp_path / "nowhere", RATE)
    with pytest.raises(UserError, match="no sound file"):
        read_folder(tmp_path, RATE)
    soundfile.write(tmp_path / "a.wav", np.zeros(RATE), RATE)
    with pytest.raises(UserError, match=r"None of the 1 clips .* a\.wav: silent"):
        read_folder(tmp_path, RATE)


def test_pauses_are_cut_away_and_long_clips_into_pieces() -> None:
    bark, pause = BARK[: RATE // 2], np.zeros(7 * RATE, np.float32)
    pieces = cut(np.concatenate([pause, bark, pause, bark, pause]), RATE)
    assert len(pieces) == 2
    assert all(0.3 * RATE < len(piece) <= 0.7 * RATE for piece in pieces)
    assert abs(int(np.abs(pieces[0]).max()) / 2**15 - float(np.abs(bark).max())) < 1e-3
    noise = np.random.default_rng(0).normal(size=12 * RATE).astype(np.float32) / 10
    assert [len(piece) / RATE for piece in cut(noise, RATE)] == [5.0, 5.0, 2.0]


def test_of_a_long_clip_that_breaks_off_what_is_there_is_used(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "long.flac", 0.1 * rng.standard_normal(700 * 4000), 4000, subtype="PCM_16")
    whole = (tmp_path / "long.flac").read_bytes()
    (tmp_path / "long.flac").write_bytes(whole[: len(whole) // 4])
    wave, rate, note = read_clip(tmp_path / "long.flac", 4000)
    assert rate == 4000
    assert 100 < len(wave) / rate < 200
    assert "breaks off" in note
    (tmp_path / "long.flac").write_bytes(whole)
    wave, rate, note = read_clip(tmp_path / "long.flac", 4000)
    assert len(wave) == 600 * rate
    assert note == "Of long.flac the first 10 minutes were used."
