"""Whether a source is in the recording at all: how much of its stem its own denoiser hears in noise.

A source that is not there gets a little of everything the others leave, below them and not quite its own. So white
noise z is added to its stem s_k, at half the level of a typical source, and D_k takes it away again. What is heard of
the stem, in dB of an equal share of the mixture y of K sources around each moment,

    10 log10  K D_k(s_k + sigma z) s_k / y²        sums over STRETCH seconds

is looked at where it is highest, so that a source may be silent for most of the time. It falls with the source's
level as well as with what its prior finds strange in the stem: whoever is far below the others is hardly heard, too.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from sourceprior.initial import standard_normal
from sourceprior.local_level import per_step, sums_around
from sourceprior.priors import Source, joint
from sourceprior.windows import windowed

HARDLY = -6.0
"""dB below which a source is reported as hardly heard; read off valid, see docs/experiments.md."""
NOISE = 0.5
"""Its level, in units of that of a typical source."""
STRETCH = 2.0
"""Seconds."""
QUIET = 0.1
"""Share of the recording's usual energy that counts as the mixture's where it is less: nobody is heard in silence."""


@torch.no_grad()
def heard(
    stems: Tensor,
    y: Tensor,
    levels: Tensor,
    sources: Sequence[Source],
    *,
    segment: float = 8.0,
    overlap: float = 0.25,
    batch: int = 1,
    device: torch.device | None = None,
) -> np.ndarray:
    """The figure above for stems `(K, N)` of a mixture `(N,)` at the priors' rate, in dB, `(K,)`; -60 or more.

    Args:
        levels: RMS of the recording around each sample, `(N,)`, see `local_level`; the priors' level is set by it.
        segment: seconds of a window; `overlap` and `batch` as in `sampling.Settings`.
    """
    device = device or torch.device("cpu")
    rate, count = sources[0].prior.sample_rate, len(sources)
    level = float(np.mean([source.prior.level for source in sources]))
    loud = level * count**0.5
    gain = loud / levels.clamp_min(1e-12)
    m, mixture = (gain * stems).to(device, torch.float32), gain * y
    denoise = windowed(joint(sources, device), round(segment * rate), overlap, batch)
    z = standard_normal((1, m.shape[-1]), [torch.Generator().manual_seed(0)], m)[0]
    own = per_step(denoise((m + NOISE * level * z)[None], NOISE * level)[0] * m, rate)
    usual = per_step(torch.full_like(mixture, QUIET * loud**2), rate)
    whole = np.maximum(sums_around(per_step(mixture * mixture, rate), STRETCH), sums_around(usual, STRETCH))
    return np.asarray(10 * np.log10(np.maximum(count * sums_around(own, STRETCH) / whole, 1e-6)).max(-1))
