"""Manifests, and the bank that training signals are gathered from."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from sourceprior import writing
from sourceprior.corpora.manifest import manifest
from sourceprior.datasets import SPEECH, Clip, ClipBank, read_clip, read_manifest
from sourceprior.errors import UserError
from sourceprior.formats import FileFormat

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="module")
def bank() -> ClipBank:
    return ClipBank(read_manifest(DATA, "train"), ["Bark", "Saxophone", "rain", SPEECH])


def test_splits_and_licences(tmp_path: Path) -> None:
    assert {clip.split for clip in read_manifest(DATA, "train")} == {"train"}
    (tmp_path / "manifest.csv").write_text(
        "path,kind,split,label,licence,seconds\na.flac,sound,train,Bark,CC-BY-NC-3.0,1\nb.flac,sound,train,Bark,CC0-1.0,1\n"
    )
    assert [clip.path.name for clip in read_manifest(tmp_path, "train")] == ["b.flac"]
    assert len(read_manifest(tmp_path, "train", "any")) == 2
    with pytest.raises(UserError, match="no clip"):
        read_manifest(tmp_path, "test")


def test_a_folder_without_manifest_or_column_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no manifest\.csv"):
        read_manifest(tmp_path)
    (tmp_path / "manifest.csv").write_text("path,split\n")
    with pytest.raises(UserError, match="kind, label, licence, seconds"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("a.flac,sound,train,Bark,CC0-1.0,", "Line 3 .* gives '' as a clip's seconds"),
        ("a.flac,sound,train,Bark,CC0-1.0,long", "gives 'long'"),
        ("a.flac,sound,train,Bark,CC0-1.0,nan", "gives 'nan'"),
        ("a.flac,sound,train", "Line 3 .* has no label"),
        (",sound,train,Bark,CC0-1.0,1", "Line 3 .* has no path"),
        ("a.flac,sound,train,Bärk,CC0-1.0,1", "not a table in UTF-8"),
    ],
)
def test_a_row_that_cannot_be_read_is_named(row: str, says: str, tmp_path: Path) -> None:
    table = f"path,kind,split,label,licence,seconds\nb.flac,sound,train,Bark,CC0-1.0,1\n{row}\n"
    (tmp_path / "manifest.csv").write_text(table, encoding="latin-1")
    with pytest.raises(UserError, match=says):
        read_manifest(tmp_path, "train")
    if "seconds" not in says and "gives" not in says:
        with pytest.raises(UserError, match=says):
            manifest(tmp_path)


@pytest.mark.parametrize("path", [str(DATA / "a.flac"), "../a.flac", "sound/../../a.flac"])
def test_a_clip_outside_of_the_folder_is_refused_but_may_be_copied(path: str, tmp_path: Path) -> None:
    table = f"path,kind,split,label,licence,seconds\n{path},sound,train,Bark,CC0-1.0,1\n"
    (tmp_path / "manifest.csv").write_text(table)
    with pytest.raises(UserError, match=r"Line 2 .* outside of its folder"):
        read_manifest(tmp_path, "train")
    assert manifest(tmp_path).skipped == {"missing": 1}


def test_a_table_that_a_spreadsheet_saved_is_read(tmp_path: Path) -> None:
    table = "path,kind,split,label,licence,seconds\nb.flac,sound,train,Bärk,CC0-1.0,1\n"
    (tmp_path / "manifest.csv").write_text(table, encoding="utf-8-sig")
    assert [clip.label for clip in read_manifest(tmp_path, "train")] == ["Bärk"]


def test_what_is_beyond_full_scale_is_scaled_down_not_cut_off(tmp_path: Path) -> None:
    wave = np.sin(np.arange(16000) / 5).astype(np.float32)
    soundfile.write(tmp_path / "loud.wav", 4 * wave, 16000, subtype="FLOAT")
    np.testing.assert_allclose(read_clip(tmp_path / "loud.wav", 16000) / 2**15, wave, atol=1e-3)


def test_utterances_of_a_speaker_are_joined(bank: ClipBank) -> None:
    speech = bank.groups[bank.labels.index(SPEECH)]
    assert len(speech) == 2
    assert (bank.length[speech] > 3.5 * 16000).all()


def test_two_banks_joined_have_the_clips_of_both(bank: ClipBank) -> None:
    clips = read_manifest(DATA, "test")
    other = ClipBank(clips, ["rain", "siren", SPEECH])
    both = bank.joined(other)
    assert both.labels == ("Bark", "Saxophone", "rain", SPEECH, "siren")
    assert both.seconds == bank.seconds + other.seconds
    for part, first in ((bank, 0), (other, len(bank.label))):
        for i in range(len(part.label)):
            assert (both.clip(first + i) == part.clip(i)).all()
            assert both.labels[int(both.label[first + i])] == part.labels[int(part.label[i])]
    assert [len(group) for group in both.groups] == [2, 2, 4, 4, 0]
    assert len(bank.groups[2]) == 2


def test_rendering_without_augmentation_gives_the_clip_itself(bank: ClipBank) -> None:
    clip = next(c for c in read_manifest(DATA, "train") if c.label == "Bark" and c.seconds < 2)
    wave = torch.from_numpy(read_clip(clip.path, 16000)).float()
    index = next(int(i) for i in bank.groups[0] if int(bank.length[i]) == len(wave))
    out = bank.render(torch.tensor([index]), 64000, torch.Generator().manual_seed(3), augment=False)[0]
    assert out.square().mean().sqrt() == pytest.approx(1, abs=1e-3)
    # The clip lies somewhere in the signal, between two samples: its cross-correlation there is nearly one.
    size = 2**17
    correlation = torch.fft.irfft(torch.fft.rfft(out, size) * torch.fft.rfft(wave, size).conj(), size)
    assert float(correlation.max() / (out.norm() * wave.norm())) > 0.95


def test_same_generator_same_signals(bank: ClipBank) -> None:
    clips = torch.tensor([0, 3, 5])
    a, b = (bank.render(clips, 32000, torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(a, b)
    assert not torch.equal(a, bank.render(clips, 32000, torch.Generator().manual_seed(8)))


def test_crops_of_silence_are_drawn_again(tmp_path: Path) -> None:
    wave = np.zeros((1, 160_000), np.float32)
    wave[:, :64_000] = 0.1 * np.random.default_rng(0).standard_normal(64_000)
    writing.write(tmp_path / "owl.wav", wave, 16000, FileFormat())
    bank = ClipBank([Clip(tmp_path / "owl.wav", "train", "owl", "", "own", 10.0)], ["owl"])
    out = bank.render(torch.zeros(64, dtype=torch.long), 16_000, torch.Generator().manual_seed(0))
    assert out.any(1).all()


def test_weights_give_every_wanted_label_its_share(bank: ClipBank) -> None:
    weight = bank.weights(["Bark", "rain"])
    assert weight.sum() == pytest.approx(1)
    assert weight[bank.groups[1]].sum() == 0
    assert weight[bank.groups[0]].sum() > 0.2


def test_a_long_clip_is_rendered_as_finely_as_a_short_one(tmp_path: Path) -> None:
    # 25 minutes whose samples count up: beyond 2^24 of them 32 bits hold no odd number.
    many = 25 * 60 * 16000
    soundfile.write(tmp_path / "long.wav", (np.arange(many) % 1000).astype(np.int16), 16000)
    long = ClipBank([Clip(tmp_path / "long.wav", "train", "hum", "", "CC0-1.0", 1500.0)], ["hum"])
    for augment in (False, True):
        out = long.render(torch.zeros(8, dtype=torch.long), 8000, torch.Generator().manual_seed(1), augment=augment)
        steps = out.diff(dim=1).abs()
        even = (steps - steps.median(1, keepdim=True).values).abs() < 0.02 * steps.median(1, keepdim=True).values
        assert (even.float().mean(1) > 0.99).all()
