"""Priors on disk, and sources that share a network."""

import json
from pathlib import Path

import pytest
import torch

from conftest import tiny_prior
from sourceprior.errors import UserError
from sourceprior.priors import Source, SourcePrior, joint

SIZES = {"inputs": 5, "outputs": 3, "classes": 3}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny_prior("sounds", ("anything", "Bark", "rain")).save_pretrained(tmp_path)
    return tmp_path


def test_saved_and_loaded_is_the_same_prior(folder: Path) -> None:
    prior, again = tiny_prior("sounds", ("anything", "Bark", "rain")), SourcePrior.from_pretrained(folder)
    assert (again.name, again.labels, again.sample_rate, again.level, again.licence, again.card) == (
        prior.name, prior.labels, prior.sample_rate, prior.level, prior.licence, prior.card
    )  # fmt: skip
    x, sigma, label = torch.randn(1, 4000), torch.tensor([0.1]), torch.tensor([1])
    torch.testing.assert_close(again.denoiser(x, sigma, label), prior.denoiser(x, sigma, label))


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (lambda f: (f / "config.json").unlink(), "config.json"),
        (lambda f: (f / "config.json").write_text("{"), "cannot be read"),
        (lambda f: (f / "config.json").write_text("{}"), "cannot be read"),
        (lambda f: (f / "model.safetensors").unlink(), "missing"),
        (lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:500]), "safetensors"),
        (lambda f: (f / "model.safetensors").write_bytes(b"\x80\x04cos\nsystem\n."), "safetensors"),
    ],
)
def test_broken_folders_say_what_is_wrong(folder: Path, break_it, says: str) -> None:
    break_it(folder)
    with pytest.raises(UserError, match=says):
        SourcePrior.from_pretrained(folder)


def test_a_config_names_classes_of_this_package_only(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    for path in ("os.system", "conv_unet.fold", "..priors.SourcePrior", "conv_unet"):
        config["network"]["class"] = path
        (folder / "config.json").write_text(json.dumps(config))
        with pytest.raises(UserError, match="cannot be read"):
            SourcePrior.from_pretrained(folder)


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ({"labels": "speech"}, "labels must be a list"),
        ({"labels": ["anything", "Bark", " _"]}, "labels must be a list"),
        ({"sample_rate": 1e999}, "OverflowError"),
        ({"sample_rate": None}, "TypeError"),
        ({"level": -0.1}, "level must be a number above 0"),
        ({"level": float("nan")}, "level must be a number above 0"),
        ({"parts": {"dog": ["Bark"]}}, "parts must give"),
        ({"parts": {"anything": "Bark"}}, "parts must give"),
        ({"parts": {"anything": [["Bark"]]}}, "parts must give"),
        ({"parts": None}, "parts must give"),
        ({"network": {"class": "conv_unet.ConvUNet", "options": {**SIZES, "fold": [0, 0]}}}, "ZeroDivisionError"),
        ({"network": {"class": "conv_unet.ConvUNet", "options": {**SIZES, "widths": []}}}, "cannot be read"),
    ],
)
def test_entries_that_would_fail_later_are_told_of_at_once(folder: Path, entries, says: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"parts": {"anything": ["Bark"]}}))
    assert SourcePrior.from_pretrained(folder).config["parts"] == {"anything": ["Bark"]}
    (folder / "config.json").write_text(json.dumps(config | entries))
    with pytest.raises(UserError, match=says) as caught:
        SourcePrior.from_pretrained(folder)
    assert "\n" not in str(caught.value)


def test_weights_of_another_network_are_refused(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["network"]["options"]["bottom"] = 16
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="do not fit"):
        SourcePrior.from_pretrained(folder)


def test_a_name_that_is_neither_folder_nor_hub_name() -> None:
    with pytest.raises(UserError, match="no folder"):
        SourcePrior.from_pretrained("./nowhere")


def test_joint_denoises_each_source_with_its_own_row_in_one_batch_per_network() -> None:
    sounds, speech = tiny_prior("sounds", ("anything", "Bark", "rain")), tiny_prior("speech", ("speech",))
    sources = [Source(sounds, 1, "Bark"), Source(speech, 0, "speech"), Source(sounds, 2, "rain")]
    denoise = joint(sources)
    calls: list[int] = []
    sounds.denoiser.register_forward_hook(lambda module, args, out: calls.append(len(args[0])))
    x = 0.1 * torch.randn(2, 3, 4000)
    out = denoise(x, 0.1)
    assert calls == [4]
    for k, source in enumerate(sources):
        row = torch.tensor([source.index])
        alone = source.prior.denoiser(x[1, k : k + 1], torch.tensor([0.1]), row)[0]
        # bfloat16 where the processor has it.
        torch.testing.assert_close(out[1, k], alone, rtol=0.02, atol=1e-3)
    torch.testing.assert_close(denoise.spectra[2], sounds.denoiser.spectrum(torch.tensor([2]))[0])


def test_priors_of_different_rates_do_not_mix() -> None:
    a, b = tiny_prior("speech", ("speech",)), tiny_prior("sounds", ("anything",), rate=8000)
    with pytest.raises(UserError, match="8000 Hz"):
        joint([Source(a, 0, "speech"), Source(b, 0, "anything")])
