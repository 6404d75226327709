"""A pack gives the same bank as its manifest, but for the noise of the coding."""

import filecmp
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from sourceprior.commands.data import data
from sourceprior.corpus import clips_of
from sourceprior.datasets import SPEECH, ClipBank, read_clip, read_manifest
from sourceprior.errors import UserError
from sourceprior.packs import GAP, INDEX, is_pack, read_clips, reader, write_pack
from sourceprior.shards import write_shards

DATA = Path(__file__).parent / "data"
LABELS = ["Bark", "Saxophone", "rain", SPEECH]


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pack")
    assert write_pack(DATA, folder, ["train"]) == []
    return folder


def test_a_pack_lists_the_clips_of_the_manifest_in_its_order(pack: Path) -> None:
    assert is_pack(pack)
    assert not is_pack(DATA)
    listed = [
        (clip.path.relative_to(pack), clip.label, clip.speaker, clip.licence) for clip in read_clips(pack, "train")
    ]
    expected = [
        (clip.path.relative_to(DATA), clip.label, clip.speaker, clip.licence) for clip in read_clips(DATA, "train")
    ]
    assert listed == expected
    assert (pack / "CREDITS.md").is_file()


def test_every_clip_begins_and_ends_where_it_did(pack: Path) -> None:
    read = reader(pack, "train")
    for packed, original in zip(read_clips(pack, "train"), read_manifest(DATA, "train"), strict=True):
        a, b = read_clip(original.path, 16000).astype(float), read(packed.path, 16000).astype(float)
        assert len(a) == len(b)
        size = 2 ** int(np.ceil(np.log2(2 * len(a))))
        correlation = np.fft.irfft(np.fft.rfft(a, size).conj() * np.fft.rfft(b, size))
        lag = int(correlation.argmax())
        assert lag == 0, f"{packed.path.name} is off by {lag} samples"
        # Opus keeps the waveform of tones and voices, but only the envelope of noise such as rain.
        assert correlation[0] / (np.linalg.norm(a) * np.linalg.norm(b)) > 0.5
        assert abs(10 * np.log10((b**2).sum() / (a**2).sum())) < 1


def test_the_bank_has_the_same_index_and_a_fraction_of_the_size(pack: Path) -> None:
    packed = ClipBank(read_clips(pack, "train"), LABELS, read=reader(pack, "train"))
    bank = ClipBank(read_clips(DATA, "train"), LABELS, read=reader(DATA, "train"))
    for name in ("start", "length", "label"):
        assert torch.equal(getattr(packed, name), getattr(bank, name))
    a, b = bank.wave.float(), packed.wave.float()
    assert 10 * torch.log10(a.square().sum() / (a - b).square().sum()) > 8
    clips = read_clips(pack, "train")
    seconds = bank.seconds + GAP * len(clips)
    assert 18e3 < 8 * (pack / "train.opus").stat().st_size / seconds < 32e3


def test_a_folder_per_class_with_a_broken_clip_is_packed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(5):
        copy = tmp_path / "own" / "rain" / f"{i}.flac"
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(DATA / "sound" / "train" / "rain" / "ESC-10_002-3-132852-A.flac", copy)
    bad = next(clip.path for clip in clips_of(tmp_path / "own", "train"))
    bad.write_bytes(b"fLaC, but no more than that")
    data("pack", folder=tmp_path / "own", out=tmp_path / "pack", quiet=True)
    assert f"1 clips that cannot be read were left out, such as {bad}" in capsys.readouterr().out
    listed = read_clips(tmp_path / "pack", "train")
    assert {clip.path.name for clip in listed} == {f"{i}.flac" for i in range(5)} - {bad.name} - {
        clip.path.name for clip in clips_of(tmp_path / "own", "valid")
    }
    # It says that nobody stated a licence, and can be trained on as the folder can.
    assert {clip.licence for clip in listed} == {"not stated"}
    wave = reader(tmp_path / "pack", "train")(listed[-1].path, 16000)
    assert abs(len(wave) - 16000 * listed[-1].seconds) < 20
    for clip in clips_of(tmp_path / "own", "train"):
        clip.path.write_bytes(b"")
    with pytest.raises(UserError, match="that can be read"):
        write_pack(tmp_path / "own", tmp_path / "none")


def test_an_earlier_pack_stays_until_the_next_one_is_whole(pack: Path, tmp_path: Path) -> None:
    shutil.copytree(pack, tmp_path / "pack")
    for i in range(2):
        copy = tmp_path / "few" / "rain" / f"{i}.flac"
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(DATA / "sound" / "train" / "rain" / "ESC-10_002-3-132852-A.flac", copy)
    with pytest.raises(UserError, match="take --split train only"):
        write_pack(tmp_path / "few", tmp_path / "pack")
    copy.write_bytes(b"")
    (copy.parent / "0.flac").write_bytes(b"")
    with pytest.raises(UserError, match="that can be read"):
        write_pack(tmp_path / "few", tmp_path / "pack", ["train"])
    assert filecmp.dircmp(pack, tmp_path / "pack").diff_files == []
    assert sorted(path.name for path in (tmp_path / "pack").iterdir()) == sorted(path.name for path in pack.iterdir())
    for write in (write_pack, write_shards):
        with pytest.raises(UserError, match="among the clips"):
            write(tmp_path / "few", tmp_path / "few", ["train"])


def test_a_broken_pack_says_so(pack: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no split 'valid'"):
        read_clips(pack, "valid")
    with pytest.raises(UserError, match="16000 Hz, not 8000"):
        reader(pack, "train")(read_clips(pack, "train")[0].path, 8000)
    index = (pack / INDEX).read_text()
    (tmp_path / INDEX).write_text(index)
    with pytest.raises(UserError, match="cannot be read"):
        reader(tmp_path, "train")
    whole = (pack / "train.opus").read_bytes()
    (tmp_path / "train.opus").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="copy it again"):
        reader(tmp_path, "train")
    (tmp_path / INDEX).write_text(json.dumps(json.loads(index) | {"format": 2}))
    with pytest.raises(UserError, match="another version"):
        read_clips(tmp_path, "train")
    (tmp_path / INDEX).write_text("[]")
    with pytest.raises(UserError, match="not the index"):
        read_clips(tmp_path, "train")


def test_licences_are_kept_apart(pack: Path, tmp_path: Path) -> None:
    index = json.loads((pack / INDEX).read_text())
    column = index["columns"].index("licence")
    for row in index["splits"]["train"]["clips"][1:]:
        row[column] = "CC-BY-NC-4.0"
    (tmp_path / INDEX).write_text(json.dumps(index))
    assert len(read_clips(tmp_path, "train")) == 1
    assert len(read_clips(tmp_path, "train", "any")) == len(read_clips(pack, "train"))


def test_the_command_prints_the_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data("pack", folder=DATA, out=tmp_path / "pack", split=["test"], kbps=16.0, quiet=True)
    printed = capsys.readouterr().out
    assert "test: " in printed
    assert " MB" in printed
    with pytest.raises(UserError, match="6 and 256"):
        write_pack(DATA, tmp_path / "other", kbps=2)
    with pytest.raises(UserError, match="pack or shard, not 'unpack'"):
        data("unpack", folder=DATA, out=tmp_path / "pack")
