"""Muon in single precision does what torch's does in bfloat16."""

import pytest
import torch

from sourceprior import optimizers


@pytest.mark.parametrize("shape", [(16, 8, 3, 3), (8, 64, 1, 1), (64, 4, 1, 1)])
def test_single_precision_steps_are_torchs(shape, monkeypatch):
    torch.manual_seed(0)
    start = (0.01 * torch.randn(shape)).to(memory_format=torch.channels_last)
    gradients = [torch.randn(shape).to(memory_format=torch.channels_last) for _ in range(4)]
    moved = []
    for half in (True, False):
        monkeypatch.setattr(optimizers, "fast_bfloat16", lambda device, half=half: half)
        weight = torch.nn.Parameter(start.clone(memory_format=torch.preserve_format))
        muon = optimizers.MatrixMuon([weight], rate=0.01, weight_decay=0.1)
        for gradient in gradients:
            weight.grad = gradient.clone(memory_format=torch.preserve_format)
            muon.step()
        moved.append((weight.detach() - start).double())
    # bfloat16 has three digits.
    assert (moved[0] - moved[1]).norm() < 0.02 * moved[0].norm()
    assert moved[0].norm() > 0.01
