"""The reconstruction loss: equal to the recording, and to the paper's formulas written out."""

import pytest
import torch

from golden_case import recorded, relative
from sourceprior.losses import ReconstructionLoss, group_loss, stft_loss, time_loss


def test_terms_and_gradient_equal_the_recording():
    x, y = recorded("loss_x").requires_grad_(), recorded("loss_y")
    terms = ReconstructionLoss.released().terms(y[None], x.sum(0, keepdim=True))[0]
    torch.testing.assert_close(terms.double(), recorded("loss_terms"), rtol=1e-5, atol=0)
    (slope,) = torch.autograd.grad(terms.sum(), x)
    assert relative(slope, recorded("loss_grad")) < 1e-5


@pytest.mark.parametrize("length", [100, 1000, 2048])
def test_the_papers_terms_are_its_formulas(length):
    y, estimate = torch.randn(2, length), torch.randn(2, length)
    error = (y - estimate).square()
    torch.testing.assert_close(time_loss(y, estimate), error.sum(-1))
    count = len(error[0].chunk(512))
    torch.testing.assert_close(group_loss(y, estimate), error.sum(-1) / count)
    sums = sum(piece.sum(-1).sqrt() for piece in error.chunk(512, dim=-1))
    torch.testing.assert_close(group_loss(y, estimate, squared=False), sums)
    if length > 256:
        window = torch.hann_window(512)
        plain = [torch.stft(x, 512, 256, window=window, return_complex=True).abs() for x in (y, estimate)]
        expected = (plain[0] - plain[1]).square().sum((1, 2))
        torch.testing.assert_close(stft_loss(y, estimate, unit=False), expected)
        torch.testing.assert_close(stft_loss(y, estimate), expected / window.square().sum())


def test_weights_scale_their_terms_and_zero_leaves_one_out():
    y, estimate = torch.randn(3, 600), torch.randn(3, 600)
    ones = ReconstructionLoss(1, 1, 1).terms(y, estimate)
    torch.testing.assert_close(ReconstructionLoss(0.5, 0, 3).terms(y, estimate), ones * torch.tensor([0.5, 0.0, 3.0]))
    torch.testing.assert_close(ReconstructionLoss(1, 1, 1)(y, estimate), ones.sum(-1))


@pytest.mark.parametrize("loss", [ReconstructionLoss(), ReconstructionLoss.released()])
def test_a_perfect_estimate_has_no_loss_and_a_finite_gradient(loss):
    y = torch.randn(2, 700)
    estimate = y.clone().requires_grad_()
    value = loss(y, estimate)
    (slope,) = torch.autograd.grad(value.sum(), estimate)
    assert value.abs().max() == 0
    assert slope.isfinite().all()


def test_senseless_weights_are_refused():
    with pytest.raises(ValueError, match="must not be negative"):
        ReconstructionLoss(time=-1)
    with pytest.raises(ValueError, match="one must be positive"):
        ReconstructionLoss(0, 0, 0)
