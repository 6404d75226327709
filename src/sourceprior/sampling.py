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

from sourceprior import candidates, voices
from sourceprior.conditioning import guided
from sourceprior.errors import UserError, alternatives
from sourceprior.mixture import Mixture
from sourceprior.priors import Source, joint
from sourceprior.solver_choice import check_options, find_solver
from sourceprior.vp import frozen, noise_levels
from sourceprior.windows import windowed

Progress = Callable[[int, int], None]
"""Called as callback(steps done, steps in all) after every step."""


@dataclass(frozen=True)
class Settings:
    """How to solve; every field is an option of the command line or of `separate`.

    Attributes:
        steps: noise levels, each one denoising of every source (two with a second-order method).
        candidates: runs from different noise, in antithetic pairs z and -z, of which `candidates.combine` makes one
            answer.
        sigma_max, sigma_min: first and last noise level in units of the level of a typical source; narrowed to what
            the priors were trained at where that is known.
        solver: a file and function of `sourceprior.solvers`.
        options: the solver's own options.
        segment: seconds of a window; longer recordings are denoised in overlapping windows.
        overlap: part of a window that it shares with the next.
        batch: windows in flight; memory grows with it, the result does not depend on it.
        noise_db: level of what no source explains, dB of the mixture's; None: the sources explain everything.
        tell_apart: sources of one label become different parts of it where the prior knows some, see `voices`.
        label_scale: classifier-free guidance: 1 is the label alone, more exaggerates it, see `conditioning`.
        form: of the paper's solvers, gradient and analytical: "paper", its text, or "released", its code.
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
    noise_db: float | None = None
    tell_apart: bool = True
    label_scale: float = 1.0
    form: str = "paper"

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
            ("label_scale", 0, 100),
        ]:
            if not low <= getattr(self, name) <= high:
                raise UserError(f"{name} must lie between {low} and {high}, not {getattr(self, name)}.")
        if self.noise_db is not None and not -100 <= self.noise_db <= 0:
            raise UserError(f"noise_db must lie between -100 and 0, not {self.noise_db}.")


NEAR_THE_MEAN: dict[str, Any] = {"temperature": 0.1, "start": "mixture"}
"""Options of posterior_mean that gave the best SI-SDR on valid mixtures, see docs/experiments.md."""
PRESETS = {
    "fast": Settings(steps=4, candidates=1, sigma_max=2.0, sigma_min=0.1, options=NEAR_THE_MEAN),
    "default": Settings(steps=8, candidates=1, sigma_max=4.0, options=NEAR_THE_MEAN),
    "best": Settings(steps=16, candidates=4, sigma_max=4.0, options=NEAR_THE_MEAN),
    "sample": Settings(),
    "paper": Settings(steps=200, candidates=1, solver="gradient"),
    "msdm": Settings(steps=150, candidates=1, solver="dirac"),
    "released": Settings(steps=200, candidates=1, solver="gradient", form="released"),
}
PAPER_SOLVERS = ("gradient", "analytical")
"""Solvers with noise levels and a start of their own, see `presets`."""
NOISE_SOLVERS = ("posterior_mean",)
"""Solvers that leave what no source explains, down to a noise level."""


def settings_of(preset: str, **changes: Any) -> Settings:
    """A preset with the `changes` that are not None. Raises UserError for an unknown preset or values out of range."""
    if preset not in PRESETS:
        raise UserError(f"There is no preset {preset!r}; choose {alternatives(list(PRESETS))}.")
    if changes.get("solver") in PAPER_SOLVERS and PRESETS[preset].solver not in PAPER_SOLVERS:
        preset = "paper"
    if changes.get("solver") == "dirac" and PRESETS[preset].solver != "dirac":
        preset = "msdm"
    given = {name: value for name, value in changes.items() if value is not None}
    chosen = PRESETS[preset]
    # A preset's options are its solver's own; what the user gives wins over them.
    own = chosen.options if given.get("solver", chosen.solver) == chosen.solver else {}
    return replace(chosen, **given | {"options": {**own, **given.get("options", {})}})


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
) -> tuple[Tensor, Tensor]:
    """Separate one mixture `(N,)` at the priors' sample rate into `(K, N)` on the CPU.

    The stems add up to it, but for what `settings.noise_db` lets them leave.

    Beside the stems it returns how far the candidates lie apart, energy relative to the stem's, `(K,)`.

    The mixture is scaled so that a typical source has the level the priors were trained at, and the stems are scaled
    back. Same seed, same stems; the noise is drawn on the CPU, so that this does not depend on the device.

    Raises UserError for an unknown solver, an option it does not have, or a noise level it does not know.
    """
    device = device or torch.device("cpu")
    solver = find_solver(settings.solver)
    options = settings.options
    if settings.solver not in PAPER_SOLVERS:
        options = check_options(solver, options)
    if settings.noise_db is not None and solver.__name__ not in NOISE_SOLVERS:
        raise UserError(f"The solver {solver.__name__} knows no noise level; choose {alternatives(NOISE_SOLVERS)}.")
    level = float(np.mean([source.prior.level for source in sources]))
    segment = round(settings.segment * sources[0].prior.sample_rate)
    gain = level * len(sources) ** 0.5 / max(float(y.double().square().mean().sqrt()), 1e-12)

    scaled = (y * gain).to(device, torch.float32)[None]
    noise_std = 0.0 if settings.noise_db is None else level * len(sources) ** 0.5 * 10 ** (settings.noise_db / 20)

    def problem_of(chosen: Sequence[Source]) -> Mixture:
        denoise = joint(chosen, device)
        labelled = guided(denoise, chosen, settings.label_scale, device)
        whole = windowed(labelled, segment, settings.overlap, settings.batch)
        return Mixture(scaled, whole, len(chosen), denoise.spectra, noise_std)

    if settings.tell_apart:
        sources = voices.tell_apart(sources, problem_of, level, seed)
    problem = problem_of(sources)
    denoisers = [source.prior.denoiser for source in sources]
    sigmas = noise_levels(denoisers, settings.steps, settings.sigma_min * level, settings.sigma_max * level)

    def progress(step: int, steps: int, *_: Any) -> None:
        if callback:
            callback(step + 1, steps)

    if settings.solver in PAPER_SOLVERS:
        from sourceprior.presets import paper_solver, scale_of

        with torch.no_grad(), frozen(denoisers):
            stems = paper_solver(
                problem,
                settings.solver,
                settings.form,
                options,
                steps=settings.steps,
                scale=scale_of(sources),
                generators=[generator(seed)],
                callback=progress,
            )[0]
        return finite(stems, settings.solver).cpu() / gain, torch.zeros(len(sources))

    with torch.no_grad():
        (answer,) = candidates.run(
            problem,
            sigmas,
            solver,
            generators=[generator(seed)],
            count=settings.candidates,
            alike=[(id(source.prior), source.index) for source in sources],
            callback=progress,
            **options,
        )
    return finite(answer.stems, settings.solver).cpu() / gain, answer.spread.cpu()


def finite(stems: Tensor, solver: str) -> Tensor:
    """The stems. Raises UserError where the solver's options made it diverge."""
    if not bool(stems.isfinite().all()):
        raise UserError(f"The solver {solver} diverged with these options: choose shorter steps, or more of them.")
    return stems


def generator(seed: int) -> torch.Generator:
    """The generator of a seed; neighbouring seeds share nothing."""
    state = np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))
