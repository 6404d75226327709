"""`sourceprior convert`: from a published file to a prior on disk, and every mistake in one sentence."""

import json
import os

import pytest
import torch

from golden_case import filled
from sourceprior.cli import app
from sourceprior.errors import UserError
from sourceprior.networks.attention_unet import AttentionUNet

# As many and as long as FSDKaggle2018's: longer than any name of a file may be.
LABELS = [f"Some_sound_or_other_{index}" for index in range(41)]


@pytest.fixture
def checkpoint(tmp_path):
    network = filled(AttentionUNet(8, 50, blocks=(1, 1, 1, 1, 1)))
    torch.save({"model": {}, "ema": network.state_dict()}, tmp_path / "authors.pt")
    return str(tmp_path / "authors.pt")


def convert(*words: object) -> None:
    assert not app(["convert", *map(str, words)], standalone_mode=False)


def labels_in(folder) -> list[str]:
    return json.loads((folder / "config.json").read_text())["labels"]


def test_labels_come_from_the_command_line_or_a_file(checkpoint, tmp_path):
    convert(checkpoint, tmp_path / "a", "--classes", ", ".join(LABELS))
    assert labels_in(tmp_path / "a") == LABELS
    # A byte order mark and empty lines are no part of a label.
    (tmp_path / "labels.txt").write_text("\ufeff" + "\n\n".join(LABELS) + "\n", encoding="utf-8")
    convert(checkpoint, tmp_path / "b", "--classes", tmp_path / "labels.txt")
    assert labels_in(tmp_path / "b") == LABELS


def test_a_folder_that_holds_something_is_left_alone(checkpoint, tmp_path):
    convert(checkpoint, tmp_path / "a", "--classes", ", ".join(LABELS))
    before = {file.name: file.read_bytes() for file in (tmp_path / "a").iterdir()}
    assert (tmp_path / "a" / "model.safetensors").stat().st_mode & 0o777 == 0o666 & ~umask()
    with pytest.raises(UserError, match="choose another folder"):
        convert(checkpoint, tmp_path / "a")
    assert {file.name: file.read_bytes() for file in (tmp_path / "a").iterdir()} == before


def umask() -> int:
    now = os.umask(0)
    os.umask(now)
    return now


def test_mistakes_are_one_sentence(checkpoint, tmp_path):
    (tmp_path / "latin.txt").write_bytes("Flöte\nGeige\n".encode("latin-1"))
    (tmp_path / "file").touch()
    out = tmp_path / "out"
    # A pickle may begin as a WAV does.
    (tmp_path / "tone.wav").write_bytes(b"RIFF" + bytes(range(200)))
    for words, says in [
        ((checkpoint, tmp_path / "file"), "not a folder"),
        ((checkpoint, tmp_path / "file" / "below"), "not a folder"),
        ((checkpoint, out, "--classes", tmp_path / "latin.txt"), "no text in UTF-8"),
        ((checkpoint, out, "--classes", tmp_path / "lables.txt"), "There is no file"),
        ((checkpoint, out, "--classes", "x,x"), "both called 'x'"),
        ((checkpoint, out, "--classes", "dog bark,rain,Dog_Bark"), "both called 'dogbark'"),
        ((checkpoint, out, "--classes", ","), "50 classes, not 0"),
        ((checkpoint, out, "--classes", "../../evil,rain"), "cannot be the name of a source"),
        ((tmp_path / "tone.wav", out), "is damaged or not a PyTorch file"),
        ((checkpoint, out, "--weights", "best"), "'ema' and 'model', not 'best'"),
    ]:
        with pytest.raises(UserError) as caught:
            convert(*words)
        assert says in str(caught.value)
        assert "\n" not in str(caught.value)
    assert not out.exists()
