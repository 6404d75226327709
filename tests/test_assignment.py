"""The cheapest assignment is what trying every order finds, and twenty rows take no time."""

import itertools

import numpy as np
import pytest

from sourceprior.assignment import cheapest


@pytest.mark.parametrize("size", [1, 2, 3, 5, 6])
def test_it_is_the_best_of_all_orders(size):
    for seed in range(10):
        cost = np.random.default_rng(seed).normal(size=(size, size))
        if seed % 2:
            cost = np.round(cost)  # ties
        given = cheapest(cost.tolist())
        assert sorted(given) == list(range(size))
        best = min(cost[range(size), order].sum() for order in itertools.permutations(range(size)))
        assert cost[range(size), given].sum() == pytest.approx(best)


def test_many_rows_and_ties():
    order = np.random.default_rng(0).permutation(20)
    cost = np.ones((20, 20))
    cost[range(20), order] = 0
    assert cheapest(cost.tolist()) == order.tolist()
    assert cheapest(np.zeros((20, 20)).tolist()) == list(range(20))
    assert cheapest([]) == []
