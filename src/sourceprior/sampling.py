"""From one mixture at the prior's rate to its stems: level, noise levels, candidates, blocks, windows, solver.

The part of the pipeline that knows no files, channels, label names or rates; `separate` and `sourceprior evaluate` both
call it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sourceprior import candidates, voices
from sourceprior.absence import rivals_of, silence_absent
from sourceprior.blocks import Handover, Seam, cut
from sourceprior.conditioning import guided
from sourceprior.errors import Diverged, UserError, alternatives
from sourceprior.local_level import Energies, between
from sourceprior.memory import give_back
from sourceprior.mixture import Mixture
from sourceprior.pieces import Pieces, loudest
from sourceprior.priors import Source, joint, with_precision
from sourceprior.solver_choice import check_options, find_solver
from sourceprior.stft import N_FFT
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
        block: seconds that are solved at a time, four windows at least; memory grows with it, see `blocks`.
        batch: windows in flight; memory grows with it, the result does not depend on it.
        noise_db: level of what no source explains, dB of the mixture's; None: the sources explain everything.
        tell_apart: sources of one label become different parts of it where the prior knows some, see `voices`.
        label_scale: classifier-free guidance: 1 is the label alone, more exaggerates it, see `conditioning`.
        precision: of the networks, "float32" or "bfloat16"; None: what their priors say.
        form: of the paper's solvers, gradient and analytical: "paper", its text, or "released", its code. In the
            released form ε-networks are told the steps of this very process, see `presets.under`.
    """

    steps: int = 20
    candidates: int = 2
    sigma_max: float = 20.0
    sigma_min: float = 0.01
    solver: str = "posterior_mean"
    options: Mapping[str, Any] = field(default_factory=dict)
    segment: float = 8.0
    overlap: float = 0.25
    block: float = 38.0
    batch: int = 1
    noise_db: float | None = None
    tell_apart: bool = True
    label_scale: float = 1.0
    precision: str | None = None
    form: str = "paper"

    def __post_init__(self) -> None:
        """Raise UserError for settings out of range."""
        for name, low, high in [
            ("steps", 1, 1000),
            ("candidates", 1, 64),
            ("batch", 1, 1024),
            ("segment", 1, 600),
            ("overlap", 0, 0.5),
            ("block", 1, 3600),
            ("sigma_max", 0.01, 1000),
            ("sigma_min", 1e-5, self.sigma_max),
            ("label_scale", 0, 100),
        ]:
            if not low <= getattr(self, name) <= high:
                raise UserError(f"{name} must lie between {low} and {high}, not {getattr(self, name)}.")
        with_precision([], self.precision)
        if self.form not in ("paper", "released"):
            raise UserError(f"There is no form {self.form!r} of the paper's solvers; choose paper or released.")
        if self.noise_db is not None and not -100 <= self.noise_db <= 0:
            raise UserError(f"noise_db must lie between -100 and 0, not {self.noise_db}.")


NEAR_THE_MEAN: dict[str, Any] = {"temperature": 0.1, "start": "mixture", "profiles": 2}
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
OWN_PRESETS = {"gradient": ("paper", "released"), "analytical": ("paper", "released"), "dirac": ("msdm",)}
"""Presets of solvers that have some of their own, the usual one first; the others share what is left."""
NOISE_SOLVERS = ("posterior_mean",)
"""Solvers that leave what no source explains, down to a noise level."""


def settings_of(preset: str, **changes: Any) -> Settings:
    """A preset with the `changes` that are not None.

    Raises UserError for an unknown preset, solver or option, values out of range, or a change that the preset or the
    solver contradicts or would not heed.
    """
    given = {name: value for name, value in changes.items() if value is not None}
    preset = preset_of(preset, given.get("solver"))
    chosen = PRESETS[preset]
    # A preset's options are its solver's own; what the user gives wins over them.
    solver = given.get("solver", chosen.solver).replace("-", "_")
    own = chosen.options if solver == chosen.solver else {}
    settings = replace(chosen, **given | {"solver": solver, "options": {**own, **given.get("options", {})}})
    if settings.noise_db is not None and solver not in NOISE_SOLVERS:
        raise UserError(f"The solver {solver} knows no noise level; choose {alternatives(NOISE_SOLVERS)}.")
    if solver not in PAPER_SOLVERS:
        if "form" in given:
            raise UserError(f"The solver {solver} has no form; leave it out, or choose {alternatives(PAPER_SOLVERS)}.")
        check_options(find_solver(solver), settings.options)
        return settings
    from sourceprior.presets import planned

    for name in ("sigma_max", "sigma_min"):
        if name in given:
            raise UserError(f"The solver {solver} has the noise levels of its process: leave {name} out.")
    if settings.candidates > 1:
        raise UserError(f"The solver {solver} makes one run, not {settings.candidates}: leave the candidates out.")
    planned(solver, settings.form, settings.options, settings.steps)
    return settings


def preset_of(preset: str, solver: str | None = None) -> str:
    """The preset that counts where a solver is named as well: default and sample stand for the solver's own.

    Raises UserError for an unknown preset or solver, or a preset of another solver.
    """
    if preset not in PRESETS:
        raise UserError(f"There is no preset {preset!r}; choose {alternatives(list(PRESETS))}.")
    if solver is None:
        return preset
    name = find_solver(solver).__name__
    known = OWN_PRESETS.get(name) or [each for each in PRESETS if PRESETS[each].solver not in OWN_PRESETS]
    if preset in known:
        return preset
    if preset in ("default", "sample"):
        return known[0]
    raise UserError(
        f"The preset {preset} is not for the solver {name}: leave one of them out, or choose {alternatives(known)}."
    )


def check_sources(sources: Sequence[Source], settings: Settings, device: torch.device) -> None:
    """Raise UserError for priors that do not go together, or with these settings: before a recording is looked at."""
    guided(joint(with_precision(sources, settings.precision), device), sources, settings.label_scale, device)


def find_device(name: str) -> torch.device:
    """`auto`, `cpu`, `cuda` (or `cuda:1`) or `mps`. Raises UserError for one that this machine does not have."""
    cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    count = {"cuda": cuda, "mps": int(torch.backends.mps.is_available()), "cpu": 1}
    kind, colon, number = name.partition(":")
    if name == "auto":
        return torch.device(next(kind for kind, there in count.items() if there))
    if kind not in count:
        raise UserError(f"There is no device {name!r}; choose auto, cpu, cuda or mps.")
    # Not left to torch, which takes cuda:300 for cuda:44.
    if not count[kind] or (colon and number not in map(str, range(count[kind]))):
        raise UserError(f"The device {name!r} is not available on this machine; use --device auto.")
    return torch.device(name)


def training_device(name: str) -> torch.device:
    """`find_device` for training, which needs double precision here and there: not an Apple GPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    place = find_device(name)
    if place.type == "mps":
        raise UserError("Training needs numbers of 64 bits, which mps has not: use --device cpu.")
    return place


EXCERPT = 30.0
"""Seconds of a recording by which sources of one label are told apart."""


@dataclass(frozen=True)
class Overview:
    """What must be known of a whole mixture before its first block is solved.

    Attributes:
        length: samples.
        rms: linear.
        levels: RMS around every step of `step` samples, `(steps,)`, see `local_level`.
        excerpt: its loudest stretch of up to EXCERPT seconds, `(n,)`; sources of one label are told apart by that.
    """

    length: int
    rms: float
    levels: np.ndarray
    step: int
    excerpt: Tensor


@dataclass(frozen=True)
class Solved:
    """The next samples of all stems.

    Attributes:
        stems: `(K, n)`.
        spread: how far the candidates of their block lie apart, energy relative to the stem's, `(K,)`.
        sources: what they were taken for; of one label perhaps different parts of it, see `voices`.
    """

    stems: Tensor
    spread: Tensor
    sources: Sequence[Source]


def block_samples(settings: Settings, rate: int) -> int:
    """Samples that are solved at a time."""
    return round(max(settings.block, 4 * settings.segment) * rate)


def overview(pieces: Iterable[np.ndarray], rate: int) -> Overview:
    """Go through a mixture once that comes in pieces `(n,)` at `rate` Hz, the priors'."""
    energies = Energies(rate)

    def counted() -> Iterator[np.ndarray]:
        for piece in pieces:
            energies.add(piece)
            yield piece

    excerpt = torch.from_numpy(loudest(counted(), round(EXCERPT * rate), rate))
    rms = float(energies.sums().sum() / max(1, energies.length)) ** 0.5
    return Overview(energies.length, rms, energies.rms(), energies.step, excerpt)


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

    Beside the stems it returns how far the candidates lie apart, energy relative to the stem's, `(K,)`. It is
    `solve_pieces`, to which it leaves the rest.
    """
    seen = overview([y.numpy()], sources[0].prior.sample_rate)
    parts = list(solve_pieces([y.numpy()], seen, sources, settings, seed=seed, device=device, callback=callback))
    energy = torch.stack([part.stems.square().sum(1) for part in parts])
    spread = (energy * torch.stack([part.spread for part in parts])).sum(0) / energy.sum(0).clamp_min(1e-20)
    return torch.cat([part.stems for part in parts], dim=1), parts[0].spread if len(parts) == 1 else spread


def solve_pieces(
    pieces: Iterable[np.ndarray],
    whole: Overview,
    sources: Sequence[Source],
    settings: Settings,
    *,
    seed: int = 0,
    device: torch.device | None = None,
    callback: Progress | None = None,
) -> Iterator[Solved]:
    """Separate a mixture at the priors' sample rate that comes in pieces `(n,)`; stems come in pieces, too.

    The stems add up to it, but for what `settings.noise_db` lets them leave.

    The mixture is scaled so that a typical source has the level the priors were trained at, and the stems are scaled
    back. In a recording of several windows that level is the one around each moment, and a source that is absent for
    some seconds is silent there (`absence`). With a noise level, which is one for the whole, the level is one, too.
    None of this is done where the paper's solvers take the mixture at its own level, see `presets.keeps_level`.
    Same seed, same stems; the noise is drawn on the CPU, so that this does not depend on the device. A mixture
    longer than `settings.block` is solved in blocks, and no more than one of them is in memory.

    Raises UserError for an unknown solver, or an option it does not have.
    """
    device = device or torch.device("cpu")
    sources = with_precision(sources, settings.precision)
    solver = find_solver(settings.solver)
    options, untouched = settings.options, False
    if settings.solver in PAPER_SOLVERS:
        from sourceprior.presets import keeps_level, planned, under

        run = planned(settings.solver, settings.form, options, settings.steps)
        untouched = keeps_level(sources, settings.form, level=options.get("level"))
        if settings.form == "released":
            sources = under(sources, run.whole)
    else:
        options = check_options(solver, options)
    level = float(np.mean([source.prior.level for source in sources]))
    rate = sources[0].prior.sample_rate
    loud = level * len(sources) ** 0.5
    several = whole.length > round(settings.segment * rate)
    noise_std = 0.0 if settings.noise_db is None else loud * 10 ** (settings.noise_db / 20)

    def gain_of(start: int, stop: int) -> Tensor:
        if untouched:
            return torch.ones(())
        if several and settings.noise_db is None:
            return loud / between(whole.levels, whole.step, start, stop).clamp_min(1e-12)
        return torch.tensor(loud / max(whole.rms, 1e-12))

    def problem_of(chosen: Sequence[Source], y: Tensor) -> Mixture:
        denoise = joint(chosen, device)
        labelled = guided(denoise, chosen, settings.label_scale, device)
        windows = windowed(labelled, round(settings.segment * rate), settings.overlap, settings.batch)
        return Mixture(y.to(device, torch.float32)[None], windows, len(chosen), denoise.spectra, noise_std)

    if settings.tell_apart:
        excerpt = whole.excerpt * (loud / max(float(whole.excerpt.square().mean().sqrt()), 1e-12))
        sources = voices.tell_apart(sources, lambda chosen: problem_of(chosen, excerpt), level, seed)
    shared = round(max(settings.segment / 2, 1.0) * rate)
    places = cut(whole.length, block_samples(settings, rate), shared)

    heard, seam, handover, y = Pieces(pieces), Seam(shared), None, np.zeros(0, np.float32)
    for index, (start, stop) in enumerate(places):

        def progress(step: int, steps: int, *_: Any, index: int = index) -> None:
            if callback:
                callback(index * steps + step + 1, len(places) * steps)

        last = index == len(places) - 1
        y = np.concatenate([y[len(y) - shared :] if index else y, heard.take(stop - start - (shared if index else 0))])
        handover = Handover(handover, shared, last)
        gain = gain_of(start, stop)
        problem = problem_of(sources, torch.from_numpy(y) * gain)
        with torch.no_grad():
            stems, apart = _solve_block(
                problem, sources, settings, solver, options, level, handover, generator(seed, index), progress
            )
        stems = finite(stems, settings.solver)
        if several and not untouched:
            stems = silence_absent(stems, problem, level, rate, rivals_of(sources), seed)
        if not untouched:
            stems = stems.masked_fill(torch.from_numpy(still(y)).to(stems.device), 0.0)
        del problem
        give_back()
        # Runs may name sources that are alike in another order in the next block.
        order = partial(candidates.align, alike=_alike(sources)) if settings.candidates > 1 else None
        yield Solved(seam.add(stems.cpu() / gain, last, order), apart.cpu(), sources)


def _solve_block(
    problem: Mixture,
    sources: Sequence[Source],
    settings: Settings,
    solver: Callable[..., Tensor],
    options: Mapping[str, Any],
    level: float,
    handover: Handover,
    noise: torch.Generator,
    callback: Callable[..., None],
) -> tuple[Tensor, Tensor]:
    """Stems `(K, N)` of one block at the priors' level, and how far candidates lie apart, `(K,)`."""
    denoisers = [source.prior.denoiser for source in sources]
    if settings.solver in PAPER_SOLVERS:
        from sourceprior.presets import paper_solver, scale_of

        # The released form of `analytical` scales every block to its own peak: only the noise can be shared.
        own_scale = settings.solver == "analytical" and settings.form == "released"
        with frozen(denoisers):
            stems = paper_solver(
                problem if own_scale else handover.problem(problem),
                settings.solver,
                settings.form,
                options,
                steps=settings.steps,
                scale=scale_of(sources),
                generators=[handover.noise(noise)],
                callback=callback,
            )[0]
        return stems, torch.zeros(len(stems))
    (answer,) = candidates.run(
        problem,
        noise_levels(denoisers, settings.steps, settings.sigma_min * level, settings.sigma_max * level),
        handover.solver(solver),
        generators=[noise],
        count=settings.candidates,
        alike=_alike(sources),
        callback=callback,
        **options,
    )
    return answer.stems, answer.spread


def still(y: np.ndarray) -> np.ndarray:
    """Which samples of a mixture `(N,)` lie among zeros that are longer than a frame: there are no sources there."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], (y == 0).astype(np.int8), [0]])))
    inside = np.zeros(len(y), bool)
    for start, stop in edges.reshape(-1, 2):
        inside[start:stop] = stop - start > N_FFT
    return inside


def finite(stems: Tensor, solver: str) -> Tensor:
    """The stems. Raises Diverged where the solver's options made it."""
    if not bool(stems.isfinite().all()):
        raise Diverged(f"The solver {solver} diverged with these options: choose shorter steps, or more of them.")
    return stems


def _alike(sources: Sequence[Source]) -> list[tuple[int, int]]:
    """A key per source; those with equal keys cannot be told apart by their priors."""
    return [(id(source.prior), source.index) for source in sources]


def generator(seed: int, block: int = 0) -> torch.Generator:
    """The generator of a seed and a block; neighbouring ones share nothing."""
    entropy = (seed, block) if block else seed
    state = np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))
