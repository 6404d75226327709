"""`sourceprior train` from the command to the prior: both objectives, broken files, data larger than memory."""

import csv
import json
import os
import shutil
import weakref
from collections import Counter
from functools import partial
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import processes_case as case
from sourceprior import corpus, training, writing
from sourceprior.cli import app
from sourceprior.commands.train import train
from sourceprior.corpus import Corpus, clips_of, read_folder
from sourceprior.datasets import ClipBank, read_manifest
from sourceprior.errors import UserError
from sourceprior.examples import ExampleMaker
from sourceprior.formats import FileFormat
from sourceprior.licences import use_of_label
from sourceprior.objectives import Noise, find_backbone, noise_loss, objective_of, rows_of
from sourceprior.packs import write_pack
from sourceprior.priors import SourcePrior
from sourceprior.rolling import Rolling
from sourceprior.runs import is_voice, labels_of, start_from, way_of_negatives
from sourceprior.sampling import find_device, training_device
from sourceprior.separation import separate
from sourceprior.shards import INDEX, Shards, write_shards
from sourceprior.training import Settings, Trainer

DATA = Path(__file__).parent / "data"
NARROW = ["network.width=8", "network.blocks=[1,1,1,1,1]", "network.embedding=16", "seconds=0.25"]
TINY = [
    "network.widths=[8,16]", "network.depths=[1,1]", "network.bottom=16", "network.dilations=[1]",
    "network.condition=16", "seconds=0.5", "check_clips=2",
]  # fmt: skip


@pytest.fixture(autouse=True)
def rough_spectra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Average spectra from a few draws: measuring them well would take longer than training these networks."""
    monkeypatch.setattr(training, "measure_spectra", case.few_draws)


def run(data: str | Path, out: Path, **options) -> SourcePrior:
    """Train a few steps on a CPU; the prior of the run."""
    plain = {"compile": False, "report": False, "device": "cpu", "precision": "fp32", "until": 1e9}
    train(str(data), out, **plain | options)
    return SourcePrior.from_pretrained(out / "prior")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder per class: 18 good clips of three classes, and two broken ones."""
    root = tmp_path_factory.mktemp("folder")
    for i, clip in enumerate(read_manifest(DATA)):
        place = root / clip.label / f"{clip.label}_{i}{clip.path.suffix}"
        place.parent.mkdir(exist_ok=True)
        shutil.copyfile(clip.path, place)
    (root / "Bark" / "broken.wav").write_bytes(b"RIFF no sound at all")
    (root / "rain" / "empty.flac").write_bytes(b"")
    return root


def test_a_narrow_attention_u_net_trains_resumes_and_separates(tmp_path: Path) -> None:
    options = {"recipe": "paper", "sources": "sounds", "batch": 2, "change": NARROW}
    run(DATA, tmp_path / "whole", steps=4, **options)
    run(DATA, tmp_path / "cut", steps=4, until=0.0, **options)
    prior = run(DATA, tmp_path / "cut", steps=4, **options)
    a, b = (torch.load(tmp_path / name / "last.pt", weights_only=True) for name in ("whole", "cut"))
    for part in ("denoiser", "average"):
        assert all(torch.equal(a[part][name], b[part][name]) for name in a[part])
    assert prior.labels == ("Bark", "Saxophone", "rain")
    assert prior.config["training"]["negatives"] == "none"
    assert "attention_unet.AttentionUNet" in prior.card
    x = 0.05 * torch.randn(8000, generator=torch.Generator().manual_seed(0)).numpy()
    result = separate(x, 16000, ["Bark", "rain"], prior=prior, steps=2)
    assert set(result.stems) == {"Bark", "rain"}


def test_an_untrained_epsilon_network_has_a_loss_of_one_and_learns(tmp_path: Path) -> None:
    settings = Settings(
        labels=("Bark", "rain", "anything"), backbone="attention_unet", batch=2, drawn=1, seconds=0.25, rate=1e-2,
        optimizer="adamw", decay="none", warmup=1, precision="fp32", compile=False, null_share=0.5, augment=False,
        network={"width": 8, "blocks": (1, 1, 1, 1, 1), "embedding": 16},
    )  # fmt: skip
    bank = ClipBank(read_manifest(DATA, "train"), ["Bark", "Saxophone", "rain"])
    trainer = Trainer(settings, bank, tmp_path)
    fixed = trainer.batch(0)
    assert float(noise_loss(trainer.denoiser, *fixed).mean().detach()) == pytest.approx(1, abs=0.05)
    trainer.batch = lambda number: fixed  # type: ignore[method-assign]
    losses = [float(trainer.train_step()) for _ in range(10)]
    assert losses[-1] < 0.9 * losses[0]
    # Half of the labels are left out, and "no class" is the network's last row.
    labels = torch.cat([Noise(settings).draw(bank, 1, seed)[3] for seed in range(40)])
    assert 8 < int((labels == trainer.denoiser.network.null_label).sum()) < 32


def test_rows_of_each_network() -> None:
    epsilon = Settings(labels=(), backbone="attention_unet", null_share=0.1)
    assert rows_of(("anything", "Bark", "rain"), epsilon) == ("Bark", "rain", "anything")
    epsilon.null_share = 0.0
    assert rows_of(("anything", "Bark", "rain"), epsilon) == ("Bark", "rain")
    with pytest.raises(UserError, match="one class"):
        rows_of(("Bark", "rain"), Settings(labels=(), backbone="diffwave"))
    with pytest.raises(UserError, match="no network 'unet'"):
        find_backbone("unet")


def test_broken_files_are_left_out_and_reported(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prior = run(folder, tmp_path, sources="all", batch=2, steps=2, change=TINY)
    printed = capsys.readouterr().out
    assert "2 clips were left out" in printed
    with (tmp_path / "bad_clips.csv").open(newline="") as rows:
        assert {(Path(row["path"]).name, row["reason"]) for row in csv.DictReader(rows)} == {
            ("broken.wav", "broken"), ("empty.flac", "broken"),
        }  # fmt: skip
    assert prior.config["training"]["data"]["clips left out"] == 2
    assert set(prior.labels) == {"anything", "speech", "Bark", "Saxophone", "rain"}
    assert (tmp_path / "best.pt").is_file()


def test_a_folder_per_class_keeps_clips_for_validation(folder: Path, tmp_path: Path) -> None:
    train_clips, valid = read_folder(folder, "train"), read_folder(folder, "valid")
    assert not {clip.path for clip in train_clips} & {clip.path for clip in valid}
    assert {clip.label for clip in valid} == {clip.label for clip in train_clips}
    (tmp_path / "nothing").mkdir()
    with pytest.raises(UserError, match="folder of sound files for each class"):
        read_folder(tmp_path / "nothing", "train")


def test_takes_of_one_recording_are_in_one_split(tmp_path: Path) -> None:
    for day in range(12):
        for take in range(3):
            place = tmp_path / "owl" / f"day{day:02d}_{take}.wav"
            place.parent.mkdir(exist_ok=True)
            writing.write(place, np.zeros((1, 100), np.float32), 16000, FileFormat())
    days = [{clip.path.stem[:5] for clip in read_folder(tmp_path, split)} for split in ("train", "valid")]
    assert not days[0] & days[1]
    assert [len(day) for day in days] == [10, 2]


@pytest.fixture
def small_bank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' clips in the place of the package's bank of other sources; what is "test" there is "valid" here."""
    shutil.copytree(DATA, tmp_path / "bank")
    table = (tmp_path / "bank" / "manifest.csv").read_text().replace(",test,", ",valid,")
    (tmp_path / "bank" / "manifest.csv").write_text(table)
    write_pack(tmp_path / "bank", tmp_path / "pack")
    monkeypatch.setattr(corpus, "NEGATIVES", tmp_path / "pack")


def some(folder: Path, out: Path, *labels: str) -> Path:
    """The good clips of some classes of a folder."""
    for label in labels:
        shutil.copytree(folder / label, out / label, ignore=shutil.ignore_patterns("broken.wav", "empty.flac"))
    return out


@pytest.mark.parametrize(("label", "others"), [("speech", {"Bark", "Saxophone", "rain"}), ("rain", {"Bark", "speech"})])
def test_one_source_alone_is_told_from_those_of_the_package(
    label: str, others: set[str], folder: Path, tmp_path: Path, small_bank: None, capsys: pytest.CaptureFixture[str]
) -> None:
    data = some(folder, tmp_path / "data", label)
    seen = []

    class Watched(Trainer):
        def __init__(self, settings: Settings, bank: ClipBank, *given) -> None:
            seen.append((bank, ExampleMaker(bank, settings.labels, seconds=0.5).draw(24, 0).has_other))
            super().__init__(settings, bank, *given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "Trainer", Watched)
        prior = run(data, tmp_path / "run", sources="all", batch=2, steps=1, change=TINY)
    ((bank, has_other),) = seen
    assert others <= set(bank.labels)
    assert has_other.any()
    assert set(prior.labels) - {"anything"} == {label}
    told = prior.config["training"]
    assert "the package's bank of other sources" in told["data"]["negatives from"]
    assert told["data"]["negatives from"] in capsys.readouterr().out
    assert told["data"]["negatives from"] in prior.card
    assert told["data"]["clips per licence"] == {"not stated": len(list((data / label).iterdir())) - 1}
    assert set(told["data"]["negatives per licence"]) <= {"CC0-1.0", "CC-BY-4.0"}
    assert told["data"]["negatives per licence"]
    # What it is told from is there when it is looked how well, too.
    assert any("on sounds" in name or "on speech" in name for name in told["figures"])


def test_a_class_under_another_word_is_no_negative_of_itself(folder: Path, tmp_path: Path, small_bank: None) -> None:
    some(folder, tmp_path / "data", "Bark").joinpath("Bark").rename(tmp_path / "data" / "dog_bark")
    assert {clip.label for clip in Corpus(tmp_path / "data").borrow()} == {"Saxophone", "rain", "speech"}


def test_a_valid_split_without_own_clips_ends_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(DATA, tmp_path / "data")
    table = tmp_path / "data" / "manifest.csv"
    rows = table.read_text().splitlines()
    spoken = [row.replace(",test,", ",valid,") if ",speech," in row else row for row in rows]
    table.write_text("\n".join(spoken) + "\n")
    prior = run(tmp_path / "data", tmp_path / "run", sources="sounds", batch=2, steps=1, change=TINY)
    assert "the valid split has no clips of sounds" in capsys.readouterr().out
    assert prior.config["training"]["figures"] == {}


def test_the_card_of_a_best_checkpoint_tells_of_that(tmp_path: Path) -> None:
    bank = ClipBank(read_manifest(DATA, "train"), ["rain"])
    settings = Settings(("rain",), steps=2, compile=False, batch=2, network={"widths": [8], "depths": [1], "bottom": 8})
    trainer = Trainer(settings, bank, tmp_path)
    trainer.run()
    trainer.step, trainer.elapsed, trainer.best = 1, 60.0, 0.5
    trainer.save("best.pt")
    trainer.step, trainer.elapsed = 2, 120.0
    assert trainer.take_best()
    assert (trainer.step, trainer.elapsed, trainer.last_valid) == (1, 60.0, 0.5)


def test_voices_become_parts_of_speech_that_two_speakers_are_taken_for(tmp_path: Path) -> None:
    shutil.copytree(DATA, tmp_path / "data")
    table = tmp_path / "data" / "manifest.csv"
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        if row["kind"] == "speech":
            row |= {"gender": "m", "age": "9" if row["speaker"] in ("so2252", "so1027") else "40"}
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    options = {"sources": "speech", "batch": 2, "steps": 1, "change": TINY}
    kinds = run(tmp_path / "data", tmp_path / "kinds", voices=True, **options)
    assert set(kinds.labels) == {"speech", "male_speech", "child_speech"}
    groups = run(DATA, tmp_path / "groups", voice_groups=2, **options)
    assert groups.labels == ("speech", "voice_1", "voice_2")
    x = 0.05 * torch.randn(16000, generator=torch.Generator().manual_seed(0)).numpy()
    for prior in (kinds, groups):
        assert prior.config["parts"] == {"speech": list(prior.labels[1:])}
        result = separate(x, 16000, ["speech", "speech"], prior=prior, steps=1)
        assert {entry["label"] for entry in result.report["priors"]} <= set(prior.labels)


def test_sounds_alone_are_told_from_one_another(folder: Path, tmp_path: Path) -> None:
    assert Corpus(some(folder, tmp_path / "sounds", "Bark", "rain")).borrow() == []
    known = ("Bark", "rain")
    assert "the other classes of the data" in way_of_negatives(Settings(labels=known), known, 0)
    assert way_of_negatives(Settings(labels=known), (*known, "speech"), 0) == "spliced, from the data"
    assert way_of_negatives(Settings(labels=known, backbone="attention_unet"), known, 0) == "none"


def test_what_a_prior_may_be_used_for_follows_from_all_that_went_into_it(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(DATA, tmp_path / "data")
    table = (tmp_path / "data" / "manifest.csv").read_text()
    (tmp_path / "data" / "manifest.csv").write_text(table.replace("CC-BY-4.0", "CC-BY-NC-4.0"))
    first = run(tmp_path / "data", tmp_path / "a", licence="any", batch=2, steps=1, change=TINY)
    # Speech is not among its sources, but they were told from it.
    assert first.config["training"]["data"]["clips per licence"] == {"CC0-1.0": 6}
    assert first.config["training"]["data"]["negatives per licence"] == {"CC-BY-NC-4.0": 4}
    assert first.licence == "CC0-1.0 AND CC-BY-NC-4.0"
    assert "no commercial use, as 4 of 10 clips forbid it" in first.card
    assert "license: other\n" in first.card
    assert f"soundfile {metadata.version('soundfile')}" in first.card
    assert first.config["training"]["data"]["name"] == "data"
    assert [row["used as"] for row in csv.DictReader(first.clips.splitlines())] == ["source"] * 6 + ["negative"] * 4
    capsys.readouterr()
    # Weights that began as these may be used no more freely.
    data = some(folder, tmp_path / "own", "Bark", "rain")
    second = run(data, tmp_path / "b", batch=2, steps=1, change=TINY, init=tmp_path / "a" / "prior")
    assert second.licence == "CC0-1.0 AND CC-BY-NC-4.0 AND LicenseRef-not-stated"
    assert second.config["training"]["init licences"] == {"CC0-1.0": 6, "CC-BY-NC-4.0": 4}
    assert "no commercial use" in use_of_label(second.config, "rain")
    assert "its clips are taken to be your own" in capsys.readouterr().out
    assert "not stated (6), as a folder per class states none: taken to be" in second.card


def test_a_run_goes_on_with_the_clips_and_the_prior_it_began_with(tmp_path: Path) -> None:
    data = tmp_path / "clips"
    shutil.copytree(DATA, data)
    table = (data / "manifest.csv").read_text()
    (data / "manifest.csv").write_text(table.replace("CC-BY-4.0", "CC-BY-NC-4.0"))
    options = {"batch": 2, "change": TINY}
    first = run(data, tmp_path / "a", licence="any", steps=1, **options)
    with pytest.raises(UserError, match=r"another licence filter \(any, not commercial\)"):
        run(data, tmp_path / "a", steps=2, **options)
    with pytest.raises(UserError, match=r"another name of its data \(clips, not data\)"):
        run(DATA, tmp_path / "a", licence="any", steps=2, **options)
    (data / "manifest.csv").write_text(table)
    with pytest.raises(UserError, match=r"negatives per licence \(CC-BY-NC-4\.0: 4, not CC-BY-4\.0: 4\)"):
        run(data, tmp_path / "a", licence="any", steps=2, **options)
    run(data, tmp_path / "b", steps=1, init=tmp_path / "a" / "prior", **options)
    with pytest.raises(UserError, match=r"prior it started from \(CC0-1\.0 AND CC-BY-NC-4\.0, not none\)"):
        run(data, tmp_path / "b", steps=2, **options)
    # Another run's best checkpoint, which was left in the folder, is none of this one's.
    shutil.copyfile(tmp_path / "a" / "last.pt", tmp_path / "a" / "best.pt")
    bank = ClipBank(read_manifest(DATA, "train"), ["rain"])
    again = Trainer(Settings(("rain",), steps=0, compile=False), bank, tmp_path / "a", first.denoiser)
    assert not again.take_best()
    # Checkpoints of earlier versions say nothing of it and go on.
    state = torch.load(tmp_path / "b" / "last.pt", weights_only=True)
    assert state.pop("origin")["licence of the prior it started from"] == first.licence
    torch.save(state, tmp_path / "b" / "last.pt")
    assert run(data, tmp_path / "b", steps=2, **options).config["training"]["steps"] == 2


def test_fine_tuning_starts_labels_it_lacks_from_anything(tmp_path: Path) -> None:
    whole = run(DATA, tmp_path / "a", batch=2, steps=2, change=TINY)
    grown = start_from(tmp_path / "a" / "prior", ("anything", "robin", "Bark"), grow=True)
    rows = grown.network.class_embedding.weight
    assert torch.equal(rows[1], rows[0])
    known = whole.denoiser.network.class_embedding.weight  # type: ignore[union-attr]
    assert torch.equal(rows[2], known[whole.index("Bark")])


def test_rows_of_an_attention_u_net_are_picked_by_name(tmp_path: Path) -> None:
    run(DATA, tmp_path / "a", recipe="paper", batch=2, steps=2, change=[*NARROW, "null_share=0.3"])
    prior = SourcePrior.from_pretrained(tmp_path / "a" / "prior")
    assert prior.labels[-1] == "anything"
    picked = start_from(tmp_path / "a" / "prior", ("rain", "anything"))
    x, sigma = 0.1 * torch.randn(1, 4000), torch.tensor([0.1])
    for row, label in enumerate(("rain", "anything")):
        with torch.no_grad():
            expected = prior.denoiser(x, sigma, torch.tensor([prior.index(label)]))
            torch.testing.assert_close(picked.eval()(x, sigma, torch.tensor([row])), expected)


# Data larger than memory: 1 MB holds 31 s, a third of it at a time.
SMALL_MEMORY = 5e-4


def test_parts_in_turns_hold_every_clip_once_a_pass_and_little_at_a_time() -> None:
    corpus = Corpus(DATA)
    whole = corpus.bank(corpus.labels(), 4.0, 2.0)
    rolling = corpus.bank(corpus.labels(), SMALL_MEMORY, 2.0)
    assert isinstance(whole, ClipBank)
    assert isinstance(rolling, Rolling)
    assert rolling.parts > 2
    parts = [rolling.part(turn) for turn in range(2 * rolling.parts)]
    for epoch in (parts[: rolling.parts], parts[rolling.parts :]):
        paths = [clip.path for part in epoch for piece in part for clip in piece]
        assert sorted(paths) == [clip.path for clip in corpus.clips("train")]
    assert parts[: rolling.parts] != parts[rolling.parts :]
    longest = max(sum(clip.seconds for clip in piece) for part in parts for piece in part)
    for turn in range(rolling.parts):
        assert rolling.at(turn * rolling.steps).seconds < whole.seconds / rolling.parts + longest + 1
        assert len(rolling.ready) <= 3


def test_data_in_turns_trains_and_resumes_with_the_same_clips(tmp_path: Path) -> None:
    options = {"sources": "all", "batch": 2, "change": TINY, "memory": SMALL_MEMORY, "steps": 12}
    run(DATA, tmp_path / "whole", **options)
    trainer_steps = iter(range(100))
    original = Trainer.train_step

    def stop_after_five(self: Trainer) -> torch.Tensor:
        if next(trainer_steps) == 5:
            self.save()
            raise KeyboardInterrupt
        return original(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "train_step", stop_after_five)
        with pytest.raises(KeyboardInterrupt):
            run(DATA, tmp_path / "cut", **options)
    run(DATA, tmp_path / "cut", **options)
    a, b = (torch.load(tmp_path / name / "last.pt", weights_only=True) for name in ("whole", "cut"))
    assert all(torch.equal(a["average"][name], b["average"][name]) for name in a["average"])


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test clips as shards of about 100 kB."""
    folder = tmp_path_factory.mktemp("shards")
    assert write_shards(DATA, folder, ["train"], megabytes=0.1) == []
    return folder


def test_shards_hold_the_clips_of_the_manifest(shards: Path) -> None:
    corpus, plain = Corpus(shards), Corpus(DATA)
    assert corpus.tally("train") == plain.tally("train")
    labels = plain.labels()
    a, b = corpus.bank(labels, 4.0, 2.0), plain.bank(labels, 4.0, 2.0)
    assert isinstance(a, ClipBank)
    assert isinstance(b, ClipBank)
    assert torch.equal(a.wave, b.wave)
    assert torch.equal(a.label, b.label)
    assert len(json.loads((shards / INDEX).read_text())["splits"]["train"]["shards"]) > 2


def test_a_licence_is_no_filter(shards: Path, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "vctk" / "wav48_silence_trimmed").mkdir(parents=True)
    write_pack(DATA, tmp_path / "pack", ["train"])
    readers = [partial(clips_of, root, "train") for root in (DATA, folder, tmp_path / "pack", tmp_path / "vctk")]
    for read in (*readers, partial(Shards, shards)):
        with pytest.raises(UserError, match="commercial or any, not 'CC0-1"):
            read("CC0-1.0")
    # Also where a list is given, so that no clips are chosen.
    (tmp_path / "list.jsonl").write_text("")
    given = ["--data", str(DATA), "--mixtures", str(tmp_path / "list.jsonl"), "--licence", "CC0-1.0"]
    for words in (["evaluate"], ["benchmark", "table2"]):
        failed = CliRunner().invoke(app, [*words, *given]).exception
        assert isinstance(failed, UserError)
        assert "commercial or any" in str(failed)


def test_shards_come_from_a_store_in_turns(shards: Path, tmp_path: Path) -> None:
    # What is typed for an object store, with its command in the place of cat.
    address = f"pipe:cat {shards}/{{}}"
    prior = run(address, tmp_path, batch=2, steps=4, change=TINY, memory=SMALL_MEMORY)
    sounds = [clip for clip in read_manifest(DATA, "train") if clip.label != "speech"]
    assert prior.config["training"]["data"]["clips"] == len(sounds)
    listed = [row["path"] for row in csv.DictReader(prior.clips.splitlines()) if row["used as"] == "source"]
    assert listed == [clip.path.relative_to(DATA).as_posix() for clip in sounds]


def test_a_shard_that_is_cut_short_is_counted(shards: Path, tmp_path: Path) -> None:
    for file in shards.iterdir():
        shutil.copyfile(file, tmp_path / file.name)
    broken = sorted(tmp_path.glob("*.tar"))[0]
    broken.write_bytes(broken.read_bytes()[: broken.stat().st_size // 2])
    corpus = Corpus(tmp_path)
    bank = corpus.bank(corpus.labels(), 4.0, 2.0)
    assert isinstance(bank, ClipBank)
    assert any("cut short" in reason for reason in bank.bad.values())
    broken.unlink()
    with pytest.raises(UserError, match="cannot be read"):
        Corpus(tmp_path).bank(corpus.labels(), 4.0, 2.0)
    (tmp_path / INDEX).write_text("{}")
    with pytest.raises(UserError, match="cannot be read"):
        Shards(tmp_path)


def test_parts_in_turns_go_when_their_turn_is_over() -> None:
    bank = Corpus(DATA).bank(["Bark", "rain"], 4.0, 2.0).at(0)
    objective = objective_of(Settings(labels=("anything", "Bark", "rain"), seconds=0.5))
    objective.draw(bank, 2, 0)
    held = weakref.ref(bank)
    del bank
    assert held() is None


def test_every_part_has_its_share_of_each_label_and_the_typical_one_all_of_them() -> None:
    # Of "rare" there are as many pieces as parts, of "robin" and "owl" far more.
    labels = ["robin"] * 24 + ["rare"] * 4 + ["owl"] * 12
    loaded: list[list[int]] = []

    def load(pieces) -> SimpleNamespace:
        loaded.append(list(pieces))
        return SimpleNamespace(bad={})

    rolling = Rolling(range(40), [1.0] * 40, labels, load, 30.0, 1.0)
    assert rolling.parts == 4
    for epoch in range(5):
        parts = [rolling.part(4 * epoch + k) for k in range(4)]
        assert sorted(piece for part in parts for piece in part) == list(range(40))
        for part in parts:
            count = Counter(labels[piece] for piece in part)
            assert 5 <= count["robin"] <= 7
            assert 2 <= count["owl"] <= 4
            assert 0 <= count["rare"] <= 2
    rolling.typical()
    count = Counter(labels[piece] for piece in loaded[-1])
    assert count.keys() == set(labels)
    assert sum(count.values()) <= 11


def test_no_part_is_without_a_piece() -> None:
    # Pieces about as long as a part, and a short one.
    for seed in range(20):
        rolling = Rolling("abc", [4.0, 4.0, 1.0], None, lambda pieces: SimpleNamespace(bad={}), 18.0, 1.0, seed)
        parts = [rolling.part(turn) for turn in range(10 * rolling.parts)]
        assert rolling.parts > 1
        assert all(parts)


def test_a_class_named_like_a_group_of_voices_is_refused() -> None:
    assert labels_of("sounds", ["voice_over", "dog"]) == ("anything", "voice_over", "dog")
    assert not is_voice("voice_over")
    with pytest.raises(UserError, match="'voice_1', which is a prior's word"):
        labels_of("all", ["voice_1", "dog"])


def test_long_speakers_come_in_pieces() -> None:
    clips = read_manifest(DATA)
    pieces = corpus.cut(clips, 6.0)
    assert [clip for piece in pieces for clip in piece] == clips
    assert all(len(piece) == 1 or sum(clip.seconds for clip in piece) <= 6.0 for piece in pieces)
    assert len(pieces) < len(clips)


def test_a_run_goes_on_as_it_was_begun_or_not_at_all(tmp_path: Path) -> None:
    options = {"sources": "sounds", "batch": 2, "change": TINY, "steps": 2}
    run(DATA, tmp_path / "a", **options)
    before = (tmp_path / "a" / "last.pt").read_bytes()
    for change, says in ({"seed": 3}, "seed = 0, not 3"), ({"batch": 4}, "batch = 2, not 4"), (
        {"change": [*TINY, "levels=[-30.0,-20.0]"]}, "levels"
    ):  # fmt: skip
        with pytest.raises(UserError, match=says):
            run(DATA, tmp_path / "a", **options | change | {"steps": 4})
    assert (tmp_path / "a" / "last.pt").read_bytes() == before
    run(DATA, tmp_path / "a", **options | {"steps": 4, "accumulate": 2, "memory": 3.0})
    assert torch.load(tmp_path / "a" / "last.pt", weights_only=True)["step"] == 4


def test_what_a_prior_has_learned_is_not_trained_over(tmp_path: Path) -> None:
    (tmp_path / "a" / "prior").mkdir(parents=True)
    (tmp_path / "a" / "prior" / "config.json").write_text('{"learned": {"robin": {}}}')
    with pytest.raises(UserError, match="has learned robin since"):
        train(str(DATA), tmp_path / "a", device="cpu")


def test_options_that_do_not_go_together_are_one_sentence(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="not a folder"):
        train(str(DATA), tmp_path / "file", device="cpu")
    with pytest.raises(UserError, match="not a folder"):
        write_pack(DATA, tmp_path / "file", splits=["train"])
    shutil.copytree(folder / "rain", tmp_path / "data" / "anything")
    shutil.copytree(folder / "Bark", tmp_path / "data" / "Bark")
    with pytest.raises(UserError, match="a class called 'anything'"):
        run(tmp_path / "data", tmp_path / "b", batch=2, change=TINY, steps=1)
    (tmp_path / "data" / "anything").rename(tmp_path / "data" / "rain")
    (tmp_path / "data" / "Bark" / "broken.wav").unlink()
    with pytest.raises(UserError, match="no speech whose voices"):
        run(tmp_path / "data", tmp_path / "c", batch=2, change=TINY, steps=1, voice_groups=2)
    with pytest.raises(UserError, match="--voice-groups needs negatives"):
        run(DATA, tmp_path / "f", recipe="paper", sources="speech", change=NARROW, steps=1, voice_groups=2)
    for wrong in ("beta2=1.5", "weight_decay=-1", "sigma_centre=-1", "check_minutes=0", "seed=20000000000000"):
        with pytest.raises(UserError, match=wrong.partition("=")[0]):
            run(DATA, tmp_path / "g", batch=2, change=[*TINY, wrong], steps=1)
    # Longer examples than the signal that levels are told of.
    prior = run(DATA, tmp_path / "d", batch=2, change=[*TINY, "seconds=5"], steps=1)
    assert prior.labels[0] == "anything"
    with pytest.raises(UserError, match="has another network than attention_unet"):
        run(DATA, tmp_path / "e", recipe="paper", batch=2, change=NARROW, steps=1, init=tmp_path / "d" / "prior")


def test_clips_whose_names_are_no_utf_8_are_trained_on(tmp_path: Path, folder: Path) -> None:
    shutil.copytree(folder, tmp_path / "data")
    first = next((tmp_path / "data" / "rain").glob("rain_*"))
    first.rename(first.with_name(os.fsdecode(b"r\xe4") + first.suffix))
    prior = run(tmp_path / "data", tmp_path / "a", batch=2, change=TINY, steps=1)
    assert "r\ufffd" in prior.clips


def test_training_goes_to_a_device_with_double_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert find_device("auto").type == "mps"
    assert training_device("auto").type == "cpu"
    with pytest.raises(UserError, match="--device cpu"):
        training_device("mps")
