"""Supervised baselines: they learn from mixtures made on the fly, go on bit for bit, and separate."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sourceprior.baselines import supervised, training
from sourceprior.baselines.conv_tasnet import Depthwise, Slope
from sourceprior.baselines.training import LIMIT_DB, Settings, Trainer, si_sdr_loss
from sourceprior.datasets import read_manifest
from sourceprior.errors import UserError
from sourceprior.metrics import best_permutation, si_sdr
from sourceprior.mixtures import TASKS, Drawer, draw, mix, render

DATA = Path(__file__).parent / "data"
SMALL = {
    "conv_tasnet": {"filters": 32, "kernel": 32, "bottleneck": 16, "hidden": 32, "blocks": 3, "repeats": 1},
    "tf_locoformer": {"width": 16, "hidden": 16, "blocks": 1, "heads": 2, "n_fft": 128, "hop": 64},
}


def trainer(folder: Path, kind="conv_tasnet", task="speech_sound", **options) -> Trainer:
    settings = Settings(kind, task, SMALL[kind], **{"batch": 2, "seconds": 0.25, "warmup": 1} | options)
    return Trainer(settings, read_manifest(DATA, "train"), DATA, folder, log=lambda text: None)


@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize("samples", [400, 1600, 3999])
def test_any_length_and_any_level(kind, samples):
    torch.manual_seed(0)
    network = supervised.build(kind, "speech_two_sounds", SMALL[kind]).eval()
    x = torch.randn(2, samples, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        stems = network(x)
        assert stems.shape == (2, 3, samples)
        torch.testing.assert_close(network(1e-3 * x), 1e-3 * stems, rtol=1e-3, atol=1e-7)
        # An item does not depend on the others.
        torch.testing.assert_close(network(x[:1]), stems[:1], rtol=1e-3, atol=1e-5)
        assert network(0 * x).isfinite().all()


def test_conv_tasnets_own_layers_are_torchs():
    torch.manual_seed(0)
    x = torch.randn(2, 6, 50, dtype=torch.float64)
    for own, plain in [
        (Slope(), torch.nn.PReLU()),
        (
            Depthwise(6, 6, 3, padding=4, dilation=4, groups=6),
            torch.nn.Conv1d(6, 6, 3, padding=4, dilation=4, groups=6),
        ),
    ]:
        own, plain = own.double(), plain.double()
        plain.load_state_dict(own.state_dict())
        found = []
        for layer in (own, plain):
            inner = x.clone().requires_grad_()
            out = layer(inner)
            found.append([out, *torch.autograd.grad(out.square().sum(), [inner, *layer.parameters()])])
        for a, b in zip(*found, strict=True):
            torch.testing.assert_close(a, b)
        with torch.no_grad():
            torch.testing.assert_close(own(x), found[0][0])


@pytest.mark.parametrize("kind", SMALL)
def test_half_precision_is_the_same_but_for_rounding(kind, tmp_path, monkeypatch):
    # On processors without it, too, where it would be left out.
    monkeypatch.setattr(training, "fast_bfloat16", lambda device: True)
    losses = {precision: trainer(tmp_path, kind, precision=precision).train_step() for precision in ("bf16", "fp32")}
    assert losses["bf16"] == pytest.approx(losses["fp32"], abs=0.5)
    assert losses["bf16"] != losses["fp32"]
    with pytest.raises(UserError, match="bf16 or fp32"):
        trainer(tmp_path, kind, precision="fp8")


def test_published_sizes():
    # Luo and Mesgarani give 5.1 M, Saijo et al. 15.0 M for their medium network.
    for kind, size, millions in [("conv_tasnet", "paper", 5.1), ("tf_locoformer", "paper", 15.0),
                                 ("conv_tasnet", "small", 0.89), ("tf_locoformer", "small", 0.22)]:  # fmt: skip
        with torch.device("meta"):
            network = supervised.build(kind, "two_speech", supervised.module_of(kind).SIZES[size])
        assert supervised.count(network) / 1e6 == pytest.approx(millions, rel=0.02)


def test_the_loss_is_si_sdr_under_the_best_allowed_permutation():
    g = np.random.default_rng(0)
    sources = g.standard_normal((1, 3, 2000))
    stems = sources[:, [0, 2, 1]] + 0.5 * g.standard_normal((1, 3, 2000))
    loss = si_sdr_loss(torch.from_numpy(stems), torch.from_numpy(sources), ["speech", "sound", "sound"], limit_db=200)
    order = best_permutation(stems[0], sources[0], ["speech", "sound", "sound"])
    assert order == (0, 2, 1)
    assert float(loss) == pytest.approx(-si_sdr(stems[0][list(order)], sources[0]).mean(), abs=1e-4)
    # Sources that are not alike are not exchanged, and a perfect stem is worth the limit.
    assert float(si_sdr_loss(torch.from_numpy(stems), torch.from_numpy(sources), ["a", "b", "c"])) > float(loss) + 5
    exact = torch.from_numpy(sources)
    assert float(si_sdr_loss(exact, exact, ["a", "b", "c"])) == pytest.approx(-LIMIT_DB, abs=0.01)


@pytest.mark.parametrize("kind", SMALL)
def test_it_learns_a_mixture(kind, tmp_path):
    torch.manual_seed(0)
    own = trainer(tmp_path, kind, batch=1, rate=5e-3, seconds=0.125)
    fixed = own.batch(0)
    own.batch = lambda number: fixed
    losses = [own.train_step() for _ in range(60 if kind == "conv_tasnet" else 20)]
    print(f"{kind}: {-losses[0]:.1f} dB, then {-losses[-1]:.1f} dB")
    assert losses[-1] < losses[0] - 3


def test_stopped_and_resumed_is_bit_for_bit_the_undisturbed_run(tmp_path):
    whole = trainer(tmp_path / "a")
    whole.run(1e9, steps=4)
    first = trainer(tmp_path / "b")
    first.run(1e9, steps=2)
    rest = trainer(tmp_path / "b")
    assert rest.resume()
    assert (rest.step, rest.elapsed) == (2, first.elapsed)
    rest.run(1e9, steps=4)
    for a, b in [(whole.network, rest.network), (whole.average, rest.average)]:
        for name, value in a.state_dict().items():
            assert torch.equal(value, b.state_dict()[name]), name
    # The learning rate depends on the step only, so that time that is lost changes nothing.
    assert whole.optimizer.state_dict()["param_groups"] == rest.optimizer.state_dict()["param_groups"]
    with pytest.raises(UserError, match="another rate"):
        trainer(tmp_path / "b", rate=1e-4).resume()


def test_a_run_goes_on_with_the_clips_it_began_with(tmp_path):
    first, other = trainer(tmp_path), trainer(tmp_path)
    first.origin, other.origin = {"licence filter": "any"}, {"licence filter": "commercial"}
    first.save()
    with pytest.raises(UserError, match=r"another licence filter \(any, not commercial\)"):
        other.resume()
    # Checkpoints of earlier versions say nothing of it and go on.
    state = torch.load(tmp_path / "last.pt", weights_only=True)
    del state["origin"]
    torch.save(state, tmp_path / "last.pt")
    assert other.resume()


@pytest.mark.parametrize("task", TASKS)
def test_batches_are_mixtures_of_the_task(task, tmp_path):
    own = trainer(tmp_path, task=task)
    batch = own.batch(0)
    assert batch.shape == (2, sum(TASKS[task]), 4000)
    level = 10 * torch.log10(batch.square().mean(-1))
    assert level.min() > -25.01
    assert level.max() < -19.99
    assert torch.equal(batch, own.batch(0))
    assert not torch.equal(batch, own.batch(1))


def test_a_broken_clip_is_left_out_and_counted(tmp_path):
    shutil.copytree(DATA, tmp_path / "data")
    broken = next(clip.path for clip in read_manifest(tmp_path / "data", "train") if clip.label == "rain")
    broken.write_bytes(b"fLaC, but no more than that")
    drawers = [Drawer("two_sounds", read_manifest(tmp_path / "data", "train"), tmp_path / "data") for _ in range(2)]
    drawn = [drawers[0].spec(0, i) for i in range(8)]
    assert list(drawers[0].bad.items()) == [(str(broken), "broken")]
    assert broken.name not in str(drawn)
    assert any(source.label == "rain" for spec in drawn for source in spec.sources)
    # A mixture does not depend on whether the clip was found out before it: a resumed run draws the same.
    assert [drawers[1].spec(0, i) for i in reversed(range(8))] == drawn[::-1]
    for clip in read_manifest(tmp_path / "data", "train"):
        clip.path.write_bytes(b"")
    with pytest.raises(UserError, match=r"broken: '.*' is broken"):
        Drawer("two_sounds", read_manifest(tmp_path / "data", "train"), tmp_path / "data").spec(0, 0)


def test_a_model_on_disk_separates_as_in_memory(tmp_path):
    own = trainer(tmp_path, task="speech_two_sounds")
    own.run(1e9, steps=1)
    own.finish({"clips": 12}, 1.5)
    model = supervised.load(tmp_path)
    assert (model.kind, model.task, model.config["steps"]) == ("conv_tasnet", "speech_two_sounds", 1)
    assert model.parameters == supervised.count(own.network) == model.config["parameters"]
    separate = supervised.separator({model.task: model}, "cpu")
    (spec,) = draw("speech_two_sounds", 1, read_manifest(DATA, "test"), DATA, seconds=0.5)
    mixture = mix(render(spec, DATA))
    stems = separate(mixture, 16000, spec.labels, 0)
    own.average.eval()
    with torch.no_grad():
        np.testing.assert_allclose(stems, own.average(torch.from_numpy(mixture)[None])[0].numpy(), atol=1e-6)
    assert supervised.alike(spec.labels) == ["speech", "sound", "sound"]
    with pytest.raises(UserError, match="2 speakers and 0 sounds"):
        separate(mixture, 16000, ["speech", "speech"], 0)


def test_what_is_no_model_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="not a trained baseline"):
        supervised.load(tmp_path)
    own = trainer(tmp_path)
    own.finish({})
    config = json.loads((tmp_path / "config.json").read_text())
    for broken in [config | {"kind": "magic"}, config | {"options": {"filters": 8}}, {"kind": "conv_tasnet"}]:
        (tmp_path / "config.json").write_text(json.dumps(broken))
        with pytest.raises(UserError):
            supervised.load(tmp_path)
    with pytest.raises(UserError, match="no task 'choir'"):
        supervised.build("conv_tasnet", "choir", {})
    clips = [clip for clip in read_manifest(DATA, "train") if clip.label != "speech"]
    with pytest.raises(UserError, match="needs 2 speakers"):
        Trainer(replace(own.settings, task="two_speech"), clips, DATA, tmp_path)


def test_the_command(tmp_path, monkeypatch, capsys):
    from sourceprior import cli

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["sourceprior", "baseline", *map(str, words)])
        try:
            cli.main()
        except SystemExit as stop:
            return stop.code or 0
        return 0

    words = ["train", "conv_tasnet", "--task", "two_speech", "--data", DATA, "-o", tmp_path / "m", "--batch", 1,
             "--seconds", 0.5, "--device", "cpu"]  # fmt: skip
    assert call(*words, "--steps", 1) == 0
    assert "892285 parameters" in capsys.readouterr().out
    assert call(*words, "--steps", 2) == 0
    assert "going on from step 1" in capsys.readouterr().out
    assert supervised.load(tmp_path / "m").config["steps"] == 2
    (tmp_path / "prior").mkdir()
    (tmp_path / "prior" / "config.json").write_text("{}")
    for bad, says in [
        (["tune", *words[1:]], "knows train"),
        (["train", "unet", *words[2:]], "no supervised baseline 'unet'"),
        ([*words, "--size", "huge"], "no size 'huge'"),
        ([*words, "--rate", 1e-4], "made with another rate"),
        ([*words, "--licence", "any"], "another licence filter"),
        ([*words[:6], "-o", tmp_path / "prior"], "holds something else, perhaps a prior"),
    ]:
        assert call(*bad) == 2
        assert says in capsys.readouterr().err
