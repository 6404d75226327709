"""Overlapping windows must be invisible: the same denoiser, for any length, whatever the batch."""

import itertools

import pytest
import torch

from sourceprior.windows import flanks, starts, windowed


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("length", [1, 99, 100, 101, 175, 176, 250, 1000, 1003])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5])
def test_a_denoiser_without_context_is_unchanged(length, overlap):
    x = noise(2, 3, length)
    whole = windowed(lambda x, sigma: x * sigma, 100, overlap)(x, 0.3)
    torch.testing.assert_close(whole, x * 0.3)


def test_batches_give_the_same_and_are_kept_to():
    sizes = []

    def smooth(x, sigma):
        sizes.append(x.shape[0])
        return torch.nn.functional.avg_pool1d(x, 9, 1, 4) * sigma

    x = noise(2, 2, 1000)
    results = {batch: windowed(smooth, 128, 0.25, batch)(x, 0.5) for batch in (1, 3, 100)}
    assert max(sizes) == 2 * len(starts(1000, 128, 0.25))
    assert set(sizes[: len(starts(1000, 128, 0.25))]) == {2}
    torch.testing.assert_close(results[1], results[3], rtol=0, atol=1e-12)
    torch.testing.assert_close(results[1], results[100], rtol=0, atol=1e-12)


def test_items_are_not_mixed():
    x = noise(2, 2, 500)
    denoise = windowed(lambda x, sigma: x.cumsum(-1), 100, 0.25, batch=4)
    torch.testing.assert_close(denoise(x, 1.0)[1:], denoise(x[1:], 1.0), rtol=0, atol=1e-12)


def test_no_step_where_windows_disagree():
    """Each window returns its own constant: the cross-fade must go from one to the next without a jump."""
    value = iter(range(100))
    out = windowed(lambda x, sigma: torch.full_like(x, next(value)), 200, 0.25)(noise(1, 1, 1000), 1.0)
    assert out.max() > 4
    assert out.diff().abs().max() < 2 / 50 * torch.pi / 2


@pytest.mark.parametrize("length", [100, 101, 180, 999])
def test_windows_cover_everything_with_enough_overlap(length):
    begin = starts(length, 100, 0.25)
    assert begin[0] == 0
    assert begin[-1] + 100 == length
    assert all(second - first <= 75 for first, second in itertools.pairwise(begin))


def test_flanks_add_up_to_one():
    weight = flanks(100, 30)
    torch.testing.assert_close(weight[:30] + weight[-30:], torch.ones(30, dtype=torch.float64))
    assert weight.min() > 0


def test_bad_settings():
    for settings in [(0, 0.25, 1), (10, 0.6, 1), (10, 0.25, 0)]:
        with pytest.raises(ValueError, match="windowed needs"):
            windowed(lambda x, sigma: x, *settings)


def kept_for_backward(length, batch):
    """Bytes kept for the backward pass by a denoiser that keeps ten maps of what it is given, and the slope."""
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    def denoise(x, sigma):
        for _ in range(10):
            x = torch.sin(x)
        return sigma * x

    x = torch.linspace(0, 1, length, dtype=torch.float64).expand(1, 2, length).clone().requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = windowed(denoise, 1000, 0.25, batch)(x, 0.5)
    (slope,) = torch.autograd.grad(out.square().sum(), x)
    return sum(kept.values()) / x.nbytes, slope


def test_a_gradient_through_a_long_recording_keeps_no_more_than_its_windows_inputs():
    kept, slope = kept_for_backward(10_000, 1)
    assert kept < 4
    assert kept_for_backward(1000, 1)[0] > 9
    torch.testing.assert_close(kept_for_backward(10_000, 3)[1], slope)
    x = torch.linspace(0, 1, 10_000, dtype=torch.float64, requires_grad=True)
    out = x
    for _ in range(10):
        out = torch.sin(out)
    torch.testing.assert_close(slope[0, 0], torch.autograd.grad((0.5 * out).square().sum(), x)[0])
