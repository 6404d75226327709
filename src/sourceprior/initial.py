"""Where a solver starts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sourceprior.mixture import Mixture

Generator = torch.Generator | Callable[[tuple[int, ...]], Tensor]
"""Where an item's noise comes from: a CPU generator, or a function of the shape, such as a replayed recording."""


def standard_normal(shape: Sequence[int], generators: Sequence[Generator], like: Tensor) -> Tensor:
    """White noise `(B, *shape)`, item i from generator i, with the dtype and device of `like`.

    It is drawn in single precision on the CPU and then moved, so that an item's noise depends on its own generator
    only: not on the batch, the device or the precision.
    """
    noise = torch.stack([_draw(tuple(shape), generator) for generator in generators])
    return noise.to(device=like.device, dtype=like.dtype)


def _draw(shape: tuple[int, ...], generator: Generator) -> Tensor:
    return generator(shape) if callable(generator) else torch.randn(shape, generator=generator)


def noise(problem: Mixture, sigma: float, generators: Sequence[torch.Generator], shared: bool = False) -> Tensor:
    """Start of a sampler that ends at the posterior: x_k = y/K + sigma z_k, `(B, K, N)`.

    Args:
        sigma: first noise level, in units of the waveform.
        generators: one per mixture of the batch.
        shared: the same z for all sources. Two sources of one prior then stay identical for ever; it is there to
            compare with.
    """
    k, n = problem.num_sources, problem.y.shape[-1]
    z = standard_normal((1 if shared else k, n), generators, problem.y)
    return problem.y[:, None] / k + sigma * z.expand(-1, k, -1)


def noised_mixture(
    problem: Mixture, sigma: float, generators: Sequence[torch.Generator], shared: bool = False
) -> Tensor:
    """The paper's start: every source is the whole mixture, noised to level sigma: x_k = y + sigma z_k, `(B, K, N)`.

    Arguments as for `noise`; the released code of the paper copies one noise to every source (`shared`).
    """
    k, n = problem.num_sources, problem.y.shape[-1]
    z = standard_normal((1 if shared else k, n), generators, problem.y)
    return problem.y[:, None] + sigma * z.expand(-1, k, -1)
