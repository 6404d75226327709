"""The attention U-Net: equal to the recording, usable at any length, trainable from its initialisation."""

import json
import math

import pytest
import torch

from golden_case import FOLDER, filled, recorded, relative
from plain_attention_unet import plain
from sourceprior.networks.attention_unet import AttentionUNet, Keep


def small(**options) -> AttentionUNet:
    return AttentionUNet(8, 3, blocks=(1, 1, 1, 1, 1), **options)


def test_parameters_are_those_of_the_checkpoints():
    shapes = json.loads((FOLDER / "attention_unet_shapes.json").read_text())
    ours = {name: list(value.shape) for name, value in AttentionUNet(16, 50).state_dict().items()}
    assert ours == shapes


def test_output_and_vector_jacobian_product_equal_the_recording():
    network = filled(AttentionUNet(width=16, classes=50)).requires_grad_(False)
    x = recorded("net_x").requires_grad_()
    out = network(x, recorded("net_t"), recorded("net_label"))
    assert relative(out, recorded("net_out")) < 1e-4
    weight = torch.linspace(-1, 1, x.numel()).view_as(out)
    (slope,) = torch.autograd.grad((out * weight).sum(), x)
    assert relative(slope, recorded("net_vjp")) < 1e-4


@pytest.mark.parametrize("samples", [700, 2000])
def test_what_it_is_timed_against_computes_the_same(samples):
    network = filled(small()).requires_grad_(False)
    x, t, label = torch.randn(2, samples), torch.tensor([3, 700]), torch.tensor([0, 3])
    assert relative(plain(network, x, t, label), network(x, t, label)) < 1e-4


@pytest.mark.parametrize("length", [1, 255, 700, 765, 766, 1000])
def test_any_length_comes_back_at_that_length(length):
    # 765 and 766: three hops, which need no padding, and one sample more.
    out = filled(small())(torch.randn(2, length), torch.tensor([3, 700]), torch.tensor([0, 3]))
    assert out.shape == (2, length)
    assert out.isfinite().all()
    assert out.abs().max() < 50


def test_an_item_does_not_see_the_rest_of_its_batch():
    network = filled(small()).requires_grad_(False)
    x, t, label = torch.randn(3, 900), torch.tensor([1, 500, 999]), torch.tensor([0, 2, 3])
    alone = torch.cat([network(x[i : i + 1], t[i : i + 1], label[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(network(x, t, label), alone, rtol=1e-4, atol=1e-5)


def slopes_of(network, x):
    leaf = x.clone().requires_grad_()
    out = network(leaf, torch.tensor([10]), torch.tensor([1])).square().sum()
    return torch.autograd.grad(out, [leaf, network.conv_1.weight])


def test_activations_that_are_computed_again_change_no_gradient():
    x = torch.randn(1, 800)
    everything = slopes_of(filled(small(memory=math.inf)), x)
    for memory in (0, 1e6, 1.5e6, 2e6, 3e6):
        torch.testing.assert_close(slopes_of(filled(small(memory=memory)), x), everything, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("frozen", [True, False])
def test_a_network_keeps_no_more_for_its_backward_pass_than_it_may_and_uses_what_it_may(frozen):
    def kept(memory):
        network = filled(AttentionUNet(32, 3, blocks=(1, 1, 1, 1, 1), memory=memory)).requires_grad_(not frozen)
        sizes = {}

        def keep(tensor):
            if not isinstance(tensor, torch.nn.Parameter):
                sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            network(torch.randn(1, 4000).requires_grad_(), torch.tensor([10]), torch.tensor([1]))
        return sum(sizes.values())

    everything = kept(math.inf)
    parts = [kept(part * everything) / everything for part in (0.3, 0.5, 0.7, 0.9)]
    assert parts == sorted(parts)
    assert all(0.6 * part < found < 1.2 * part for found, part in zip(parts, (0.3, 0.5, 0.7, 0.9), strict=True))


def test_a_new_network_predicts_no_noise_and_passes_its_input_through_its_blocks():
    network = small()
    assert network(torch.randn(2, 600), torch.tensor([0, 999]), torch.tensor([0, 1])).abs().max() == 0
    x, condition = torch.randn(2, 64, 4, 32), torch.randn(2, 128)
    torch.testing.assert_close(network.latent[0](x, condition, Keep.ALL), x)


def test_a_new_network_can_learn_every_parameter():
    network = small()
    x, noise = torch.randn(4, 600), torch.randn(4, 600)
    optimiser = torch.optim.SGD(network.parameters(), 0.05)
    for _ in range(4):
        loss = (network(x, torch.arange(4) * 200, torch.arange(4)) - noise).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    # The way into the time embedding opens last, behind two layers of zeros.
    idle = [name for name, value in network.named_parameters() if value.grad.abs().max() == 0]
    assert idle == []


def test_label_and_timestep_matter():
    network = filled(small()).requires_grad_(False)
    x = torch.randn(1, 600).expand(3, -1)
    out = network(x, torch.tensor([10, 10, 500]), torch.tensor([0, 1, 0]))
    assert relative(out[1], out[0]) > 1e-3
    assert relative(out[2], out[0]) > 1e-3


@pytest.mark.parametrize(("width", "classes"), [(12, 1), (0, 1), (16, 0)])
def test_impossible_sizes_are_refused(width, classes):
    with pytest.raises(ValueError, match="attention U-Net needs"):
        AttentionUNet(width, classes)


def test_full_size_has_the_published_number_of_parameters():
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in AttentionUNet(72, 1).parameters())
    assert count == pytest.approx(37.24e6, rel=1e-3)


@pytest.mark.parametrize("heads", [0, 3, 6])
def test_heads_that_a_whole_frame_cannot_share_are_refused(heads):
    with pytest.raises(ValueError, match="needs heads that divide 128"):
        AttentionUNet(72, heads=heads)
