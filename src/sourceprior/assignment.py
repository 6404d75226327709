"""Who belongs to whom: the cheapest one-to-one assignment, for as many sources as anyone names."""

from __future__ import annotations

from collections.abc import Sequence


def cheapest(cost: Sequence[Sequence[float]]) -> list[int]:
    """For each row of a square table of finite costs the column it is given, so that their sum is the least.

    The Hungarian method (Kuhn 1955) with shortest augmenting paths, O(n³): twenty sources take milliseconds, where
    trying every order would never end. Equal costs leave row i at column i.
    """
    size = len(cost)
    # Column `size` stands for "none yet"; `owner` of a column is its row.
    row_price, column_price, owner = [0.0] * size, [0.0] * (size + 1), [-1] * (size + 1)
    for new in range(size):
        owner[size], column = new, size
        shortest, before, settled = [float("inf")] * size, [size] * size, [False] * (size + 1)
        while owner[column] >= 0:
            settled[column], row = True, owner[column]
            for j in (j for j in range(size) if not settled[j]):
                length = cost[row][j] - row_price[row] - column_price[j]
                if length < shortest[j]:
                    shortest[j], before[j] = length, column
            following = min((j for j in range(size) if not settled[j]), key=shortest.__getitem__)
            step = shortest[following]
            for j in range(size + 1):
                if settled[j]:
                    row_price[owner[j]] += step
                    column_price[j] -= step
                elif j < size:
                    shortest[j] -= step
            column = following
        while column != size:
            owner[column] = owner[before[column]]
            column = before[column]
    given = [0] * size
    for column, row in enumerate(owner[:size]):
        given[row] = column
    return given
