"""Small trees in exactly the layouts of the data sets, with real clips inside, become manifests that all code reads."""

import contextlib
import csv
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import soxr

from processes_case import few_draws
from sourceprior import training
from sourceprior.commands.data import data
from sourceprior.corpora.build import COLUMNS, build
from sourceprior.corpora.folder import folder, splits_of
from sourceprior.corpora.fsdkaggle2018 import fsdkaggle2018, licence_of
from sourceprior.corpora.layouts import layout_of
from sourceprior.corpora.manifest import manifest
from sourceprior.corpora.splits import held_out
from sourceprior.corpora.vctk import TEST, VALID, vctk
from sourceprior.corpus import clips_of, read_folder, reader_of
from sourceprior.datasets import read_clip, read_manifest, read_rows
from sourceprior.errors import UserError
from sourceprior.mixtures import TASKS, draw, render

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
    assert not set(TEST) & set(VALID)
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


def test_speakers_and_clips_are_held_out_of_the_training_part(tmp_path):
    for speaker in ("p225", "p243", "p308", "p227"):
        put(SPEECH[0], tmp_path / "vctk" / "wav48_silence_trimmed" / speaker / f"{speaker}_001_mic1.flac", 16000)
    splits = {entry.label: entry.split for entry in vctk(tmp_path / "vctk").entries}
    assert splits == {"p225": "test", "p243": "valid", "p308": "valid", "p227": "train"}
    # All hundred speakers, as in the paper.
    splits = {entry.label: entry.split for entry in vctk(tmp_path / "vctk", hold_out=False).entries}
    assert splits == {"p225": "test", "p243": "train", "p308": "train", "p227": "train"}

    names = [(label, f"fs{i}") for label, count in [("Oboe", 40), ("Gong", 5), ("Bark", 3)] for i in range(count)]
    held = held_out(names, 0.1)
    assert [sum(label == own for own, _ in held) for label in ("Oboe", "Gong", "Bark")] == [4, 1, 0]
    assert held_out(reversed(names * 2), 0.1) == held
    assert not held_out(names, 0)
    # Two clips of one recording stay together, and a clip that is missing moves none.
    root = tmp_path / "fsd"
    rows = "".join(f"{i:08x}.wav,Oboe,1,{100 + i // 2},Attribution\n" for i in range(12))
    for i in range(12):
        if i != 3:
            put(SOUNDS[0], root / "FSDKaggle2018.audio_train" / f"{i:08x}.wav", 16000)
    (root / "FSDKaggle2018.meta").mkdir()
    listed = root / "FSDKaggle2018.meta" / "train_post_competition.csv"
    listed.write_text("fname,label,manually_verified,freesound_id,license\n" + rows)
    found = fsdkaggle2018(root, 0.2).entries
    valid = {entry.group for entry in found if entry.split == "valid"}
    assert len(valid) == 1
    assert not valid & {entry.group for entry in found if entry.split == "train"}
    put(SOUNDS[0], root / "FSDKaggle2018.audio_train" / "00000003.wav", 16000)
    assert {entry.group for entry in fsdkaggle2018(root, 0.2).entries if entry.split == "valid"} == valid


def test_a_folder_always_has_a_split_to_watch_with(tmp_path):
    for i in range(4):
        put(SOUNDS[0], tmp_path / "own" / "Bark" / f"{'abcd'[i]}.wav", 16000)
    found = folder(tmp_path / "own", test_share=1e-9, valid_share=1e-9).entries
    assert sorted(entry.split for entry in found) == ["test", "train", "train", "valid"]
    assert {entry.split for entry in folder(tmp_path / "own", test_share=0, valid_share=0).entries} == {"train"}
    # Given splits without it: out of train, never out of test.
    for split in ("train", "test"):
        for i in range(4):
            put(SOUNDS[0], tmp_path / "given" / split / "Bark" / f"{'abcd'[i]}.wav", 16000)
    found = folder(tmp_path / "given", valid_share=1e-9).entries
    assert sorted(entry.split for entry in found) == ["test"] * 4 + ["train"] * 3 + ["valid"]


@pytest.fixture(scope="module")
def two_trees(tmp_path_factory) -> Path:
    """VCTK and FSDKaggle2018, speakers and classes of every split."""
    root = tmp_path_factory.mktemp("trees")
    for i, speaker in enumerate(["p225", "p226", "p243", "p265", "p227", "p228"]):
        for take in range(2):
            name = f"{speaker}_{take + 1:03d}_mic1.flac"
            put(SPEECH[(i + take) % len(SPEECH)], root / "VCTK" / "wav48_silence_trimmed" / speaker / name, 48000)
    fsd = root / "FSDKaggle2018"
    (fsd / "FSDKaggle2018.meta").mkdir(parents=True)
    for split, name, takes in [("train", "train_post_competition", 4),
                               ("test", "test_post_competition_scoring_clips", 2)]:  # fmt: skip
        rows = ["fname,label,freesound_id,license"]
        for i, label in enumerate(["Bark", "Saxophone", "Gong"]):
            for take in range(takes):
                rows.append(f"{i:04x}{take:04x}.wav,{label},{10 * i + take},Attribution")
                clip = SOUNDS[(2 * i + take) % len(SOUNDS)]
                put(clip, fsd / f"FSDKaggle2018.audio_{split}" / f"{i:04x}{take:04x}.wav", 44100)
        (fsd / "FSDKaggle2018.meta" / f"{name}.csv").write_text("\n".join(rows) + "\n")
    return root


def test_what_is_written_goes_straight_into_training_benchmark_and_evaluation(two_trees, tmp_path, monkeypatch, capsys):
    from sourceprior import cli

    def call(*words):
        monkeypatch.setattr("sys.argv", ["sourceprior", *map(str, words)])
        with contextlib.suppress(SystemExit):
            cli.main()
        printed = capsys.readouterr()
        assert "sourceprior:" not in printed.err
        return printed.out

    monkeypatch.setattr(training, "measure_spectra", few_draws)
    data, run, out = tmp_path / "data", tmp_path / "run", tmp_path / "table"
    call("data", "vctk", two_trees / "VCTK", "-o", data, "-q")
    call("data", "fsdkaggle2018", two_trees / "FSDKaggle2018", "-o", data, "-q")
    for split, clips in [("train", 4 + 9), ("valid", 4 + 3), ("test", 4 + 6)]:
        assert len(read_manifest(data, split)) == clips
    # The same as it is: a manifest of a manifest.
    call("data", "manifest", data / "manifest.csv", "-o", tmp_path / "again", "-q")
    assert len(read_manifest(tmp_path / "again", "valid")) == 7
    small = ["network.widths=[8,16]", "network.depths=[1,1]", "network.bottom=16", "network.dilations=[1]",
             "network.condition=16", "seconds=0.5", "check_clips=2"]  # fmt: skip
    changes = [word for change in small for word in ("--set", change)]
    call("train", "--data", data, "-o", run, "--sources", "all", "--steps", 2, "--batch", 2, "--no-compile",
         "--no-report", "--device", "cpu", "--precision", "fp32", *changes)  # fmt: skip
    # What training is watched with is there: figures of how well its labels are told apart.
    assert json.loads((run / "prior" / "config.json").read_text())["training"]["figures"]
    common = ["--data", data, "--prior", run / "prior", "--min-clips", 2, "-q", "-o"]
    words = ["benchmark", "table2", "--limit", 1, "--method", "posterior_mean_fast", "--no-audio"]
    assert "| posterior mean, preset fast | 1 |" in call(*words, *common, out)
    (file,) = (out / "results").glob("posterior_mean_fast.*.jsonl")
    measured = file.read_text().splitlines()
    assert sorted(json.loads(line)["task"] for line in measured) == sorted(TASKS)
    call("evaluate", "--preset", "fast", "-n", 1, *common, tmp_path / "evaluated")
    # The two commands are of one mind.
    found = {entry["task"]: entry["si_sdr"] for entry in map(json.loads, measured)}
    lines = (tmp_path / "evaluated" / "outcomes.jsonl").read_text().splitlines()
    for entry in map(json.loads, lines):
        assert entry["si_sdr"] == pytest.approx(found[entry["task"]], abs=0.01)
    assert len(lines) == len(TASKS)


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


def test_another_file_of_the_same_time_is_copied_anew(tmp_path):
    file = tmp_path / "own" / "dog" / "a.wav"
    for seconds, place in [(0.5, "own"), (0.75, "own"), (0.75, "moved")]:
        file.parent.mkdir(parents=True, exist_ok=True)
        sf.write(file, np.random.default_rng(0).normal(size=round(16000 * seconds)) / 10, 16000)
        os.utime(file, (1, 1))
        if place == "moved":
            shutil.move(tmp_path / "own", tmp_path / place / "own")
        found = folder(tmp_path / "own" if place == "own" else tmp_path / place / "own")
        assert [build(found, tmp_path / "out").made for _ in range(2)] == [1, 0]
        (clip,) = read_manifest(tmp_path / "out", licence="any")
        assert clip.seconds == sf.info(clip.path).duration == seconds


def test_a_manifest_keeps_its_columns_whoever_saved_it(tmp_path):
    table = "path,kind,split,label,licence,seconds,room\nb.flac,sound,train,Bärk,CC0-1.0,1,Küche\n"
    put(SOUNDS[0], tmp_path / "own" / "dog" / "a.wav", 16000)
    for encoding in ("utf-8-sig", "utf-8"):
        (tmp_path / "manifest.csv").write_text(table, encoding=encoding)
        build(folder(tmp_path / "own"), tmp_path)
        rows = list(csv.DictReader((tmp_path / "manifest.csv").open(encoding="utf-8")))
        assert [(row["path"], row["label"], row["room"]) for row in rows if row["label"] != "dog"] == [
            ("b.flac", "Bärk", "Küche")
        ]
        assert len(rows) == 2
    (tmp_path / "manifest.csv").write_text("name\nx\n")
    with pytest.raises(UserError, match="lacks the columns"):
        build(folder(tmp_path / "own"), tmp_path)


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


def test_a_folder_per_class(tmp_path, capsys):
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
        assert (entry.label, entry.licence) == (entry.path.parent.name, "not stated")
    # What nobody has said to be free is not taken to be.
    data("folder", tmp_path / "own", out=tmp_path / "out", quiet=True)
    assert "licence of the clips is not stated" in capsys.readouterr().out
    assert {clip.commercial for clip in read_manifest(tmp_path / "out", licence="any")} == {False}
    data("folder", tmp_path / "own", out=tmp_path / "out", licence="own", quiet=True)
    assert "not stated" not in capsys.readouterr().out
    assert {clip.licence for clip in read_manifest(tmp_path / "out")} == {"own"}


def test_every_class_has_clips_of_every_split(tmp_path, capsys):
    for label in ("robin", "pump", "bell"):
        for i in range(12):
            put(SOUNDS[0], tmp_path / "own" / label / f"{label}_{i:02d}.wav", 16000)
    put(SOUNDS[0], tmp_path / "own" / "gong" / "gong_01.wav", 16000)
    splits = {(entry.label, entry.split) for entry in folder(tmp_path / "own").entries}
    assert splits == {(own, s) for own in ("robin", "pump", "bell") for s in ("train", "valid", "test")} | {
        ("gong", "train")
    }
    # Few or many, and whatever their names: all to train with below four, each split has one from four on.
    for count in range(1, 12):
        for name in "abcd":
            for shares in ((0.1, 0.1), (0.6, 0.3), (0.0, 0.9), (0.9, 0.0)):
                found = set(splits_of([f"{name}{i}" for i in range(count)], *shares).values())
                wanted = (
                    {s for s, share in zip(("test", "valid"), shares, strict=True) if share} if count > 3 else set()
                )
                assert found == {"train"} | wanted
    # A class that was put into the test split only is told of.
    shutil.move(tmp_path / "own" / "gong", tmp_path / "given" / "test" / "gong")
    shutil.move(tmp_path / "own" / "bell", tmp_path / "given" / "train" / "bell")
    data("folder", tmp_path / "given", out=tmp_path / "out", quiet=True)
    assert "no clip to train with: gong" in capsys.readouterr().out


def test_a_folder_per_speaker_and_given_splits(tmp_path):
    for clip in SPEECH:
        put(clip, tmp_path / clip.parent.parent.name / clip.parent.name / clip.name, 16000)
    found = folder(tmp_path, kind="speech")
    assert {(entry.split, entry.label) for entry in found.entries} == {
        (clip.parent.parent.name, clip.parent.name) for clip in SPEECH
    }
    with pytest.raises(UserError, match="music"):
        folder(tmp_path, kind="music")
    with pytest.raises(UserError, match="together"):
        folder(tmp_path, test_share=0.7, valid_share=0.5)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no folders with recordings"):
        folder(tmp_path / "empty")


def test_shares_are_refused_where_the_splits_are_given(tmp_path):
    for split in ("train", "valid"):
        put(SOUNDS[0], tmp_path / split / "dog" / "a.wav", 16000)
    with pytest.raises(UserError, match="has its own train and valid"):
        folder(tmp_path, test_share=0.5)
    assert len(folder(tmp_path).entries) == 2


def test_a_class_may_be_called_train(tmp_path):
    for name in ("train", "dog"):
        for i in range(5):
            put(SOUNDS[0], tmp_path / "own" / name / f"take{i}.wav", 16000)
    found = folder(tmp_path / "own", test_share=0.0, valid_share=0.3)
    assert {entry.label for entry in found.entries} == {"train", "dog"}
    clips = read_folder(tmp_path / "own", "train")
    assert {clip.label for clip in clips} == {"train", "dog"}
    # With folders of classes inside it is the split.
    shutil.move(tmp_path / "own" / "dog", tmp_path / "split" / "train" / "dog")
    assert {(e.label, e.split) for e in folder(tmp_path / "split", valid_share=0).entries} == {("dog", "train")}
    assert {clip.label for clip in read_folder(tmp_path / "split", "train")} == {"dog"}


def test_data_sets_as_they_come_are_trained_on_as_their_copies_are(vctk_tree, fsd_tree, tmp_path):
    for find, tree in ((vctk, vctk_tree), (fsdkaggle2018, fsd_tree)):
        assert layout_of(tree) is find
        build(find(tree), tmp_path / find.__name__)
        for split in ("train", "test"):
            clips = clips_of(tree, split, "any")
            copies = {clip.path.stem.partition("_")[2]: clip for clip in read_manifest(tmp_path / find.__name__, split)}
            read = reader_of(tree, split)
            for clip in clips:
                copy = copies.pop(clip.path.stem, None)
                if copy is None:
                    # A broken file, and what the licence keeps out of the copies that are read here.
                    assert clip.path.stem in ("p227_009_mic1", "001ca53d")
                    continue
                assert (clip.label, clip.speaker, clip.licence, clip.voice) == (
                    copy.label, copy.speaker, copy.licence, copy.voice,
                )  # fmt: skip
                np.testing.assert_array_equal(read(clip.path, 16000), read_clip(copy.path, 16000))
            assert not copies
    assert {clip.label for clip in clips_of(fsd_tree, "train")} == {"Hi-hat", "Trumpet"}
    assert {clip.label for clip in clips_of(vctk_tree / "wav48_silence_trimmed", "train")} == {"speech"}
    # The folder that both are in.
    (tmp_path / "both").mkdir()
    (tmp_path / "both" / "VCTK").symlink_to(vctk_tree)
    with pytest.raises(UserError, match=r"sourceprior data vctk .*VCTK -o DATA"):
        clips_of(tmp_path / "both", "train")


def test_a_data_set_of_the_same_name_is_announced(tmp_path, capsys):
    for place, label in (("a", "dog"), ("b", "cat")):
        put(SOUNDS[0], tmp_path / place / "recordings" / label / "take1.wav", 16000)
        put(SOUNDS[1], tmp_path / place / "recordings" / label / "take2.wav", 16000)
    for place, lost in (("a", 0), ("a", 0), ("b", 2)):
        data("folder", tmp_path / place / "recordings", out=tmp_path / "out", quiet=True)
        printed = capsys.readouterr().out
        assert (f"{lost} clips that an earlier data set of the same name had brought" in printed) == bool(lost)


@pytest.mark.parametrize(
    ("action", "options", "unused"),
    [
        ("pack", {"root": DATA, "folder": DATA, "rate": 48000, "mic": 2, "kind": "speech"},
         "ROOT, --rate, --mic, --kind"),
        ("shard", {"folder": DATA, "kbps": 48.0}, "--kbps"),
        ("manifest", {"root": DATA, "split": ["train"]}, "--split"),
        ("vctk", {"root": DATA, "licence": "own", "test": 0.2}, "--test, --licence"),
        ("fsdkaggle2018", {"root": DATA, "test": 0.2}, "--test"), ("folder", {"root": DATA, "folder": DATA}, "--data"),
    ],
)  # fmt: skip
def test_options_that_an_action_has_no_use_for_are_refused(action, options, unused, tmp_path):
    with pytest.raises(UserError, match=f"data {action}` has no use for {unused}: leave"):
        data(action, out=tmp_path / "out", quiet=True, **options)
    assert not (tmp_path / "out").exists()


def test_copies_are_not_put_among_the_recordings(tmp_path):
    root = tmp_path / "sound"
    for i in range(4):
        put(SOUNDS[0], root / "dog" / f"{i}.wav", 16000)
    # The last one would write to sound/train, which would be a split of the recordings next time.
    for out in (root, root / "copies", tmp_path):
        with pytest.raises(UserError, match="choose an -o outside"):
            data("folder", root, out=out, quiet=True)
    assert [path.name for path in root.iterdir()] == ["dog"]
    data("folder", root, out=tmp_path / "copies", quiet=True)


def test_a_manifest_of_ones_own_is_not_written_over(tmp_path):
    shutil.copytree(DATA, tmp_path / "own")
    before = (tmp_path / "own" / "manifest.csv").read_bytes()
    with pytest.raises(UserError, match="would take the place of"):
        data("manifest", tmp_path / "own", out=tmp_path / "own", quiet=True)
    assert (tmp_path / "own" / "manifest.csv").read_bytes() == before
    data("manifest", tmp_path / "own", out=tmp_path / "copies", quiet=True)
    names = {row["original_id"] for _, row in read_rows(tmp_path / "copies" / "manifest.csv", ("original_id",))}
    assert names == {row["original_id"] for _, row in read_rows(tmp_path / "own" / "manifest.csv", ("original_id",))}


def test_every_recording_is_taken_or_counted_whatever_its_name(tmp_path, capsys):
    for i, ending in enumerate((".wav", ".au", ".caf", ".w64", ".aiff")):
        put(SOUNDS[0], tmp_path / "own" / "dog" / f"{i}{ending}", 16000)
    (tmp_path / "own" / "dog" / "4.aiff").rename(tmp_path / "own" / "dog" / "4.aifc")
    (tmp_path / "own" / "dog" / "memo.m4a").write_bytes(b"nothing that is read here")
    put(SOUNDS[0], tmp_path / "own" / "loose.wav", 16000)
    # As old collections are named, and as no text can be.
    odd = os.fsdecode(b"aboiement_\xe9.wav")
    shutil.copyfile(tmp_path / "own" / "dog" / "0.wav", tmp_path / "own" / "dog" / odd)
    data("folder", tmp_path / "own", out=tmp_path / "out", licence="own", quiet=True)
    told = capsys.readouterr().out
    assert "left out: 1 broken" in told
    assert "left out: 1 in no folder of a class or speaker" in told
    clips = [clip for split in ("train", "valid", "test") for clip in read_manifest(tmp_path / "out", split)]
    assert len(clips) == 6
    assert all(clip.path.is_file() for clip in clips)


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
