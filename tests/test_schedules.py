"""Noise schedules against their definition."""

import pytest
import torch

from sourceprior.schedules import karras


def test_karras_ends_and_definition():
    sigmas = karras(20, 0.001, 2.0)
    assert sigmas.shape == (21,)
    assert sigmas[[0, -2, -1]].tolist() == pytest.approx([2.0, 0.001, 0.0])
    assert (sigmas[1:] < sigmas[:-1]).all()
    roots = sigmas[:-1].double() ** (1 / 7)
    torch.testing.assert_close(roots.diff(), roots.diff().mean().expand(19), rtol=1e-4, atol=0)


def test_karras_single_level():
    assert karras(1, 0.1, 3.0).tolist() == pytest.approx([3.0, 0.0])


@pytest.mark.parametrize("arguments", [(0, 0.1, 1.0), (5, 0.0, 1.0), (5, 2.0, 1.0), (5, 0.1, 1.0, 0.0)])
def test_karras_refuses_impossible_levels(arguments):
    with pytest.raises(ValueError, match="karras needs"):
        karras(*arguments)
