"""The bundled priors' network: any length, the size the project allows, its fold and unfold."""

import pytest
import torch

from sourceprior.networks.conv_unet import ConvUNet, fold, unfold


def small(**options) -> ConvUNet:
    torch.manual_seed(0)
    defaults = {"widths": (8, 8), "depths": (1, 1), "bottom": 16, "dilations": (1, 2), "condition": 16, "bins": 64}
    network = ConvUNet(inputs=5, outputs=3, classes=4, **defaults | options)
    for parameter in network.parameters():
        # The zero initialisation would hide everything below the output layer.
        torch.nn.init.normal_(parameter, std=0.1)
    return network.eval()


@pytest.mark.parametrize("frames", [1, 2, 7, 8, 33])
def test_any_number_of_frames(frames: int) -> None:
    out = small()(torch.randn(2, 5, 64, frames), torch.zeros(2), torch.tensor([0, 3]))
    assert out.shape == (2, 3, 64, frames)
    assert out.isfinite().all()


@pytest.mark.parametrize("frames", [1, 5, 9])
def test_no_convolution_sees_a_map_of_two_columns(frames: int) -> None:
    # oneDNN's strided ones read beyond it in bfloat16: the stems of a short recording changed from run to run.
    network, seen = small(), []
    for layer in network.down:
        layer.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[-1]))
    network(torch.randn(1, 5, 64, frames), torch.zeros(1), torch.zeros(1, dtype=torch.long))
    assert min(seen) > 2


def test_fold_and_unfold_are_inverse_and_keep_neighbours_together() -> None:
    x = torch.arange(2 * 3 * 8 * 4.0).reshape(2, 3, 8, 4)
    folded = fold(x, 4, 2)
    assert folded.shape == (2, 24, 2, 2)
    assert torch.equal(unfold(folded, 4, 2), x)
    # The layout that convolutions want: any other is copied by every layer that follows.
    assert folded.is_contiguous(memory_format=torch.channels_last)
    assert unfold(folded.contiguous(), 4, 2).is_contiguous(memory_format=torch.channels_last)
    assert set(folded[0, :8, 0, 0].tolist()) == set(x[0, 0, :4, :2].flatten().tolist())


def test_a_new_network_changes_nothing() -> None:
    network = ConvUNet(5, 3, classes=2, widths=(8, 8), depths=(1, 1), bottom=8, dilations=(1,), condition=8)
    assert not network(torch.randn(1, 5, 512, 8), torch.zeros(1), torch.tensor([1])).any()


def test_label_and_noise_level_reach_the_output() -> None:
    network, x = small(), torch.randn(1, 5, 64, 8)
    a = network(x, torch.zeros(1), torch.tensor([0]))
    assert (network(x, torch.zeros(1), torch.tensor([1])) - a).abs().max() > 1e-3
    assert (network(x, torch.ones(1), torch.tensor([0])) - a).abs().max() > 1e-3


def test_items_of_a_batch_do_not_touch() -> None:
    network, x = small(), torch.randn(3, 5, 64, 12)
    whole = network(x, torch.tensor([0.0, 1.0, -1.0]), torch.tensor([0, 1, 2]))
    alone = network(x[1:2], torch.tensor([1.0]), torch.tensor([1]))
    torch.testing.assert_close(whole[1:2], alone, rtol=1e-4, atol=1e-5)


def test_bins_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="does not divide"):
        small(bins=60)


def test_the_default_size_is_within_the_projects_limits() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    network = ConvUNet(5, 3, classes=80).eval()
    assert sum(p.numel() for p in network.parameters()) * 2 <= 20e6
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.randn(1, 5, 512, 251), torch.zeros(1), torch.zeros(1, dtype=torch.long))
    assert counter.get_total_flops() <= 25e9
