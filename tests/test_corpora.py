"""Small trees in exactly the layouts of the data sets, with real clips inside, become manifests that all code reads."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import soxr

from sourceprior.corpora.build import COLUMNS, build
from sourceprior.corpora.folder import folder
from sourceprior.corpora.fsdkaggle2018 import fsdkaggle2018, licence_of
from sourceprior.corpora.manifest import manifest
from sourceprior.corpora.vctk import TEST, vctk
from sourceprior.datasets import read_clip, read_manifest
from sourceprior.errors import UserError
from sourceprior.mixtures import draw, render

DATA = Path(__file__).parent / "data"
SPEECH = sorted((DATA / "speech").rglob("*.flac"))
SOUNDS = sorted((DATA / "sound").rglob("*.flac"))


def put(clip: Path, target: Path, rate: int, silence: float = 0.0) -> None:
    """A real clip at another rate, with digital silence around it."""
    wave = soxr.resample(read_clip(clip, 16000).astype(np.float64) / 2**15, 16000, rate)
    target.parent.mkdir(parents=True, exist_ok=True)
    quiet = np.zeros(round(silence * rate))
    sf.write(target, np.concatenate([quiet, wave, quiet]), rate, subtype="PCM_16")


@pytest.fixture(scope="module")
def vctk_tree(tmp_path_factory):
    """Four speakers, one of them without microphone 2; a broken file; one of another name."""
    root = tmp_path_factory.mktemp("VCTK")
    audio = root / "wav48_silence_trimmed"
    for i, (speaker, clip) in enumerate(zip(["p225", "p225", "p227", "p280", "s5", "p226"], SPEECH, strict=False)):
        put(clip, audio / speaker / f"{speaker}_{i + 1:03d}_mic1.flac", 48000)
        if speaker != "p280":
            put(clip, audio / speaker / f"{speaker}_{i + 1:03d}_mic2.flac", 48000)
    (audio / "p227" / "p227_009_mic1.flac").write_bytes(b"fLaC, but no more than that")
    (audio / "p227" / "p227_010_mic2.flac").write_bytes(b"nor this")
    (audio / "p227" / "notes.flac").touch()
    people = [
        "ID  AGE  GENDER  ACCENTS  REGION COMMENTS",
        "p225  23  F  English  Southern England",
        "p226  22  M  English",
    ]
    (root / "speaker-info.txt").write_text("\n".join(people) + "\n")
    return root


def test_vctk(vctk_tree, tmp_path):
    found = vctk(vctk_tree)
    assert {entry.label: entry.split for entry in found.entries} == {
        "p225": "test", "p226": "test", "p227": "train", "p280": "train", "s5": "train",
    }  # fmt: skip
    built = build(found, tmp_path)
    assert built.clips == {"test": 3, "train": 3}
    assert built.skipped == {"broken": 1, "missing from microphone 1": 1, "of another name": 1}
    clips = read_manifest(tmp_path)
    assert {clip.speaker for clip in clips} == {"p225", "p226", "p227", "p280", "s5"}
    assert {clip.voice for clip in clips if clip.speaker == "p225"} == {"female_speech"}
    # What was 16 kHz before it was 48 comes back as it was.
    first = next(clip for clip in clips if clip.path.stem.endswith("p225_001_mic1"))
    original = read_clip(SPEECH[0], 16000).astype(float)
    copy = read_clip(first.path, 16000).astype(float)
    assert sf.info(first.path).samplerate == 16000
    assert 10 * np.log10((original**2).sum() / ((copy - original) ** 2).sum()) > 35


def test_vctk_by_its_fixed_list_and_microphones(vctk_tree, tmp_path):
    assert len(set(TEST)) == 10
    second = vctk(vctk_tree, mic=2)
    # p280 has no microphone 2, nor has the broken file of microphone 1.
    assert second.skipped["missing from microphone 2"] == 2
    assert "p280" not in {entry.label for entry in second.entries}
    with pytest.raises(UserError, match="microphones 1 and 2"):
        vctk(vctk_tree, mic=3)
    with pytest.raises(UserError, match="not a VCTK"):
        vctk(tmp_path)


@pytest.fixture(scope="module")
def fsd_tree(tmp_path_factory):
    """Four training clips, one of which is missing; one test clip; padding that no list names."""
    root = tmp_path_factory.mktemp("FSD")
    train, test = root / "FSDKaggle2018.audio_train", root / "FSDKaggle2018.audio_test"
    for name, clip in zip(["00044347.wav", "001ca53d.wav", "002d256b.wav"], SOUNDS[6:], strict=False):
        put(clip, train / name, 44100, silence=0.5)
    put(SOUNDS[0], test / "00326aa9.wav", 44100, silence=0.5)
    put(SOUNDS[1], test / "0038a046.wav", 44100)
    meta = root / "FSDKaggle2018.meta"
    meta.mkdir()
    (meta / "train_post_competition.csv").write_text(
        "fname,label,manually_verified,freesound_id,license\n"
        "00044347.wav,Hi-hat,0,28739,Attribution\n001ca53d.wav,Saxophone,1,358827,Attribution-NonCommercial\n"
        "002d256b.wav,Trumpet,0,10897,Creative Commons 0\n0033e230.wav,Glockenspiel,1,325017,Attribution\n"
    )
    (meta / "test_post_competition_scoring_clips.csv").write_text(
        "fname,label,usage,freesound_id,license\n00326aa9.wav,Oboe,Private,355125,Attribution\n0038a046.wav,None,Padding,,\n"
    )
    return root


def test_fsdkaggle2018(fsd_tree, tmp_path):
    found = fsdkaggle2018(fsd_tree)
    built = build(found, tmp_path)
    assert built.clips == {"train": 3, "test": 1}
    assert built.skipped == {"missing": 1, "without a class": 1}
    rows = list(csv.DictReader((tmp_path / "manifest.csv").open()))
    assert tuple(rows[0]) == COLUMNS
    assert {row["label"]: row["licence"] for row in rows} == {
        "Hi-hat": "CC-BY-3.0", "Saxophone": "CC-BY-NC-3.0", "Trumpet": "CC0-1.0", "Oboe": "CC-BY-3.0",
    }  # fmt: skip
    assert {clip.label for clip in read_manifest(tmp_path, "train")} == {"Hi-hat", "Trumpet"}
    # The half seconds of silence are gone, but for a margin, and what sounds is still there.
    for entry, row in zip(
        sorted(found.entries, key=lambda e: e.label), sorted(rows, key=lambda r: r["label"]), strict=True
    ):
        padded = sf.info(entry.path).duration
        assert padded - 1.0 - 0.8 < float(row["seconds"]) < padded - 0.85
    with pytest.raises(UserError, match="not FSDKaggle2018"):
        fsdkaggle2018(tmp_path)
    (tmp_path / "FSDKaggle2018.meta").mkdir()
    (tmp_path / "FSDKaggle2018.meta" / "train_post_competition.csv").write_text("name\nx\n")
    with pytest.raises(UserError, match="lacks the columns"):
        fsdkaggle2018(tmp_path)


def test_licences_by_name_and_by_address():
    assert licence_of("http://creativecommons.org/publicdomain/zero/1.0/") == "CC0-1.0"
    assert licence_of("http://creativecommons.org/licenses/by-nc/3.0/") == "CC-BY-NC-3.0"
    assert licence_of("http://creativecommons.org/licenses/by/3.0/") == "CC-BY-3.0"
    assert licence_of("Sampling+") == "CC-Sampling+"
    assert licence_of("").startswith("CC-BY-NC")


def test_copies_are_made_once(fsd_tree, tmp_path):
    found = fsdkaggle2018(fsd_tree)
    assert build(found, tmp_path).made == 4
    before = (tmp_path / "manifest.csv").read_bytes()
    again = build(found, tmp_path)
    assert (again.made, again.kept) == (0, 4)
    assert (tmp_path / "manifest.csv").read_bytes() == before
    os.utime(found.entries[0].path, (1, 1))
    assert build(found, tmp_path).made == 1
    assert build(found, tmp_path, sample_rate=8000).made == 4


def test_two_data_sets_in_one_manifest_make_mixtures(vctk_tree, fsd_tree, tmp_path):
    build(vctk(vctk_tree), tmp_path)
    build(fsdkaggle2018(fsd_tree), tmp_path)
    build(vctk(vctk_tree, mic=2), tmp_path)
    clips = read_manifest(tmp_path, "train", licence="any")
    assert {clip.label for clip in clips} == {"speech", "Hi-hat", "Saxophone", "Trumpet"}
    # The second microphone's copies have taken the place of the first one's.
    assert not [clip for clip in clips if "mic1" in clip.path.name]
    (spec,) = draw("speech_sound", 1, clips, tmp_path, seconds=1.0)
    assert render(spec, tmp_path).shape == (2, 16000)


def test_a_folder_per_class(tmp_path):
    for i, clip in enumerate(SOUNDS):
        put(clip, tmp_path / "own" / clip.parent.name / f"take{i}_1.wav", 22050)
    found = folder(tmp_path / "own", test_share=0.3, valid_share=0.3)
    assert len(found.entries) == len(SOUNDS)
    assert {entry.split for entry in found.entries} == {"train", "valid", "test"}
    # Another recording moves none of the others, and takes of one thing stay together.
    put(SOUNDS[0], tmp_path / "own" / SOUNDS[0].parent.name / "take0_2.wav", 22050)
    later = {entry.identity: entry.split for entry in folder(tmp_path / "own", "sound", "own", 0.3, 0.3).entries}
    assert {entry.identity: entry.split for entry in found.entries}.items() <= later.items()
    assert later["take0_1"] == later["take0_2"]
    for entry in found.entries:
        assert (entry.label, entry.licence) == (entry.path.parent.name, "own")


def test_a_folder_per_speaker_and_given_splits(tmp_path):
    for clip in SPEECH:
        put(clip, tmp_path / clip.parent.parent.name / clip.parent.name / clip.name, 16000)
    found = folder(tmp_path, kind="speech")
    assert {(entry.split, entry.label) for entry in found.entries} == {
        (clip.parent.parent.name, clip.parent.name) for clip in SPEECH
    }
    for bad in [{"kind": "music"}, {"test_share": 0.7, "valid_share": 0.5}]:
        with pytest.raises(UserError):
            folder(tmp_path, **bad)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no folders with recordings"):
        folder(tmp_path / "empty")


def test_a_manifest_of_its_own(tmp_path):
    found = manifest(DATA / "manifest.csv")
    built = build(found, tmp_path)
    assert sum(built.clips.values()) == 20
    assert [
        (c.label, c.split, c.speaker, c.licence) for c in sorted(read_manifest(DATA), key=lambda c: c.path.name)
    ] == [
        (c.label, c.split, c.speaker, c.licence)
        for c in sorted(read_manifest(tmp_path), key=lambda c: c.path.name.partition("_")[2])
    ]
    copy = next(tmp_path.rglob("*010270131.flac"))
    np.testing.assert_array_equal(read_clip(copy, 16000), read_clip(SPEECH[0], 16000))
    with pytest.raises(UserError, match="no manifest"):
        manifest(tmp_path / "none.csv")


def test_the_command(vctk_tree, tmp_path, monkeypatch, capsys):
    from sourceprior import cli

    def call(*words):
        monkeypatch.setattr("sys.argv", ["sourceprior", "data", *map(str, words)])
        try:
            cli.main()
        except SystemExit as stop:
            return stop.code or 0
        return 0

    assert call("vctk", vctk_tree, "-o", tmp_path / "out", "-q") == 0
    printed = capsys.readouterr().out
    assert "test: 3 clips" in printed
    assert "left out: 1 broken" in printed
    for words, says in [
        (("vctk", vctk_tree), "-o OUT"),
        (("vctk", "-o", tmp_path / "out"), "Say where the data set is"),
        (("musdb", vctk_tree, "-o", tmp_path / "out"), "knows vctk"),
        (("vctk", tmp_path / "nowhere", "-o", tmp_path / "new"), "not a VCTK"),
    ]:
        assert call(*words) == 2
        assert says in capsys.readouterr().err
