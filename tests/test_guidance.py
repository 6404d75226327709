"""Guidance rules: their lengths are those of the paper's Table 1."""

import math

import pytest
import torch

from sourceprior.errors import UserError
from sourceprior.guidance import cqt_diff, dps, dsg, hybrid, rule, smooth_max
from sourceprior.schedules import vp_linear

VP = vp_linear()
SLOPE = torch.randn(3, 2, 400, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 5.0])[:, None]


@pytest.mark.parametrize("t", [1, 50, 199])
def test_steps_have_the_length_of_the_schedule(t):
    root, std = math.sqrt(400), float(VP.posterior_std[t])
    length = dsg(SLOPE, t, VP).flatten(1).norm(dim=-1)
    torch.testing.assert_close(length, torch.full((3,), std * root))
    length = hybrid(SLOPE, t, VP, std_scale=0.09, norm="source").norm(dim=-1)
    wanted = math.log(math.exp(90 * std) + math.exp(2)) / 1e3
    torch.testing.assert_close(length, torch.full((3, 2), wanted * root))
    length = cqt_diff(SLOPE, t, VP).norm(dim=-1)
    torch.testing.assert_close(length, torch.full((3, 2), 1e-3 * root / math.sqrt(1 - float(VP.alpha_bars[t]))))
    torch.testing.assert_close(dps(SLOPE, t, VP, step=1.5), 1.5 * SLOPE)


def test_steps_point_along_the_gradient_and_the_joint_norm_keeps_ratios():
    step = dsg(SLOPE, 100, VP)
    torch.testing.assert_close(
        step[:, 1].norm(dim=-1) / step[:, 0].norm(dim=-1), SLOPE[:, 1].norm(dim=-1) / SLOPE[:, 0].norm(dim=-1)
    )
    torch.testing.assert_close(torch.cosine_similarity(step, SLOPE, dim=-1), torch.ones(3, 2))


def test_a_gradient_of_zero_moves_nothing():
    for name in ("dps", "dsg", "hybrid", "cqt"):
        assert rule(name)(torch.zeros(1, 2, 50), 10, VP).abs().max() == 0


def test_smooth_max_lies_above_the_maximum_by_at_most_log_2():
    assert smooth_max(0.0, 0.0, 1e3) == pytest.approx(math.log(2) / 1e3)
    assert smooth_max(5.0, 0.0, 1e3) == 5.0


def test_an_unknown_rule_is_named():
    with pytest.raises(UserError, match="no guidance rule 'best'"):
        rule("best")
