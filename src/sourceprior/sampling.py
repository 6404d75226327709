"""From one mixture at the prior's rate to its stems: level, noise levels, candidates, windows, solver.

The part of the pipeline that knows no files, channels, label names or rates; `separate` and `sourceprior evaluate` both
call it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sourceprior.errors import UserError, alternatives
from sourceprior.initial import standard_normal
from sourceprior.mixture import Mixture
from sourceprior.priors import Source, joint
from sourceprior.schedules import karras
from sourceprior.solver_choice import check_options, find_solver
from sourceprior.windows import windowed

Progress = Callable[[int, int], None]
"""Called as callback(steps done, steps in all) after every step."""


@dataclass(frozen=True)
class Settings:
    """How to solve; every field is an option of the command line or of `separate`.

    Attributes:
        steps: noise levels, each one denoising of every source (two with a second-order method).
        candidates: runs from different noise, averaged: a mean of samples is nearer to the posterior mean, and that is
            the best estimate. They come in antithetic pairs, noise z and -z.
        sigma_max, sigma_min: first and last noise level in units of the level of a typical source.
        solver: a file and function of `sourceprior.solvers`.
        options: the solver's own options.
        segment: seconds of a window; longer recordings are denoised in overlapping windows.
        overlap: part of a window that it shares with the next.
        batch: windows in flight; memory grows with it, the result does not depend on it.
    """

    steps: int = 20
    candidates: int = 2
    sigma_max: float = 20.0
    sigma_min: float = 0.01
    solver: str = "posterior_mean"
    options: Mapping[str, Any] = field(default_factory=dict)
    segment: float = 8.0
    overlap: float = 0.25
    batch: int = 1

    def __post_init__(self) -> None:
        """Raise UserError for settings out of range."""
        for name, low, high in [
            ("steps", 1, 1000),
            ("candidates", 1, 64),
            ("batch", 1, 1024),
            ("segment", 1, 600),
            ("overlap", 0, 0.5),
            ("sigma_max", 0.01, 1000),
            ("sigma_min", 1e-5, self.sigma_max),
        ]:
            if not low <= getattr(self, name) <= high:
                raise UserError(f"{name} must lie between {low} and {high}, not {getattr(self, name)}.")


PRESETS = {
    "fast": Settings(steps=10, candidates=1),
    "default": Settings(),
    "best": Settings(steps=25, candidates=4),
}


def settings_of(preset: str, **changes: Any) -> Settings:
    """A preset with the `changes` that are not None. Raises UserError for an unknown preset or values out of range."""
    if preset not in PRESETS:
        raise UserError(f"There is no preset {preset!r}; choose {alternatives(list(PRESETS))}.")
    return replace(PRESETS[preset], **{name: value for name, value in changes.items() if value is not None})


def find_device(name: str) -> torch.device:
    """`auto`, `cpu`, `cuda` (or `cuda:1`) or `mps`. Raises UserError for one that this machine does not have."""
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    kind = next(kind for kind, there in present.items() if there) if name == "auto" else name.partition(":")[0]
    if kind not in present:
        raise UserError(f"There is no device {name!r}; choose auto, cpu, cuda or mps.")
    if not present[kind]:
        raise UserError(f"The device {name!r} is not available on this machine; use --device auto.")
    return torch.device(kind if name == "auto" else name)


def solve(
    y: Tensor,
    sources: Sequence[Source],
    settings: Settings,
    *,
    seed: int = 0,
    device: torch.device | None = None,
    callback: Progress | None = None,
) -> Tensor:
    """Separate one mixture `(N,)` at the priors' sample rate into `(K, N)` on the CPU; the stems add up to it.

    The mixture is scaled so that a typical source has the level the priors were trained at, and the stems are scaled
    back. Same seed, same stems; the noise is drawn on the CPU, so that this does not depend on the device.

    Raises UserError for an unknown solver or an option it does not have.
    """
    device = device or torch.device("cpu")
    solver = find_solver(settings.solver)
    options = check_options(solver, settings.options)
    denoise = joint(sources, device)
    level = float(np.mean([source.prior.level for source in sources]))
    segment = round(settings.segment * sources[0].prior.sample_rate)
    gain = level * len(sources) ** 0.5 / max(float(y.double().square().mean().sqrt()), 1e-12)

    count = settings.candidates
    problem = Mixture(
        y=(y * gain).to(device, torch.float32).expand(count, -1),
        denoise=windowed(denoise, segment, settings.overlap, settings.batch),
        num_sources=len(sources),
        spectra=denoise.spectra,
    )
    sigmas = karras(settings.steps, settings.sigma_min * level, settings.sigma_max * level)
    generators = [generator(seed, index) for index in range(count)]
    noise = antithetic((len(sources), y.shape[-1]), generators, problem.y)
    start = problem.y[:, None] / len(sources) + sigmas[0].to(device) * noise

    def progress(step: int, steps: int, *_: Any) -> None:
        if callback:
            callback(step + 1, steps)

    with torch.no_grad():
        stems = solver(problem, sigmas, start, generators=generators, callback=progress, **options)
    return combine(stems.cpu(), [(id(source.prior), source.index) for source in sources]) / gain


def generator(seed: int, index: int) -> torch.Generator:
    """The generator of candidate `index`: neighbouring seeds share nothing."""
    state = np.random.SeedSequence([seed, index]).generate_state(2, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


def antithetic(shape: Sequence[int], generators: Sequence[torch.Generator], like: Tensor) -> Tensor:
    """White noise `(candidates, *shape)` in pairs z, -z, each pair from the first generator of the two."""
    pairs = standard_normal(shape, generators[::2], like)
    return torch.stack([pairs, -pairs], 1).flatten(0, 1)[: len(generators)]


def combine(candidates: Tensor, labels: Sequence[object]) -> Tensor:
    """The mean of candidates `(C, K, N)`, `(K, N)`, after sources with equal labels were put in the same order."""
    first = candidates[0]
    ordered = [first] + [other[alignment(first, other, labels)] for other in candidates[1:]]
    return torch.stack(ordered).mean(0)


def alignment(reference: Tensor, other: Tensor, labels: Sequence[object]) -> list[int]:
    """For each stem of `reference` `(K, N)` the stem of `other` that is most like it among those of its label.

    Greedy, by correlation: the surest pair first.
    """
    unit = [stems / stems.norm(dim=-1, keepdim=True).clamp_min(1e-12) for stems in (reference, other)]
    likeness = unit[0] @ unit[1].T
    order, free = [-1] * len(labels), set(range(len(labels)))
    for place in likeness.flatten().argsort(descending=True).tolist():
        mine, yours = divmod(place, len(labels))
        if order[mine] < 0 and yours in free and labels[mine] == labels[yours]:
            order[mine] = yours
            free.remove(yours)
    return order
