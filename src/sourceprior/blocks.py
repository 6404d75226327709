"""Recordings that are longer than what is solved at a time: blocks, each of which goes on where the one before was.

Two blocks share some seconds. The later block takes over what the earlier one had there, at every step of the solver:
the start, the noise that is drawn, and the denoiser's clean estimates, which are its own only after the first half and
a fade. In the first half the two blocks are therefore in the same state at every step, whatever the solver, and one
can follow the other without a click or an exchange of sources. Nothing but the last block's share is remembered.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from sourceprior.initial import standard_normal
from sourceprior.mixture import Mixture
from sourceprior.stft import HOP


def cut(length: int, block: int, shared: int) -> list[tuple[int, int]]:
    """First and last-plus-one samples of blocks of at most `block` samples; each shares `shared` with the next.

    All are as long as the first one, so that memory and seconds per second do not depend on the length, but for the
    last two, which halve what is left: no block is a splinter that hears little. All but the first begin at a multiple
    of the hop of the short-time Fourier transform, so that blocks have the same frames where they overlap.
    """
    stride = (block - shared) // HOP * HOP
    starts = [0]
    while (rest := length - starts[-1]) > block:
        half = -(-(rest - shared) // (2 * HOP)) * HOP
        starts.append(starts[-1] + (half if rest <= shared + 2 * stride else stride))
    return [(start, after + shared) for start, after in itertools.pairwise(starts)] + [(starts[-1], length)]


def rise(length: int) -> Tensor:
    """A squared-sine flank from 0 to 1, `(length,)`."""
    return torch.sin(torch.pi / 2 * (torch.arange(length, dtype=torch.float64) + 0.5) / max(1, length)) ** 2


class Handover:
    """What a block takes over from the one before, and leaves to the next: values by order, as solvers ask for them.

    Args:
        before: the handover of the block before; None for the first.
        shared: samples that two blocks share.
        last: whether no block follows.
    """

    def __init__(self, before: Handover | None, shared: int, last: bool) -> None:
        self.shared = shared
        self.taken: deque[Tensor] | None = before.left if before else None
        self.left: deque[Tensor] | None = None if last else deque()
        flat = shared // 2
        self.weight = torch.cat([torch.zeros(flat, dtype=torch.float64), rise(shared - flat)])

    def solver(self, solver: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """The same solver, its block linked to its neighbours."""

        def linked(
            problem: Mixture, sigmas: Tensor, x: Tensor, *, generators: Sequence[torch.Generator], **options: object
        ) -> Tensor:
            noise = [self.noise(generator) for generator in generators]
            return solver(self.problem(problem), sigmas, self._pass(x), generators=noise, **options)

        return linked

    def problem(self, problem: Mixture) -> Mixture:
        """The mixture, its denoiser's estimates linked to those of the neighbours."""
        return replace(problem, denoise=lambda x, sigma: self._pass(problem.denoise(x, sigma), self.weight))

    def noise(self, generator: torch.Generator) -> Callable[[tuple[int, ...]], Tensor]:
        """The generator's white noise, the same as in the block before where the two overlap."""
        like = torch.empty(0)
        return lambda shape: self._pass(standard_normal(shape, [generator], like)[0])

    def _pass(self, own: Tensor, weight: Tensor | None = None) -> Tensor:
        """A value `(..., N)`: its beginning taken over (or faded in from what is), its end left to the next block."""
        if self.taken is not None:
            taken, begin = self.taken.popleft(), own[..., : self.shared]
            if weight is not None:
                fade = weight.to(own)
                taken = taken * (1 - fade) + begin * fade
            own = torch.cat([taken, own[..., self.shared :]], dim=-1)
        if self.left is not None:
            self.left.append(own[..., own.shape[-1] - self.shared :].detach().clone())
        return own


class Seam:
    """Blocks of stems one after another, faded into each other where their states are the same.

    Args:
        shared: samples that two blocks share. The stems change over from the first quarter of them to the half.
    """

    def __init__(self, shared: int) -> None:
        self.begin, self.end, self.shared = shared // 4, shared // 2, shared
        self.tail: Tensor | None = None

    def add(self, stems: Tensor, last: bool, order: Callable[[Tensor, Tensor], list[int]] | None = None) -> Tensor:
        """Stems `(K, N)` of the next block; returns those that are settled now.

        Args:
            order: of the stems of a later block, called with both blocks' stems where they change over.
        """
        start = 0
        if self.tail is not None:
            start, place = self.begin, slice(self.begin, self.end)
            if order:
                stems = stems[order(self.tail, stems[:, place])]
            weight = rise(self.end - self.begin).to(stems)
            mixed = self.tail * (1 - weight) + stems[:, place] * weight
            stems = torch.cat([stems[:, :start], mixed, stems[:, self.end :]], dim=1)
        if last:
            return stems[:, start:]
        offset = stems.shape[1] - self.shared
        self.tail = stems[:, offset + self.begin : offset + self.end].clone()
        return stems[:, start : offset + self.begin]
