"""Data larger than memory: a part of it at a time, the next one read in the background while a network trains.

Every pass over the data shuffles its pieces (speakers, clips, or shards of many clips), each label's evenly over the
pass, and cuts them into parts of equal length. Which part a batch is drawn from depends on the number of the batch
alone, so a run that was killed goes on with the same clips, and so do several processes. A part stays for as many
batches as it takes to hear it once.
"""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from sourceprior.datasets import ClipBank

PARTS_IN_MEMORY = 3
"""One that is trained on, one that is read, and once more of it while its clips are put together."""

BEHIND = 8
"""Batches that a thread which draws them ahead may be behind another."""


class Rolling:
    """Parts of the data in turns; `at` has the contract of `ClipBank.at`.

    Args:
        pieces: what is shuffled and read; anything that ``load`` understands.
        seconds: length of each piece.
        labels: label of each piece; None for pieces of many.
        load: pieces -> bank.
        limit: seconds of audio that fit into memory.
        batch_seconds: seconds of audio that a batch takes.
        seed: of the shuffling.
    """

    def __init__(
        self,
        pieces: Sequence[Any],
        seconds: Sequence[float],
        labels: Sequence[str] | None,
        load: Callable[[Sequence[Any]], ClipBank],
        limit: float,
        batch_seconds: float,
        seed: int = 0,
    ) -> None:
        self.pieces, self.seconds, self.load, self.seed = pieces, np.asarray(seconds, float), load, seed
        self.labels = None if labels is None else np.asarray(labels)
        total = float(self.seconds.sum())
        self.parts = max(1, min(len(pieces), math.ceil(PARTS_IN_MEMORY * total / limit)))
        self.steps = max(1, round(total / self.parts / batch_seconds))
        self.bad: dict[str, str] = {}
        self.prepare: Callable[[ClipBank], None] = lambda bank: None
        self.lock, self.pool = threading.Lock(), ThreadPoolExecutor(1)
        self.ready: dict[int, Future[ClipBank]] = {}

    def at(self, number: int) -> ClipBank:
        """The clips that batch ``number`` is drawn from; waits for them if they are still being read."""
        turn = number // self.steps
        with self.lock:
            # The one before may still be drawn from by a thread that is a little behind.
            for old in [other for other in self.ready if not turn - 1 <= other <= turn + 1]:
                del self.ready[old]
            for wanted in (turn, turn + 1):
                if wanted not in self.ready:
                    self.ready[wanted] = self.pool.submit(self._read, wanted)
            if number % self.steps >= BEHIND:
                self.ready.pop(turn - 1, None)
            found = self.ready[turn]
        return found.result()

    def prepare_with(self, prepare: Callable[[ClipBank], None]) -> None:
        """Have every bank changed in place before batches are drawn from it."""
        with self.lock:
            self.prepare = prepare
            self.ready.clear()

    def part(self, turn: int) -> list[Any]:
        """The pieces of a turn."""
        epoch, index = divmod(turn, self.parts)
        order = self.order(np.random.default_rng([self.seed, epoch]))
        # The middle of a piece decides, so that parts differ by no more than a piece.
        ends = np.cumsum(self.seconds[order])
        where = (ends - self.seconds[order] / 2) * (self.parts / ends[-1])
        chosen = order[np.minimum(where.astype(int), self.parts - 1) == index]
        if not len(chosen):
            # Among pieces as long as a part: the one that it lies in is in two parts.
            chosen = order[[np.searchsorted(ends, (index + 0.5) * ends[-1] / self.parts)]]
        return [self.pieces[i] for i in sorted(chosen.tolist())]

    def order(self, g: np.random.Generator) -> np.ndarray:
        """The pieces in the order of a pass: shuffled, and each label's at equal distances from one another."""
        order = g.permutation(len(self.pieces))
        if self.labels is None:
            return order
        place = np.empty(len(order))
        for label in np.unique(self.labels):
            own = order[self.labels[order] == label]
            ends = np.cumsum(self.seconds[own])
            place[own] = ((ends - self.seconds[own] / 2) / max(ends[-1], 1e-9) + g.random()) % 1
        return order[np.argsort(place[order], kind="stable")]

    def typical(self) -> ClipBank:
        """Clips of every label, some of each and no more than a part: what no part by itself need have."""
        if self.labels is None:
            return self.at(0)
        order, limit = self.order(np.random.default_rng(self.seed)), float(self.seconds.sum()) / self.parts
        # The first piece of each label, then the second, as long as there is room.
        seen, turn = Counter[str](), {}
        for i in order.tolist():
            turn[i] = seen[self.labels[i]]
            seen[self.labels[i]] += 1
        chosen, taken = [], 0.0
        for i in sorted(turn, key=lambda i: turn[i]):
            if turn[i] and taken + self.seconds[i] > limit:
                break
            chosen.append(i)
            taken += self.seconds[i]
        bank = self.load([self.pieces[i] for i in sorted(chosen)])
        self.prepare(bank)
        return bank

    def _read(self, turn: int) -> ClipBank:
        bank = self.load(self.part(turn))
        self.bad.update(bank.bad)
        self.prepare(bank)
        return bank
