"""`sourceprior learn`, from a folder of clips to a prior that separates; with a tiny network and a tiny bank."""

import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from sourceprior import learning, learning_folder, library
from sourceprior.commands.labels import labels as list_labels
from sourceprior.commands.prior import prior as prior_command
from sourceprior.errors import UserError
from sourceprior.learning import NEGATIVES, Piece, Settings, hold_out
from sourceprior.learning_report import sentences
from sourceprior.licences import kind_of
from sourceprior.packs import read_clips, write_pack
from sourceprior.priors import SourcePrior
from sourceprior.runs import is_voice
from sourceprior.separation import separate

DATA = Path(__file__).parent / "data"
RATE = 16000
FEW = Settings(rank=2, steps=6, check=2, batch=4, seconds=0.5, rate=1e-2)


@pytest.fixture(scope="module")
def bank(tmp_path_factory) -> Path:
    """The tests' clips as a bank of other sounds; what the data calls "test" is its "valid"."""
    root = tmp_path_factory.mktemp("bank")
    shutil.copytree(DATA, root / "data")
    table = (root / "data" / "manifest.csv").read_text()
    (root / "data" / "manifest.csv").write_text(table.replace(",test,", ",valid,"))
    write_pack(root / "data", root / "pack")
    return root / "pack"


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Ten files of chirps, one of them broken."""
    folder = tmp_path / "clips"
    folder.mkdir()
    time = np.arange(RATE) / RATE
    for i in range(9):
        chirp = np.sin(2 * np.pi * (3000 + 100 * i) * time + 30 * np.sin(2 * np.pi * 8 * time)) * np.hanning(RATE)
        soundfile.write(folder / f"robin{i}.wav", 0.3 * chirp, RATE)
    (folder / "robin9.wav").write_bytes(b"RIFF")
    return folder


@pytest.fixture
def world(priors, bank, monkeypatch):
    """The tiny priors in the place of the bundled ones, the tiny bank in that of the package's."""
    monkeypatch.setattr(library, "bundled", lambda: tuple(priors))
    monkeypatch.setattr(learning_folder, "bundled", lambda: tuple(priors))
    return lambda folder, name, out, **options: learning_folder.learn(
        folder, name, out, **{"settings": FEW, "negatives": bank} | options
    )


def test_a_source_is_learned_reported_and_separated(world, clips: Path, tmp_path: Path, priors) -> None:
    steps: list[tuple] = []
    out = tmp_path / "my-prior"
    report = world(clips, "robin", out, licence="CC0-1.0", progress=lambda *given: steps.append(given))
    assert [step[:2] for step in steps] == [(i + 1, 6) for i in range(6)]
    assert len(report["clips"]) == 9
    assert [item["file"] for item in report["left out"]] == ["robin9.wav"]
    assert (report["learned from"], report["held out"]) == (7, 2)
    assert report["selectivity"].keys() == {"speech", "Bark", "Saxophone", "rain"}
    assert report["read as"].keys() == {"speech", "Bark", "rain"} == report["left alone"].keys()
    assert json.loads((out / "robin.report.json").read_text())["sentences"] == report["sentences"]
    assert "1 file was left out:\n  robin9.wav: is not a sound file" in (out / "robin.report.txt").read_text()

    prior = SourcePrior.from_pretrained(out)
    assert prior.labels == ("anything", "Bark", "rain", "robin")
    assert "robin0.wav | 1.0 | CC0-1.0" in prior.card
    sounds = SourcePrior.from_pretrained(saved(priors[1], tmp_path / "sounds"))
    x, sigma = 0.1 * torch.randn(3, 4000), torch.full((3,), 0.1)
    with torch.no_grad():
        assert torch.equal(prior.denoiser(x, sigma, torch.arange(3)), sounds.denoiser(x, sigma, torch.arange(3)))

    mixture = soundfile.read(clips / "robin0.wav")[0] + 0.05 * np.random.default_rng(0).normal(size=RATE)
    result = separate(mixture, RATE, ["robin", "speech", "rain"], prior=out, preset="fast")
    assert list(result.stems) == ["robin", "speech", "rain"]
    np.testing.assert_allclose(sum(result.stems.values()) + result.residual, mixture, atol=1e-6)


def saved(prior: SourcePrior, folder: Path) -> Path:
    prior.save_pretrained(folder)
    return folder


def test_the_same_seed_gives_the_same_prior(world, clips: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        world(clips, "robin", tmp_path / name)
    a, b = (SourcePrior.from_pretrained(tmp_path / name).denoiser.state_dict() for name in ("a", "b"))
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_it_learns_what_the_class_is_and_stops_by_itself(priors, bank, clips: Path) -> None:
    pieces = learning_folder.read_folder(clips, RATE).pieces
    own, held = hold_out(pieces, 0.2, 0)
    settings = Settings(rank=2, steps=200, check=5, patience=2, batch=4, seconds=0.5, rate=3e-2)
    result = learning.learn_class(priors[1], "robin", own, held, settings, negatives=bank)
    losses = dict(result.losses)
    assert losses[result.best] == min(losses.values())
    assert losses[result.best] < 0.97 * losses[0]
    assert result.steps in (200, result.best + 10)


class Clock:
    """A second passes whenever somebody looks."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        self.now += 1
        return self.now


def test_what_was_learned_when_time_ends_between_two_looks_is_kept(priors, bank, clips: Path, monkeypatch) -> None:
    own, held = hold_out(learning_folder.read_folder(clips, RATE).pieces, 0.2, 0)
    settings = Settings(rank=2, steps=200, check=150, batch=4, seconds=0.5, rate=3e-2, minutes=0.5)
    monkeypatch.setattr(learning, "time", Clock())
    result = learning.learn_class(priors[1], "robin", own, held, settings, negatives=bank)
    assert 5 < result.steps < 30
    assert [step for step, _ in result.losses] == [0, result.steps]
    assert result.best == result.steps


def test_no_time_at_all_is_told_as_that(world, clips: Path, tmp_path: Path) -> None:
    report = world(clips, "robin", tmp_path / "out", minutes=1e-4)
    assert (report["steps"], report["best step"]) == (0, 0)
    assert "Time was up before anything could be learned" in " ".join(report["sentences"])
    assert "Learning did not help" not in " ".join(report["sentences"])


def test_an_interruption_leaves_nothing(world, clips: Path, tmp_path: Path) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        world(clips, "robin", tmp_path / "out", progress=interrupt)
    assert [path.name for path in tmp_path.iterdir()] == ["clips"]


def test_a_write_that_fails_leaves_what_was_there(world, clips: Path, tmp_path: Path, monkeypatch) -> None:
    world(clips, "robin", tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(UserError, match="No space left"):
        world(clips, "owl", tmp_path / "out")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clips", "out"]


def test_what_else_is_in_the_folder_stays_there(world, clips: Path, tmp_path: Path, monkeypatch) -> None:
    out = tmp_path / "out"
    world(clips, "robin", out)
    shutil.copytree(clips, out / "recordings" / "robin")
    (out / "LICENSE").write_text("mine")
    (out / "walk.report.txt").write_text("of a walk")
    foreign = {path: path.read_bytes() for path in (*(out / "recordings").rglob("*.wav"), out / "LICENSE")}
    foreign[out / "walk.report.txt"] = b"of a walk"
    assert len(foreign) == 12

    def intact() -> bool:
        return all(path.read_bytes() == content for path, content in foreign.items())

    world(clips, "owl", out)
    assert intact()
    prior_command("rename", [str(out), "robin", "erithacus"])
    prior_command("remove", [str(out), "owl"])
    assert intact()
    assert SourcePrior.from_pretrained(out).labels[-1] == "erithacus"
    names = {path.name for path in out.iterdir()}
    assert names == {"config.json", "model.safetensors", "README.md", "erithacus.report.txt", "erithacus.report.json",
                     "LICENSE", "walk.report.txt", "recordings"}  # fmt: skip

    # A write that fails half-way puts everything back.
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    rename, calls = Path.rename, iter(range(100))

    def fail_later(self: Path, target: Path) -> Path:
        if next(calls) == 5:
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_later)
    with pytest.raises(UserError, match="No space left"):
        prior_command("rename", [str(out), "erithacus", "robin"])
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clips", "out"]


def test_a_second_source_and_the_commands_on_what_was_learned(world, clips: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    world(clips, "robin", out, licence="CC-BY-NC-3.0")
    world(clips, "owl", out)
    with pytest.raises(UserError, match="knows 'owl' already"):
        world(clips, "Owl", out)
    with pytest.raises(UserError, match="leave --base out"):
        world(clips, "wren", out, base="sounds")
    list_labels(json=True, prior=[str(out)])
    rows = {row["label"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows.keys() == {"anything", "Bark", "rain", "robin", "owl", "speech"}
    assert "no commercial use, as 9 of 19 clips" in rows["robin"]["use"]
    assert rows["owl"]["licence"] == "not stated"
    assert SourcePrior.from_pretrained(out).licence == "CC-BY-4.0 AND CC-BY-NC-3.0 AND LicenseRef-not-stated"

    prior_command("rename", [str(out), "robin", "erithacus"])
    assert (out / "erithacus.report.txt").is_file()
    assert not (out / "robin.report.txt").exists()
    # What is told of it is told of the new name.
    report = json.loads((out / "erithacus.report.json").read_text())
    assert report["name"] == "erithacus"
    for text in ((out / "erithacus.report.txt").read_text(), *report["sentences"]):
        assert "robin" not in re.sub(r"robin\S*\.wav", "", text)
    assert "erithacus: learned from" in (out / "erithacus.report.txt").read_text()
    card = (out / "README.md").read_text()
    assert all(sentence in card for sentence in report["sentences"])
    # A report that is not as it was written keeps its text.
    (out / "erithacus.report.json").write_text("[1]")
    prior_command("rename", [str(out), "erithacus", "robin"])
    assert (out / "robin.report.json").read_text() == "[1]"
    prior_command("rename", [str(out), "robin", "erithacus"])
    prior_command("remove", [str(out), "owl"])
    assert not (out / "owl.report.json").exists()
    world(clips, "wren", tmp_path / "other")
    prior_command("merge", [str(out), str(tmp_path / "other")], out=tmp_path / "both")
    capsys.readouterr()
    prior_command("list", [str(tmp_path / "both")])
    text = capsys.readouterr().out
    assert "3 labels of sounds, 2 learned" in text
    assert "erithacus: 9 clips" in text
    assert {path.name for path in (tmp_path / "both").glob("*.txt")} == {"erithacus.report.txt", "wren.report.txt"}
    for wrong in (["rename", [str(out)]], ["mend", [str(out)]], ["merge", [str(out), str(out)]]):
        with pytest.raises(UserError, match="Write it so"):
            prior_command(*wrong)


def test_what_cannot_be_learned_from_or_into(world, clips: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a prior"):
        world(clips, "robin", clips)
    with pytest.raises(UserError, match="knows 'rain' already"):
        world(clips, "Rain", tmp_path / "out")
    with pytest.raises(UserError, match="no bundled prior 'birds'"):
        world(clips, "robin", tmp_path / "out", base="birds")
    for path in sorted(clips.glob("*.wav"))[1:]:
        path.unlink()
    with pytest.raises(UserError, match="at least two clips"):
        world(clips, "robin", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_held_out_clips_are_other_files_where_there_are_enough() -> None:
    def pieces(files: int, each: int) -> list[Piece]:
        return [Piece(f"{i}.wav", np.full(9, i, np.int16)) for i in range(files) for _ in range(each)]

    own, held = hold_out(pieces(10, 3), 0.2, 0)
    assert len({piece.file for piece in held}) == 2
    assert not {piece.file for piece in held} & {piece.file for piece in own}
    own, held = hold_out(pieces(1, 10), 0.2, 0)
    assert (len(own), len(held)) == (8, 2)


def test_sentences_tell_what_is_confused_and_what_to_record() -> None:
    def row(value: float) -> dict[str, float]:
        return {"1": value, "2": value, "5": value}

    case = {key: {"snr": 5.0, "gain": 5.0} for key in ("1", "2", "5")}
    report = {
        "name": "robin", "clips": [{}] * 4, "seconds": 8.0, "denoising": {"held out": case, "learned from": case},
        "selectivity": {"speech": row(9), "birds": row(0.5), "rain": row(5)}, "takes": ["birds"],
        "left alone": {"speech": 5.0, "birds": 0.4, "rain": 3.0},
        "gives to": ["birds", "Flute"], "not examined": [], "best step": 50, "left out": [], "lowest sample rate": 8000,
        "licences": {"not stated": 4},
    }  # fmt: skip
    text = " ".join(sentences(report))
    for words in (
        "very selective", "take parts of birds", "birds and Flute will take", "Record more: 4 clips", "no birds",
        "8000 Hz", "--licence",
    ):  # fmt: skip
        assert words in text
    report |= {"takes": [], "gives to": [], "clips": [{}] * 20, "seconds": 90.0, "lowest sample rate": 48000,
               "licences": {"own": 20}}  # fmt: skip
    assert "not likely to be confused" in " ".join(sentences(report))
    report["denoising"] = {"held out": case, "learned from": {"1": {"snr": 9.0, "gain": 9.0}}}
    assert "these recordings rather than the source" in " ".join(sentences(report))
    assert "The bundled prior speech has the label Speech, too" in " ".join(sentences(report | {"name": "Speech"}))
    assert "bundled prior" not in text


def test_the_bank_of_the_package_has_every_class_of_the_bundled_priors() -> None:
    known = {label for prior in library.bundled() for label in prior.labels}
    train, valid = (read_clips(NEGATIVES, split, "any") for split in ("train", "valid"))
    kinds = {label for label in known if not is_voice(label)}
    assert kinds - {clip.label for clip in train} == {"anything"}
    assert not {clip.path for clip in train} & {clip.path for clip in valid}
    assert all(kind_of(clip.licence) == "any" for clip in (*train, *valid))
    credits = (NEGATIVES / "CREDITS.md").read_text()
    assert credits.count("\n| ") >= len(train) + len(valid)
    assert sum(path.stat().st_size for path in NEGATIVES.iterdir()) < 4e6


def test_clips_of_the_same_sound_are_no_negatives():
    """A class is not taught as silence under another name of its own."""
    pieces = [learning.Piece("a.wav", np.ones(16000, np.int16))]

    def others(name, **given):
        return set(learning.bank_of(name, pieces, "train", 16000, **given).labels) - {name}

    assert {"Bark", "siren"} <= others("robin")
    assert "Bark" not in others("dog")
    assert "siren" not in others("my siren", same_as=("siren",))


def test_what_was_taught_meanwhile_is_kept(world, clips: Path, tmp_path: Path, monkeypatch) -> None:
    out, learn_class = tmp_path / "out", learning_folder.learn_class

    def meanwhile(*given, **options):
        monkeypatch.setattr(learning_folder, "learn_class", learn_class)
        world(clips, "owl", out, licence="own")
        return learn_class(*given, **options)

    monkeypatch.setattr(learning_folder, "learn_class", meanwhile)
    world(clips, "robin", out, licence="own")
    assert SourcePrior.from_pretrained(out).labels[-2:] == ("owl", "robin")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clips", "out"]


def test_a_prior_can_be_a_link_to_a_folder(world, clips: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk")
    # What a killed call left behind is in nobody's way.
    (tmp_path / "disk" / ".sourceprior.killed").mkdir()
    world(clips, "robin", tmp_path / "out", licence="own")
    assert (tmp_path / "out").is_symlink()
    assert SourcePrior.from_pretrained(tmp_path / "disk").labels[-1] == "robin"


def test_a_place_that_cannot_be_written_to_is_told_before_anything_is_learned(world, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="not a folder"):
        world(tmp_path / "no clips", "robin", tmp_path / "file" / "out")


def test_a_clip_whose_name_is_no_utf_8(world, clips: Path, tmp_path: Path) -> None:
    (clips / "robin0.wav").rename(clips / os.fsdecode(b"r\xe4.wav"))
    report = world(clips, "robin", tmp_path / "out", licence="own")
    assert "r\ufffd.wav" in [item["file"] for item in report["clips"]]
    assert "robin" in SourcePrior.from_pretrained(tmp_path / "out").labels


def test_authors_of_clips_and_of_other_sounds_are_named_on_a_free_base(world, clips: Path, tmp_path, priors) -> None:
    replace(priors[1], licence="CC0-1.0").save_pretrained(tmp_path / "free")
    world(clips, "robin", tmp_path / "out", licence="CC0-1.0", base=str(tmp_path / "free"))
    # The bank of other sounds is partly CC-BY.
    assert SourcePrior.from_pretrained(tmp_path / "out").licence == "CC0-1.0 AND CC-BY-4.0"
