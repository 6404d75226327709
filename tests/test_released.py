"""Published checkpoints: read as they are, refused in one sentence when they are something else."""

import pytest
import torch

from golden_case import filled, relative
from robustness_cases import Hostile
from sourceprior.errors import UserError
from sourceprior.networks.attention_unet import AttentionUNet
from sourceprior.networks.diffwave import DiffWave
from sourceprior.priors import PRECISIONS, Source, SourcePrior, joint, with_precision
from sourceprior.schedules import vp_linear
from sourceprior.training import read_checkpoint
from sourceprior.vp import VPDenoiser, classifier_free, noise_predictor

SMALL = {"width": 8, "classes": 3, "blocks": (1, 1, 2, 1, 1)}


@pytest.fixture
def checkpoint(tmp_path):
    network = filled(AttentionUNet(**SMALL))
    path = tmp_path / "sound.pt"
    raw = {f"module.{name}": 2 * value for name, value in network.state_dict().items()}
    torch.save({"model": raw, "ema": network.state_dict(), "step": 7}, path)
    return path, network


def test_the_average_is_used_unless_told_otherwise(checkpoint):
    path, network = checkpoint
    for weights, factor in (("ema", 1), ("model", 2)):
        prior = SourcePrior.from_released(path, ["a", "b"], weights=weights)
        assert prior.labels == ("a", "b")
        loaded = prior.denoiser.network.state_dict()
        for name, value in network.state_dict().items():
            torch.testing.assert_close(loaded[name], factor * value)


def test_it_survives_the_way_through_safetensors(checkpoint, tmp_path):
    prior = SourcePrior.from_released(checkpoint[0], ["a", "b", "c"])
    prior.save_pretrained(tmp_path / "prior")
    again = SourcePrior.from_pretrained(tmp_path / "prior")
    x = 0.1 * torch.randn(1, 2, 800)
    outs = []
    for one in (prior, again):
        with torch.no_grad():
            outs.append(joint([Source(one, 0, "a"), Source(one, 2, "c")], "cpu")(x, 0.3))
    assert relative(outs[1], outs[0]) < 1e-6
    assert again.labels == prior.labels


def test_it_runs_in_single_precision_unless_told_otherwise(checkpoint, monkeypatch):
    monkeypatch.setattr("sourceprior.priors.fast_bfloat16", lambda device: True)
    path, network = checkpoint
    sources = [Source(SourcePrior.from_released(path, ["a", "b", "c"]), 1, "b")]
    x, sigma = 0.1 * torch.randn(1, 1, 800), 0.3
    with torch.no_grad():
        exact = VPDenoiser(network)(x[:, 0], torch.tensor([sigma]), torch.tensor([1]))
        error = {p: relative(joint(with_precision(sources, p))(x, sigma)[:, 0], exact) for p in (None, *PRECISIONS)}
    assert error[None] < 1e-6
    assert error["float32"] < 1e-6
    assert 1e-5 < error["bfloat16"] < 2e-2
    with pytest.raises(UserError, match="There is no precision 'half'"):
        with_precision(sources, "half")


def test_diffwave_is_told_beta(tmp_path):
    network = filled(DiffWave(3, 16, 12))
    torch.save(network.state_dict(), tmp_path / "undiff.pt")
    prior = SourcePrior.from_released(tmp_path / "undiff.pt")
    assert prior.labels == ("speech",)
    process, x = vp_linear(), torch.randn(1, 200)
    t = 77
    sigma = process.levels[t : t + 1]
    state = process.alpha_bars[t].sqrt().float() * x
    expected = x - sigma.float() * network(state, process.betas[t : t + 1].float())
    torch.testing.assert_close(prior.denoiser(x, sigma, torch.tensor([0])), expected, rtol=1e-4, atol=1e-5)


def test_wrong_files_are_refused_in_one_sentence(tmp_path, checkpoint):
    (tmp_path / "text.pt").write_text("hello")
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"optimizer": {"lr": 1}}, tmp_path / "other.pt")
    torch.save({"fc.weight": torch.zeros(2)}, tmp_path / "network.pt")
    torch.save({"ema": Hostile(str(tmp_path / "executed"))}, tmp_path / "harmful.pt")
    state = dict(checkpoint[1].state_dict())
    state.pop("out_conv.bias")
    torch.save({"ema": state}, tmp_path / "part.pt")
    for name in ("missing", "text", "list", "other", "network", "harmful", "part"):
        with pytest.raises(UserError) as caught:
            SourcePrior.from_released(tmp_path / f"{name}.pt")
        assert f"{name}.pt" in str(caught.value)
        assert "\n" not in str(caught.value)
    assert read_checkpoint(tmp_path / "harmful.pt", "cpu") is None
    assert not (tmp_path / "executed").exists()
    with pytest.raises(UserError, match="3 classes, not 4"):
        SourcePrior.from_released(checkpoint[0], list("abcd"))


class _Constant(torch.nn.Module):
    condition = "timestep"

    def __init__(self):
        super().__init__()
        self.told = None

    def forward(self, x, told, label):
        self.told = told
        return 0.5 * x + label[:, None]


def test_denoiser_and_noise_predictor_are_inverse_readings():
    process, network = vp_linear(60), _Constant()
    denoiser = VPDenoiser(network, process)
    x, label = torch.randn(60, 30), torch.arange(60) % 3
    steps = torch.arange(60)
    noise = noise_predictor(denoiser, process)(x, steps, label)
    torch.testing.assert_close(noise, network(x, None, label), rtol=1e-3, atol=1e-3)


def test_the_timestep_is_rounded_down_in_single_precision():
    process, network = vp_linear(60), _Constant()
    denoiser = VPDenoiser(network, process)
    denoiser(torch.zeros(3, 5), process.levels[[0, 57, 59]], torch.zeros(3))
    assert network.told.tolist() == [0, 949, 983]
    between = VPDenoiser(network, process, interpolate=True)
    between(torch.zeros(1, 5), (process.levels[10:11] * process.levels[11:12]).sqrt(), torch.zeros(1))
    assert float(network.told) == pytest.approx(10.5 * 1000 / 60, rel=1e-3)


def test_classifier_free_guidance_extrapolates():
    yes, no = (lambda x, s: 2 * x), (lambda x, s: x)
    x = torch.ones(1, 1, 3)
    assert classifier_free(yes, no, 5.0)(x, 1.0)[0, 0, 0] == 6
    assert classifier_free(yes, no, 1) is yes
