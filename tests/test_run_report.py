"""What a run leaves: figures per class, samples, separations; and the prior on a hub and back."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
import soundfile
import torch

from conftest import tiny_prior
from sourceprior import run_report, separation
from sourceprior.datasets import ClipBank, read_manifest
from sourceprior.objectives import LEVEL, measure_spectra
from sourceprior.priors import SourcePrior
from sourceprior.run_report import write_report

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="module")
def valid() -> ClipBank:
    return ClipBank(read_manifest(DATA, "test"), ["Bark", "Saxophone", "rain", "speech"])


def test_figures_samples_and_separations(valid: ClipBank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_report, "STEPS", (2, 3))
    prior = tiny_prior("sounds", ("anything", "Bark", "rain"))
    # Untrained it is the Wiener filter of each class, here with the classes' own spectra.
    prior.denoiser.average.copy_(measure_spectra(valid, prior.labels, draws=8))  # type: ignore[operator, union-attr]
    prior.denoiser.level = LEVEL  # type: ignore[assignment]
    figures = write_report(replace(prior, level=LEVEL), valid, tmp_path, lambda text: None, enough=600)
    with (tmp_path / "classes.csv").open(newline="") as rows:
        table = {row["label"]: row for row in csv.DictReader(rows)}
    assert set(table) == {"Bark", "rain"}
    assert float(table["rain"]["own @1"]) > float(table["rain"]["own @5"])
    assert set(table["Bark"]) == {"label", "clips", *(f"{c} @{r}" for c in ("own", "others") for r in (1, 2, 5))}
    assert len(list((tmp_path / "samples").glob("*.wav"))) == 4
    assert (tmp_path / "samples" / "samples.png").is_file()
    assert [entry["labels"] for entry in figures["separations"]] == [["Bark", "rain"], ["rain", "Bark"]]
    place = tmp_path / "separations" / "1_Bark_rain"
    for name in ("Bark.wav", "rain.wav", "true_Bark.wav", "spectrograms.png"):
        assert (place / name).is_file()
    # The stems and the true sources add up to the same mixture.
    stems = sum(soundfile.read(place / f"{name}.wav")[0] for name in ("Bark", "rain", "residual"))
    truth = sum(soundfile.read(place / f"true_{name}.wav")[0] for name in ("Bark", "rain"))
    assert abs(stems - truth).max() < 1e-4
    assert json.loads((tmp_path / "figures.json").read_text()) == figures


def test_two_sources_of_one_class_are_two_clips_in_whatever_order(
    valid: ClipBank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prior = tiny_prior("sounds", ("anything", "Bark"))
    alone = ClipBank(read_manifest(DATA, "test")[:1], ["Bark"])
    assert run_report._pairs(prior, valid) == [("Bark", "Bark")]
    assert run_report._pairs(prior, alone) == []
    drawn: list[torch.Tensor] = []

    def render(clips: torch.Tensor, *args, **options) -> torch.Tensor:
        assert len(set(clips.tolist())) == 2
        drawn.append(ClipBank.render(valid, clips, *args, **options))
        return drawn[-1]

    def exchanged(mixture, *args, **options) -> SimpleNamespace:
        first, second = prior.level * drawn[-1].numpy()
        stems = {"Bark": second + 0.01 * first, "Bark_2": first + 0.01 * second}
        return SimpleNamespace(stems=stems, save=lambda place: place.mkdir(parents=True))

    monkeypatch.setattr(valid, "render", render)
    monkeypatch.setattr(separation, "separate", exchanged)
    for index in range(8):
        found = run_report._separation(prior, valid, ("Bark", "Bark"), tmp_path, index, "cpu")
        assert min(found["si_sdr_db"]) > 20
    true = soundfile.read(tmp_path / "8_Bark_Bark" / "true_Bark_2.wav")[0]
    assert abs(true - prior.level * drawn[-1][0].numpy()).max() < 1e-6


def test_what_would_take_too_long_is_left_out_and_named(valid: ClipBank, tmp_path: Path) -> None:
    said: list[str] = []
    figures = write_report(tiny_prior("sounds", ("Bark", "rain")), valid, tmp_path, said.append, enough=1e-3)
    assert figures["left out"] == ["figures per class", "samples", "separation 1", "separation 2"]
    assert "samples" in said[0]
    assert not (tmp_path / "samples").exists()


def test_a_prior_goes_to_a_hub_and_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class LocalHub:
        """A hub that is a folder."""

        def create_repo(self, name: str, exist_ok: bool) -> None:
            (tmp_path / name).mkdir(parents=True, exist_ok=exist_ok)

        def upload_folder(self, repo_id: str, folder_path: str, **options) -> str:
            shutil.copytree(folder_path, tmp_path / repo_id, dirs_exist_ok=True)
            return f"{repo_id}: {options['commit_message']}"

    def snapshot(name: str, allow_patterns: list[str]) -> str:
        assert {file.name for file in (tmp_path / name).iterdir()} <= set(allow_patterns)
        return str(tmp_path / name)

    monkeypatch.setattr(huggingface_hub, "HfApi", LocalHub)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    prior = tiny_prior("sounds", ("anything", "Bark", "rain"))
    assert prior.push_to_hub("who/birds", commit_message="first") == "who/birds: first"
    again = SourcePrior.from_pretrained("who/birds")
    assert (again.labels, again.card, again.licence) == (prior.labels, prior.card, prior.licence)
    x, sigma, label = torch.randn(1, 4000), torch.tensor([0.1]), torch.tensor([1])
    with torch.no_grad():
        torch.testing.assert_close(again.denoiser(x, sigma, label), prior.denoiser(x, sigma, label))


def test_rows_with_other_columns_are_one_table(tmp_path: Path) -> None:
    rows = [{"label": "speech", "own @1": 9.0}, {"label": "rain", "own @1": 5.0, "others @1": 1.0}]
    run_report._write_classes(rows, tmp_path)
    with (tmp_path / "classes.csv").open(newline="") as file:
        assert [row["others @1"] for row in csv.DictReader(file)] == ["", "1.0"]
    assert (tmp_path / "classes.md").read_text().endswith("| speech | 9.0 |  |\n| rain | 5.0 | 1.0 |\n")
