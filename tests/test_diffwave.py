"""DiffWave-Large: equal to the recording, of the published size."""

import json

import pytest
import torch

from golden_case import FOLDER, filled, recorded, relative
from sourceprior.networks.diffwave import DiffWave


def test_parameters_are_those_of_the_checkpoint():
    shapes = json.loads((FOLDER / "diffwave_shapes.json").read_text())
    ours = {name: list(value.shape) for name, value in DiffWave(6, 32, 4).state_dict().items()}
    assert ours == shapes


def test_output_equals_the_recording():
    network = filled(DiffWave(layers=6, channels=32, dilation_cycle=4))
    out = network(recorded("x", "diffwave")[:, 0], recorded("beta", "diffwave"))
    assert relative(out, recorded("out", "diffwave")[:, 0]) < 1e-4


def test_recomputed_activations_change_no_gradient():
    slopes = []
    for checkpoint in (False, True):
        network = filled(DiffWave(3, 16, 3, checkpoint=checkpoint))
        x = torch.ones(1, 50).cumsum(-1).sin().requires_grad_()
        slopes.append(torch.autograd.grad(network(x, torch.tensor([0.01])).square().sum(), x)[0])
    torch.testing.assert_close(*slopes)


def test_full_size_has_the_published_number_of_parameters():
    with torch.device("meta"):
        assert sum(p.numel() for p in DiffWave().parameters()) == pytest.approx(33e6, rel=0.03)


def test_impossible_sizes_are_refused():
    with pytest.raises(ValueError, match="DiffWave needs"):
        DiffWave(channels=8)
