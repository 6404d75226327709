"""The paper's settings in two forms: its text taken literally, and what the released code does (docs/parity.md)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from sourceprior.errors import UserError, alternatives
from sourceprior.guidance import CONSTANTS, Rule, rule
from sourceprior.initial import Generator, standard_normal
from sourceprior.losses import loss_of
from sourceprior.mixture import Mixture
from sourceprior.priors import Source
from sourceprior.ranges import Count, Positive
from sourceprior.schedules import VP, vp_linear
from sourceprior.solver_choice import check_options, options_of
from sourceprior.solvers.analytical import analytical
from sourceprior.solvers.gradient import gradient

PAPER_START = 150
"""t*, of 200 steps."""
TYPICAL_LEVEL = 10 ** (-22.5 / 20)
"""RMS of a source in the paper's mixtures: -25 to -20 dBFS."""


RELEASED_LEAD = 50
"""How many steps before its last one the released code's start lies, whatever T."""
GUIDANCES = tuple(CONSTANTS)
RELEASED: dict[str, dict[str, Any]] = {
    "gradient": {
        "squared": False,
        "unit": False,
        "dps_step": 1.5,
        "std_scale": 0.09,
        "norm": "source",
        "clip": 1.0,
        "guide_last": True,
        "run_all": True,
    },
    "analytical": {"rounds": 2, "weight": 0.5, "scale_mixture": False, "snr": 1e-5, "clip": 1.0, "peak": 0.95},
}
"""Options of the solvers in which the released code departs from the paper."""


@dataclass(frozen=True)
class Recipe:
    """A solver with everything that must be known to run it on a mixture.

    Attributes:
        solver: `gradient` or `analytical`.
        options: its options.
        whole: all T steps of the process.
        start: index in the process of the noise level that the mixture starts at; None starts from noise.
        run_all: run all T steps although the state is at noise index `start`, as the released code does; otherwise
            only those from `start` down.
        shared_noise: one noise for all sources of the start.
    """

    solver: Callable[..., Tensor]
    options: Mapping[str, Any] = field(default_factory=dict)
    whole: VP = field(default_factory=vp_linear)
    start: int | None = None
    run_all: bool = False
    shared_noise: bool = True

    def process(self) -> VP:
        """The steps that are run."""
        return self.whole if self.run_all or self.start is None else self.whole.first(self.start + 1)

    def begin(self, problem: Mixture, generators: Sequence[Generator]) -> Tensor:
        """The state at the first noise level, in units of the waveform, `(B, K, N)` (paper, eq. 12).

        Draws `(1, N)` from each generator where the sources share their noise, `(K, N)` otherwise.
        """
        sources, length = problem.num_sources, problem.y.shape[-1]
        rows = 1 if self.shared_noise else sources
        z = standard_normal((rows, length), generators, problem.y).expand(-1, sources, -1)
        if self.start is None:
            state = z
        else:
            alpha_bar = float(self.whole.alpha_bars[self.start])
            state = alpha_bar**0.5 * problem.y[:, None] + (1 - alpha_bar) ** 0.5 * z
        return state / float(self.process().alpha_bars[-1]) ** 0.5

    def __call__(self, problem: Mixture, *, generators: Sequence[Generator], **hooks: Any) -> Tensor:
        """Separate mixtures `(B, N)` into sources `(B, K, N)`; `hooks` are the solver's callback and trace."""
        x = self.begin(problem, generators)
        return self.solver(problem, self.process(), x, generators=generators, **self.options, **hooks)


def recipe(preset: str = "paper", guidance: str | Rule = "hybrid", steps: int = 200, **options: Any) -> Recipe:
    """The recipe of a preset and a guidance setting.

    Args:
        preset: "paper" or "released".
        guidance: "hybrid", "DSG", "DPS" or "cqt" for the gradient solver, "analytical" for UnDiff's, in any case; or a
            rule of one's own for the gradient solver, see `guidance`.
        steps: T.
        options: win over the preset's. Those of the solver, and the keyword-only ones of `begin_of` and
            `guidance.rule` (gradient), `losses.loss_of` (gradient), and `process_of` (both).

    Raises:
        UserError: an unknown preset, guidance or option, a value out of range, or two that contradict each other.
    """
    if preset not in ("paper", "released"):
        raise UserError(f"There is no preset {preset!r} of the paper's solvers; choose paper or released.")
    known = isinstance(guidance, str) and guidance.lower() in (*GUIDANCES, "analytical")
    if not known and not callable(guidance):
        choice = alternatives([*GUIDANCES, "analytical"])
        raise UserError(f"There is no guidance {guidance!r}; choose {choice}.")
    solver = analytical if isinstance(guidance, str) and guidance.lower() == "analytical" else gradient
    given = checked(solver, options)
    chosen = {**(RELEASED[solver.__name__] if preset == "released" else {}), **given}
    whole = process_of(steps, **_take(chosen, process_of))
    if solver is analytical:
        return Recipe(analytical, chosen, whole, shared_noise=False)
    parts = _take(chosen, loss_of)
    if chosen.get("loss") is None:
        chosen["loss"] = loss_of(**parts)
    elif given.keys() & parts.keys():
        twice = sorted(given.keys() & parts.keys())[0]
        raise UserError(f"The options loss and {twice} contradict each other: leave one of them out.")
    constants = _take(chosen, rule)
    used = CONSTANTS[guidance.lower()] if isinstance(guidance, str) else ()
    if idle := sorted((given.keys() & constants.keys()) - set(used)):
        name = guidance.lower() if isinstance(guidance, str) else "of one's own"
        raise UserError(f"The guidance {name} has no constant {idle[0]}: leave it out, or choose another guidance.")
    chosen["guidance"] = rule(guidance, **constants) if isinstance(guidance, str) else guidance
    if chosen.get("clip") is not None and chosen["clip"] <= 0:
        raise UserError(f"The option clip of gradient is a number above 0; {chosen['clip']} does not fit.")
    start, run_all, shared = begin_of(preset, steps, **_take(chosen, begin_of))
    return Recipe(gradient, chosen, whole, start, run_all, shared)


def checked(solver: Callable[..., Tensor], options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of "gradient" or "analytical", and of everything that a recipe sets up for it.

    Raises:
        UserError: as `check_options`.
    """
    return check_options(solver, options, *((begin_of, rule, loss_of) if solver is gradient else ()), process_of)


def begin_of(
    preset: str,
    steps: int,
    *,
    start: Count | None = None,
    from_noise: bool = False,
    run_all: bool = False,
    shared_noise: bool = True,
) -> tuple[int | None, bool, bool]:
    """Where the gradient solver begins: `start`, `run_all` and `shared_noise` of its `Recipe`.

    Args:
        start: noise index the mixture starts at. By default the paper's t* = 150 of 200, counted from 1, that is 149,
            and the same fraction of other T; in the released code T - 1 - 50, which for T = 200 is the same.
        from_noise: start from noise instead of the mixture (Table 4, t* = 200).
        run_all, shared_noise: as in `Recipe`.

    Raises:
        UserError: a start that is not one of the T indices, or none to take as the default.
    """
    if from_noise:
        if start is not None:
            raise UserError("A run from noise has no start at the mixture: leave out one of start and from_noise.")
        return None, run_all, shared_noise
    if start is None and preset == "released" and steps <= RELEASED_LEAD:
        raise UserError(
            f"The released code starts {RELEASED_LEAD} steps before its last one and so needs more than "
            f"{RELEASED_LEAD} steps, not {steps}: take more, or say the noise index with the option start."
        )
    if start is None:
        at_last = steps - 1 - RELEASED_LEAD
        start = at_last if preset == "released" else max(0, round(steps * PAPER_START / 200) - 1)
    if not 0 <= start < steps:
        raise UserError(f"A process of {steps} steps has no step {start} to start from; choose 0 to {steps - 1}.")
    return start, run_all, shared_noise


def process_of(steps: int, *, beta_min: Positive = 1e-4, beta_max: Positive = 2e-2) -> VP:
    """The process of T = `steps`, β linear between the two.

    Raises:
        UserError: a range of β that is none.
    """
    if not 0 < beta_min <= beta_max < 1:
        raise UserError(f"beta_min and beta_max must be ascending and between 0 and 1, not {beta_min} and {beta_max}.")
    return vp_linear(steps, beta_min, beta_max)


def keeps_level(sources: Sequence[Source], preset: str, *, level: Literal["prior", "recording"] | None = None) -> bool:
    """Whether a mixture is solved at the level it has.

    Args:
        level: "recording": as it is; "prior": brought to the level of the priors' training. By default as it is in the
            released form with ε-networks, whose code takes the sum of the sources as it comes.
    """
    if level is not None:
        return level == "recording"
    return preset == "released" and any(hasattr(source.prior.denoiser, "levels") for source in sources)


def under(sources: Sequence[Source], process: VP) -> list[Source]:
    """The sources, their ε-networks told the steps of this process whatever they were trained with, see `vp`.

    The released code does so: with T = 60 a network trained with T = 200 hears of timestep 983 at step 59, although
    the noise there is that of step 108 of 200. Other denoisers are told noise levels and stay what they are.
    """
    # Sources of one prior, or of one network, keep sharing it.
    priors = {id(s.prior): s.prior for s in sources if hasattr(s.prior.denoiser, "under")}
    read: dict[int, Any] = {id(prior.denoiser): prior.denoiser for prior in priors.values()}
    read = {key: denoiser.under(process) for key, denoiser in read.items()}
    told = {key: replace(prior, denoiser=read[id(prior.denoiser)]) for key, prior in priors.items()}
    return [replace(source, prior=told.get(id(source.prior), source.prior)) for source in sources]


def _take(options: dict[str, Any], function: Callable[..., Any]) -> dict[str, Any]:
    """What of the options the keyword-only parameters of a function are, taken out of them."""
    return {name: options.pop(name) for name in options_of(function) if name in options}


def scale_of(sources: Sequence[Source]) -> float:
    """What the paper's noise levels are multiplied by for these priors, for their sources may be louder or softer.

    They are for sources of -22.5 dBFS. An ε-network was trained on the process itself: its levels stay what they are.
    """
    if any(hasattr(source.prior.denoiser, "levels") for source in sources):
        return 1.0
    return sum(source.prior.level for source in sources) / len(sources) / TYPICAL_LEVEL


def planned(solver: str, preset: str, options: Mapping[str, Any], steps: int) -> Recipe:
    """The recipe of "gradient" or "analytical" with the options that the pipeline knows for them.

    Args:
        options: those of `recipe`, for "gradient" `guidance`, and `level`, which is the pipeline's own affair.

    Raises:
        UserError: as `recipe`.
    """
    chosen = dict(options)
    guidance = chosen.pop("guidance", "hybrid") if solver == "gradient" else solver
    if solver == "gradient" and not callable(guidance) and str(guidance).lower() not in GUIDANCES:
        raise UserError(f"There is no guidance {guidance!r}; choose {alternatives(GUIDANCES)}.")
    function = gradient if solver == "gradient" else analytical
    check_options(function, {name: chosen.pop(name) for name in ("level",) if name in chosen}, keeps_level)
    # Before they become arguments, of which some have other meanings.
    return recipe(preset, guidance, steps, **checked(function, chosen))


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
        options: as for `planned`.
        scale: of the waveform, see `scale_of`; it is divided by this before and multiplied again after.

    Raises:
        UserError: as `planned`.
    """
    run = planned(solver, preset, options, steps)

    def denoise(x: Tensor, sigma: float) -> Tensor:
        return problem.denoise(scale * x, scale * sigma) / scale

    at_level = replace(problem, y=problem.y / scale, denoise=denoise, noise_std=problem.noise_std / scale)
    hooks = {name: hook for name, hook in (("callback", callback), ("trace", trace)) if hook}
    return scale * run(at_level, generators=generators, **hooks)


def seeded(count: int, seed: int = 0) -> list[torch.Generator]:
    """One generator per item, from neighbouring seeds that share nothing."""
    return [torch.Generator().manual_seed(seed * 1_000_003 + index) for index in range(count)]
