"""The dictionary baseline: learned from the train clips, it tells real sources apart."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sourceprior.baselines import nmf
from sourceprior.datasets import read_manifest
from sourceprior.errors import UserError
from sourceprior.factorisation import update_activations
from sourceprior.metrics import si_sdr
from sourceprior.mixtures import draw, mix, render

DATA = Path(__file__).parent / "data"
LABELS = ["speech", "Bark", "Saxophone", "rain"]


@pytest.fixture(scope="module")
def dictionaries():
    return nmf.learn(read_manifest(DATA, "train"), LABELS)


def test_dictionaries_are_spectra(dictionaries):
    assert list(dictionaries) == LABELS
    assert dictionaries["speech"].shape == (513, 64)
    assert dictionaries["rain"].shape == (513, 32)
    for atoms in dictionaries.values():
        assert (atoms >= 0).all()
        torch.testing.assert_close(atoms.sum(0), torch.ones(atoms.shape[1]))


def test_updates_never_raise_the_divergence():
    generator = torch.Generator().manual_seed(0)
    v, w, h = (torch.rand(shape, generator=generator) + 0.1 for shape in [(30, 40), (30, 5), (5, 40)])
    last = float("inf")
    for _ in range(20):
        model = w @ h
        divergence = float((v * (v / model).log() - v + model).sum())
        assert divergence < last
        last = divergence
        h = update_activations(v, w, h)


def test_real_sources_come_apart(dictionaries):
    gains = []
    # Rain only: barks and notes that two training clips do not hold are no one's, as far as a dictionary knows.
    for spec in draw("speech_sound", 8, read_manifest(DATA, "test"), DATA, labels=["rain"]):
        sources = render(spec, DATA)
        mixture = mix(sources)
        stems = nmf.separate(torch.from_numpy(mixture), [dictionaries[label] for label in spec.labels])
        np.testing.assert_allclose(stems.sum(0).numpy(), mixture, atol=1e-6)
        gains.append(si_sdr(stems.numpy(), sources).mean() - si_sdr(mixture, sources).mean())
    print(f"improvement {np.mean(gains):.1f} dB")
    assert np.mean(gains) > 3


def test_equal_dictionaries_share_equally_and_silence_stays_silent(dictionaries):
    y = torch.randn(5000, generator=torch.Generator().manual_seed(0))
    stems = nmf.separate(y, [dictionaries["rain"], dictionaries["rain"]])
    torch.testing.assert_close(stems[0], y / 2, rtol=0, atol=1e-5)
    silent = nmf.separate(torch.zeros(300), [dictionaries["speech"], dictionaries["rain"]])
    assert silent.abs().max() == 0


def test_the_level_of_the_mixture_does_not_matter(dictionaries):
    y = torch.randn(5000, generator=torch.Generator().manual_seed(1))
    pair = [dictionaries["speech"], dictionaries["rain"]]
    torch.testing.assert_close(nmf.separate(1e-4 * y, pair), 1e-4 * nmf.separate(y, pair), rtol=1e-3, atol=1e-8)


def test_dictionaries_survive_their_file(dictionaries, tmp_path):
    nmf.save(dictionaries, tmp_path / "d.safetensors")
    loaded = nmf.load(tmp_path / "d.safetensors")
    assert loaded.keys() == dictionaries.keys()
    torch.testing.assert_close(loaded["Bark"], dictionaries["Bark"])
    clips = read_manifest(DATA, "train")
    nmf.save(dictionaries, tmp_path / "of.safetensors", clips)
    assert nmf.load(tmp_path / "of.safetensors", clips).keys() == dictionaries.keys()
    with pytest.raises(UserError, match="learned from other clips"):
        nmf.load(tmp_path / "of.safetensors", clips[1:])
    (tmp_path / "bad").write_text("hello")
    # Weights of something else, such as of a prior, are not written over.
    save_file({"network.weight": torch.zeros(3)}, tmp_path / "weights")
    for name in ("bad", "none", "weights"):
        with pytest.raises(UserError, match="not a file of NMF"):
            nmf.load(tmp_path / name)
    with pytest.raises(UserError, match="no training clip of 'siren'"):
        nmf.learn(read_manifest(DATA, "train"), ["siren"])
