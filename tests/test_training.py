"""Training: it learns, it goes on bit for bit where it was stopped, and what it leaves behind is a prior."""

import csv
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from processes_case import few_draws
from sourceprior import training
from sourceprior.commands.train import train
from sourceprior.datasets import SPEECH, ClipBank, read_manifest
from sourceprior.errors import UserError
from sourceprior.examples import NULL
from sourceprior.priors import SourcePrior
from sourceprior.runs import clip_table, describe, finish, labels_of, start_from
from sourceprior.selectivity import denoising_snr, mean_snr, selectivity
from sourceprior.training import LEVEL, Ahead, Settings, Trainer, measure_spectra, write_checkpoint

DATA = Path(__file__).parent / "data"
LABELS = (NULL, "Bark", "Saxophone", "rain", SPEECH)
SMALL = Settings(
    labels=LABELS, batch=4, seconds=0.5, steps=30, minutes=1e6, warmup=2, compile=False, rate=3e-3,
    network={"widths": (8, 16), "depths": (1, 1), "bottom": 16, "dilations": (1,), "condition": 16},
)  # fmt: skip


@pytest.fixture(scope="module")
def bank() -> ClipBank:
    return ClipBank(read_manifest(DATA, "train"), LABELS[1:])


def trained(bank: ClipBank, folder: Path, steps: int, settings: Settings = SMALL) -> Trainer:
    trainer = Trainer(settings, bank, folder)
    trainer.resume()
    while trainer.step < steps:
        trainer.train_step()
    trainer.save()
    return trainer


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_killed_and_resumed_is_bit_for_bit_the_undisturbed_run(bank: ClipBank, tmp_path: Path, dropout: float) -> None:
    settings = replace(SMALL, dropout=dropout)
    whole = trained(bank, tmp_path / "a", 6, settings)
    trained(bank, tmp_path / "b", 3, settings)
    torch.rand(1)
    rest = trained(bank, tmp_path / "b", 6, settings)
    for a, b in zip(whole.denoiser.parameters(), rest.denoiser.parameters(), strict=True):
        assert torch.equal(a, b)
    for a, b in zip(whole.averaged().parameters(), rest.averaged().parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("asked", "quick", "used"), [("bf16", False, "fp32"), ("bf16", True, "bf16"), ("fp32", True, "fp32")]
)
def test_half_precision_is_used_where_the_machine_is_quicker_with_it(
    bank: ClipBank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str, quick: bool, used: str
) -> None:
    monkeypatch.setattr(training, "fast_bfloat16", lambda device: quick)
    monkeypatch.setattr(training, "measure_spectra", few_draws)
    trainer = Trainer(replace(SMALL, precision=asked), bank, tmp_path)
    asked_for = []
    monkeypatch.setattr(
        trainer, "loss", lambda *_: asked_for.append(torch.is_autocast_enabled("cpu")) or torch.zeros(4)
    )
    trainer.losses(trainer.denoiser, trainer.batch(0))
    assert (trainer.precision, asked_for) == (used, [used == "bf16"])


def test_a_damaged_checkpoint_is_left_for_the_best_one_or_named(
    bank: ClipBank, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "measure_spectra", few_draws)
    trainer = trained(bank, tmp_path, 1)
    trainer.save("best.pt")
    whole = (tmp_path / "last.pt").read_bytes()
    for torn in (b"", whole[: len(whole) // 2], b"no checkpoint at all"):
        (tmp_path / "last.pt").write_bytes(torn)
        again = Trainer(SMALL, bank, tmp_path)
        assert again.resume()
        assert again.step == 1
        assert "last.pt' is damaged: going on from" in capsys.readouterr().out
    (tmp_path / "best.pt").write_bytes(b"")
    with pytest.raises(UserError, match=r"last\.pt' is damaged: delete it to begin anew"):
        Trainer(SMALL, bank, tmp_path).resume()
    (tmp_path / "last.pt").write_bytes(whole)
    assert Trainer(SMALL, bank, tmp_path).resume()


def test_a_checkpoint_is_on_the_disk_before_it_takes_its_place(tmp_path: Path, monkeypatch) -> None:
    done: list[str] = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *given, name=name, real=real: (done.append(name), real(*given)))
    write_checkpoint({"step": 1}, tmp_path / "last.pt")
    assert done == ["fsync", "replace"]
    assert torch.load(tmp_path / "last.pt", weights_only=True) == {"step": 1}


def test_without_tensorboard_nothing_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(training, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'sourceprior\[train\]'"):
        train("nowhere", tmp_path)


def test_the_rate_rises_falls_and_follows_steps_or_the_clock(bank: ClipBank, tmp_path: Path) -> None:
    settings = replace(SMALL, steps=1000, minutes=10.0, warmup=100, rate=1.0)
    trainer = Trainer(settings, bank, tmp_path)
    for step, minutes, share, rate in (
        (0, 0, 0.0, 0.01), (49, 0, 0.049, 0.497), (500, 0, 0.5, 0.51), (500, 7.5, 0.75, 0.1635), (1000, 1, 1.0, 0.02),
        (900, 10, 1.0, 0.02),
    ):  # fmt: skip
        trainer.step, trainer.elapsed = step, 60.0 * minutes
        assert trainer.progress == pytest.approx(share)
        assert trainer.rate() == pytest.approx(rate, abs=1e-3)
    trainer.settings = replace(settings, decay="none")
    assert trainer.rate() == 1


def test_batches_drawn_ahead_are_the_same_batches(bank: ClipBank, tmp_path: Path) -> None:
    trainer = Trainer(SMALL, bank, tmp_path)
    ahead = Ahead(trainer.batch, torch.device("cpu"), threads=3)
    for number in (0, 1, 2, 5):
        for drawn, own in zip(ahead(number), trainer.batch(number), strict=True):
            assert torch.equal(drawn, own)


def test_dropout_is_for_training_only(bank: ClipBank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "measure_spectra", few_draws)
    trainer = trained(bank, tmp_path, 3, replace(SMALL, dropout=0.5))
    batch = trainer.batch(7)
    with torch.no_grad():
        once, twice = (trainer.losses(trainer.denoiser, batch) for _ in range(2))
        assert not torch.equal(once, twice)
        once, twice = (trainer.losses(trainer.averaged(), batch) for _ in range(2))
        assert torch.equal(once, twice)
    with pytest.raises(UserError, match="has no dropout"):
        Trainer(replace(SMALL, backbone="diffwave", network={}, labels=(SPEECH,), dropout=0.1), bank, tmp_path / "b")


def test_it_learns(bank: ClipBank, tmp_path: Path) -> None:
    # The same batch at every step: a trainer that cannot fit four examples has a wrong gradient somewhere.
    trainer = Trainer(replace(SMALL, optimizer="muon"), bank, tmp_path)
    fixed = trainer.batch(0)
    trainer.batch = lambda number: fixed  # type: ignore[method-assign]
    losses = [float(trainer.train_step()) for _ in range(25)]
    assert losses[-1] < 0.8 * losses[0]


def test_a_run_leaves_a_prior_that_denoises_alike(bank: ClipBank, tmp_path: Path) -> None:
    trainer = trained(bank, tmp_path, 3)
    clips = read_manifest(DATA, "train")
    about = describe(DATA, "commercial", clips, "all")
    finish(trainer, tmp_path / "prior", about, clips=clip_table(DATA, clips, "all"))
    prior = SourcePrior.from_pretrained(tmp_path / "prior")
    assert prior.labels == LABELS
    rows = list(csv.DictReader((tmp_path / "prior" / "clips.csv").open()))
    assert {(row["path"], row["licence"]) for row in rows} == {
        (clip.path.relative_to(DATA).as_posix(), clip.licence) for clip in clips
    }
    prior.save_pretrained(tmp_path / "again")
    assert (tmp_path / "again" / "clips.csv").read_text() == prior.clips
    x, sigma, label = 0.1 * torch.randn(2, 8000), torch.tensor([0.05, 0.2]), torch.tensor([1, 4])
    with torch.no_grad():
        expected = trainer.averaged().eval()(x, sigma, label)
        assert (prior.denoiser(x, sigma, label) - expected).abs().max() < 2e-3
    assert prior.config["training"]["data"]["clips per licence"]


def test_rows_are_picked_by_name_when_a_run_starts_from_a_prior(bank: ClipBank, tmp_path: Path) -> None:
    trainer = trained(bank, tmp_path, 2)
    finish(trainer, tmp_path / "prior", describe(DATA, "commercial", [], "all"))
    speech = start_from(tmp_path / "prior", (SPEECH,))
    x, sigma = 0.1 * torch.randn(1, 8000), torch.tensor([0.1])
    prior = SourcePrior.from_pretrained(tmp_path / "prior")
    with torch.no_grad():
        torch.testing.assert_close(
            speech(x, sigma, torch.tensor([0])), prior.denoiser(x, sigma, torch.tensor([prior.index(SPEECH)]))
        )
    with pytest.raises(UserError, match="siren"):
        start_from(tmp_path / "prior", ("siren",))


def test_spectra_have_the_training_level_and_differ_by_class(bank: ClipBank) -> None:
    power = measure_spectra(bank, LABELS, draws=8)
    total = (2 * power.sum(1) - power[:, 0] - power[:, -1]) / 1024
    assert (10 * torch.log10(total / LEVEL**2)).abs().max() < 1.5
    assert (power[1] / power[2]).log().abs().max() > 1
    shared = measure_spectra(bank, LABELS, draws=8, shared=True)
    assert torch.equal(shared[0], shared[-1])


def test_labels_of_each_kind_of_prior() -> None:
    known = ["Bark", "rain", SPEECH]
    assert labels_of("speech", known) == (SPEECH,)
    assert labels_of("sounds", known) == (NULL, "Bark", "rain")
    assert labels_of("all", known) == (NULL, SPEECH, "Bark", "rain")
    with pytest.raises(UserError):
        labels_of("speech", ["Bark"])


def test_selectivity_reports_every_case_and_knows_a_wiener_filter(bank: ClipBank, tmp_path: Path) -> None:
    figures = selectivity(Trainer(SMALL, bank, tmp_path).averaged().eval(), LABELS, bank, count=4, seconds=1.0)
    assert {name.split(" @")[0] for name in figures} == {
        "speech/own", "speech/on sounds", "sounds/own", "sounds/wrong label", "sounds/null label", "sounds/on speech"
    }  # fmt: skip
    for name in ("speech/own", "sounds/own"):
        assert figures[f"{name} @1"] > figures[f"{name} @5"] > -1


def test_selectivity_leaves_out_what_there_are_no_clips_of(
    bank: ClipBank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "measure_spectra", few_draws)
    trainer = Trainer(SMALL, bank, tmp_path)
    sounds = {"sounds/own", "sounds/wrong label", "sounds/null label"}
    for split, wanted in (((SPEECH,), {"speech/own"}), (("Bark", "rain"), sounds)):
        clips = [clip for clip in read_manifest(DATA, "test") if clip.label in split]
        # The labels of the train split, of which the valid split lacks some.
        figures = selectivity(trainer.averaged().eval(), LABELS, ClipBank(clips, LABELS[1:]), count=2, seconds=0.5)
        assert {name.split(" @")[0] for name in figures} == wanted


def test_one_class_has_no_wrong_label(bank: ClipBank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "measure_spectra", few_draws)
    clips = [clip for clip in read_manifest(DATA, "train") if clip.label == "rain"]
    figures = selectivity(Trainer(SMALL, bank, tmp_path).averaged().eval(), LABELS, ClipBank(clips, ["rain"]), 2, 0.5)
    assert {name.split(" @")[0] for name in figures} == {"sounds/own", "sounds/null label"}


def test_silence_does_not_count() -> None:
    clean, estimate = torch.zeros(2, 10), torch.zeros(2, 10)
    clean[0], estimate[0] = 1.0, 0.9
    assert mean_snr(clean, estimate) == pytest.approx(20, abs=1e-3)
    assert mean_snr(clean[1:], estimate[1:]) == 0


def test_denoising_snr_of_a_known_error() -> None:
    clean = torch.ones(1, 100)
    assert float(denoising_snr(clean, clean * 1.1)) == pytest.approx(20, abs=1e-3)
