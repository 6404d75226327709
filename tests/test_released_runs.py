"""The released form in the pipeline is the released code: level, timesteps, and what it leaves undone."""

import json

import numpy as np
import pytest
import soundfile as sf
import torch

from conftest import RATE, tiny_prior
from golden_case import filled, relative
from sourceprior import sampling, separate
from sourceprior.cli import app
from sourceprior.networks.attention_unet import AttentionUNet
from sourceprior.presets import keeps_level, under
from sourceprior.priors import Source, SourcePrior
from sourceprior.released import solve
from sourceprior.schedules import vp_linear

STEPS = 4


@pytest.fixture(scope="module")
def network():
    return filled(AttentionUNet(8, 3, blocks=(1, 1, 1, 1, 1)))


@pytest.fixture(scope="module")
def prior(network, tmp_path_factory):
    """The folder of a converted checkpoint with the labels a, b and c."""
    folder = tmp_path_factory.mktemp("converted")
    torch.save({"model": {}, "ema": network.state_dict()}, folder / "authors.pt")
    SourcePrior.from_released(folder / "authors.pt", ["a", "b", "c"]).save_pretrained(folder / "prior")
    return str(folder / "prior")


def called(prior, path, out, *words: str) -> list[np.ndarray]:
    common = ["-s", "b", "-s", "c", "-o", str(out), "--prior", prior, "--steps", str(STEPS), "--no-picture", "-q"]
    assert not app(["separate", str(path), *common, *words], standalone_mode=False)
    report = json.loads((out / "report.json").read_text())
    assert report["preset"] == "released"
    return [sf.read(out / f"{name}.wav", dtype="float32")[0] for name in "bc"]


def test_the_command_line_gives_what_solve_gives(network, prior, tmp_path, mixture):
    # Louder than the priors' level, so that x̂_0 clips.
    samples = (3 * mixture["mixture"][:1201]).astype(np.float32)
    sf.write(tmp_path / "mix.wav", samples, RATE, subtype="FLOAT")
    runs = {
        "hybrid": (["-O", "start=1"], {"start": 1}),
        "analytical": (["--solver", "analytical", "-O", "peak=none"], {}),
    }
    for guidance, (words, options) in runs.items():
        stems = called(prior, tmp_path / "mix.wav", tmp_path / guidance, "--preset", "released", "--seed", "3", *words)
        wanted = solve([network] * 2, [1, 2], samples, STEPS, "released", guidance, seed=3, **options)
        assert relative(torch.tensor(np.stack(stems)), wanted) < 1e-3
    # At the level of the priors' training it is another run.
    stems = called(prior, tmp_path / "mix.wav", tmp_path / "scaled", "--preset", "released", "--seed", "3",
                   "-O", "start=1", "-O", "level=prior")  # fmt: skip
    wanted = solve([network] * 2, [1, 2], samples, STEPS, "released", "hybrid", 1, seed=3)
    assert relative(torch.tensor(np.stack(stems)), wanted) > 1e-2


def test_nothing_follows_the_loudness_of_a_long_recording(prior, monkeypatch):
    def never(*_, **__):
        raise AssertionError

    samples = 0.1 * np.random.default_rng(0).normal(size=round(1.1 * RATE))
    settings = {"prior": prior, "preset": "released", "steps": 2, "segment": 1.0}
    monkeypatch.setattr(sampling, "silence_absent", never)
    monkeypatch.setattr(sampling, "between", never)
    separate(samples, RATE, ["a", "b"], options={"start": 0}, **settings)
    with pytest.raises(AssertionError):
        separate(samples, RATE, ["a", "b"], options={"start": 0, "level": "prior"}, **settings)


def test_which_mixtures_stay_at_their_level(prior):
    converted = [Source(SourcePrior.from_pretrained(prior), 0, "a")]
    compact = [Source(tiny_prior("speech", ("speech",)), 0, "speech")]
    assert keeps_level(converted, "released")
    assert not keeps_level(converted, "paper")
    assert not keeps_level(compact, "released")
    assert keeps_level(compact, "paper", level="recording")
    assert not keeps_level(converted, "released", level="prior")


def test_a_network_is_told_the_steps_of_the_run(prior):
    loaded = SourcePrior.from_pretrained(prior)
    others = [Source(tiny_prior("speech", ("speech",)), 0, "speech")]
    process = vp_linear(60)
    told = under([Source(loaded, 0, "a"), Source(loaded, 1, "b"), *others], process)
    assert told[0].prior is told[1].prior
    assert told[2] == others[0]
    assert told[0].prior.denoiser.fed(process.levels[[0, 57, 59]]).tolist() == [0, 949, 983]
    # As it was trained, the last step of 60 has the noise of step 108 of 200.
    assert loaded.denoiser.fed(process.levels[59:]).tolist() == [540]
    assert told[0].prior.denoiser.network is loaded.denoiser.network
