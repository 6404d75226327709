"""The paper's settings in two forms: its text taken literally, and what the released code does (docs/parity.md)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from sourceprior.errors import UserError, alternatives
from sourceprior.initial import Generator, standard_normal
from sourceprior.losses import ReconstructionLoss
from sourceprior.mixture import Mixture
from sourceprior.priors import Source
from sourceprior.schedules import VP, vp_linear
from sourceprior.solver_choice import check_options
from sourceprior.solvers.analytical import analytical
from sourceprior.solvers.gradient import gradient

PAPER_START = 150
"""t*, of 200 steps."""
TYPICAL_LEVEL = 10 ** (-22.5 / 20)
"""RMS of a source in the paper's mixtures: -25 to -20 dBFS."""


@dataclass(frozen=True)
class Recipe:
    """A solver with everything that must be known to run it on a mixture.

    Attributes:
        solver: `gradient` or `analytical`.
        options: its options.
        steps: T of the process.
        start: index in the process of the noise level that the mixture starts at; None starts from noise.
        run_all: run all T steps although the state is at noise index `start`, as the released code does; otherwise
            only those from `start` down.
        shared_noise: one noise for all sources of the start.
    """

    solver: Callable[..., Tensor]
    options: Mapping[str, Any] = field(default_factory=dict)
    steps: int = 200
    start: int | None = None
    run_all: bool = False
    shared_noise: bool = True

    def process(self) -> VP:
        """The steps that are run."""
        whole = vp_linear(self.steps)
        return whole if self.run_all or self.start is None else whole.first(self.start + 1)

    def begin(self, problem: Mixture, generators: Sequence[Generator]) -> Tensor:
        """The state at the first noise level, in units of the waveform, `(B, K, N)` (paper, eq. 12).

        Draws `(1, N)` from each generator where the sources share their noise, `(K, N)` otherwise.
        """
        whole, sources, length = vp_linear(self.steps), problem.num_sources, problem.y.shape[-1]
        rows = 1 if self.shared_noise else sources
        z = standard_normal((rows, length), generators, problem.y).expand(-1, sources, -1)
        if self.start is None:
            state = z
        else:
            alpha_bar = float(whole.alpha_bars[self.start])
            state = alpha_bar**0.5 * problem.y[:, None] + (1 - alpha_bar) ** 0.5 * z
        return state / float(self.process().alpha_bars[-1]) ** 0.5

    def __call__(self, problem: Mixture, *, generators: Sequence[Generator], **hooks: Any) -> Tensor:
        """Separate mixtures `(B, N)` into sources `(B, K, N)`; `hooks` are the solver's callback and trace."""
        x = self.begin(problem, generators)
        return self.solver(problem, self.process(), x, generators=generators, **self.options, **hooks)


def recipe(
    preset: str = "paper",
    guidance: str = "hybrid",
    *,
    steps: int = 200,
    start: int | None = None,
    from_noise: bool = False,
    **options: Any,
) -> Recipe:
    """The recipe of a preset and a guidance setting.

    Args:
        preset: "paper" or "released".
        guidance: "hybrid", "DSG", "DPS" or "cqt" for the gradient solver, "analytical" for UnDiff's; in any case.
        steps: T, with the paper's β range.
        start: noise index the mixture starts at; by default t* = 150 of 200 counted from 1, that is 149, and the same
            fraction of other T.
        from_noise: start the gradient solver from noise instead of the mixture (Table 4, t* = 200).
        options: further options of the solver, which win over the preset's.

    Raises:
        UserError: an unknown preset or guidance, or a start that is not one of the T indices.
    """
    if preset not in ("paper", "released"):
        raise UserError(f"There is no preset {preset!r} of the paper's solvers; choose paper or released.")
    released = preset == "released"
    if start is None:
        start = max(0, round(steps * PAPER_START / 200) - 1)
    if not 0 <= start < steps:
        raise UserError(f"A process of {steps} steps has no step {start} to start from; choose 0 to {steps - 1}.")
    if guidance.lower() == "analytical":
        own: dict[str, Any] = {}
        if released:
            own = {"rounds": 2, "weight": 0.5, "scale_mixture": False, "snr": 1e-5, "clip": 1.0, "peak": 0.95}
        return Recipe(analytical, own | options, steps=steps, shared_noise=False)
    if guidance.lower() not in ("hybrid", "dsg", "dps", "cqt"):
        known = alternatives(["hybrid", "dsg", "dps", "cqt", "analytical"])
        raise UserError(f"There is no guidance {guidance!r}; choose {known}.")
    own = {"guidance": guidance.lower()}
    if released:
        own |= {
            "loss": ReconstructionLoss.released(),
            "dps_step": 1.5,
            "std_scale": 0.09,
            "norm": "source",
            "clip": 1.0,
            "guide_last": True,
        }
    return Recipe(gradient, own | options, steps=steps, start=None if from_noise else start, run_all=released)


def scale_of(sources: Sequence[Source]) -> float:
    """What the paper's noise levels are multiplied by for these priors, for their sources may be louder or softer.

    They are for sources of -22.5 dBFS. An ε-network was trained on the process itself: its levels stay what they are.
    """
    if any(hasattr(source.prior.denoiser, "levels") for source in sources):
        return 1.0
    return sum(source.prior.level for source in sources) / len(sources) / TYPICAL_LEVEL


def paper_solver(
    problem: Mixture,
    solver: str,
    preset: str,
    options: Mapping[str, Any],
    *,
    steps: int,
    scale: float = 1.0,
    generators: Sequence[Generator],
    callback: Callable[..., None] | None = None,
    trace: Callable[..., None] | None = None,
) -> Tensor:
    """Run "gradient" or "analytical" for the pipeline, on any prior: mixtures `(B, N)` to sources `(B, K, N)`.

    Args:
        options: of the solver, and `lambda_time`, `lambda_group`, `lambda_stft`, `start` (noise index), `from_noise`.
        scale: of the waveform, see `scale_of`; it is divided by this before and multiplied again after.

    Raises:
        UserError: an option that the solver does not have.
    """
    function = gradient if solver == "gradient" else analytical
    chosen = dict(options)
    weights = {name: chosen.pop(f"lambda_{name}") for name in ("time", "group", "stft") if f"lambda_{name}" in chosen}
    if weights and "loss" not in chosen:
        chosen["loss"] = (
            ReconstructionLoss.released(**weights) if preset == "released" else ReconstructionLoss(**weights)
        )
    own = {name: chosen.pop(name) for name in ("start", "from_noise") if name in chosen}
    guidance = chosen.pop("guidance", "hybrid") if solver == "gradient" else "analytical"
    run = recipe(preset, guidance, steps=steps, **own, **check_options(function, chosen))

    def denoise(x: Tensor, sigma: float) -> Tensor:
        return problem.denoise(scale * x, scale * sigma) / scale

    at_level = replace(problem, y=problem.y / scale, denoise=denoise, noise_std=problem.noise_std / scale)
    hooks = {name: hook for name, hook in (("callback", callback), ("trace", trace)) if hook}
    return scale * run(at_level, generators=generators, **hooks)


def seeded(count: int, seed: int = 0) -> list[torch.Generator]:
    """One generator per item, from neighbouring seeds that share nothing."""
    return [torch.Generator().manual_seed(seed * 1_000_003 + index) for index in range(count)]
