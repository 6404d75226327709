"""A new source from a few clips: a class of its own in a prior that stays what it was.

The new class has an average spectrum, an embedding and a small change of the network's weights (`networks/adapted.py`).
It learns as the priors did: its own clips, cut together with clips of other sources that are to be denoised to silence
(`examples.py`). Those come from a small bank in the package, as somebody with a folder of clips has no others. It stops
when clips that were held out are denoised no better.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sourceprior import training
from sourceprior.adapters import Learned, base_network, check_name, extend, learned_of, new_class
from sourceprior.datasets import Clip, ClipBank
from sourceprior.denoisers import SpectralDenoiser
from sourceprior.errors import UserError
from sourceprior.examples import NULL, ExampleMaker, Examples
from sourceprior.labels import folded, meant_by
from sourceprior.networks.adapted import EMBEDDING
from sourceprior.packs import read_clips, reader
from sourceprior.priors import BUNDLED, SourcePrior, fast_bfloat16
from sourceprior.stft import stft

NEGATIVES = BUNDLED / "negatives"
"""A pack of a few seconds of every class and of many speakers; benchmarks/negatives.py makes it."""

WATCHED = (0.3, 5.0)
"""Noise levels of held-out examples, in multiples of a source's level."""

Progress = Callable[[int, int, float, float], None]
"""Called as progress(steps done, most steps, loss on held-out clips, most seconds left)."""


@dataclass(frozen=True)
class Settings:
    """How a class learns; docs/learning.md says how the figures were chosen.

    Attributes:
        rank: of the change of every convolution; 0: none, -1: every weight is free.
        biases: whether every bias may shift.
        steps, minutes: the most there are; the time limit alone makes a result depend on the machine's speed.
        batch, seconds: examples of a step, and their length.
        rate: learning rate, after a warm-up of 20 steps.
        check, patience: the held-out clips are looked at every `check` steps, and it ends after `patience` looks
            without a better one.
        average: averaging time of the weights as a share of the steps so far.
        shrink: how far the average spectrum is drawn to that of all known sources.
        same_as: known labels that are the same kind of sound: their clips are not shown as other sounds.
        held_out: share of the clips that decide when to stop, and are reported on.
        seed: of everything that is drawn.
    """

    rank: int = 16
    biases: bool = True
    steps: int = 600
    minutes: float = 8.0
    batch: int = 8
    seconds: float = 2.0
    rate: float = 4e-3
    check: int = 25
    patience: int = 4
    average: float = 0.2
    shrink: float = 0.1
    held_out: float = 0.2
    seed: int = 0
    same_as: tuple[str, ...] = ()


@dataclass(frozen=True)
class Piece:
    """Up to some seconds of one clip: mono int16 samples at the prior's rate."""

    file: str
    wave: np.ndarray
    licence: str = ""


@dataclass
class Result:
    """What `learn_class` returns.

    Attributes:
        prior: the prior that knows the class.
        steps, best: steps done, and the one whose weights were kept (0: those it began with).
        seconds: taken.
        losses: (step, loss on held-out clips) of every look.
        began_as: the known class whose embedding it began with.
    """

    prior: SourcePrior
    steps: int
    best: int
    seconds: float
    began_as: str
    losses: list[tuple[int, float]] = field(default_factory=list)


def hold_out(pieces: Sequence[Piece], share: float, seed: int) -> tuple[list[Piece], list[Piece]]:
    """Pieces to learn from, and those held out: whole files where there are enough, else the end of the only ones.

    Raises UserError for fewer than two pieces.
    """
    files = list(dict.fromkeys(piece.file for piece in pieces))
    if len(pieces) < 2:
        raise UserError("There is too little to learn from: record at least two clips, better ten.")
    if len(files) < 4:
        count = max(1, round(share * len(pieces)))
        return list(pieces[:-count]), list(pieces[-count:])
    order = torch.randperm(len(files), generator=torch.Generator().manual_seed(seed)).tolist()
    held = {files[i] for i in order[: max(1, round(share * len(files)))]}
    return [p for p in pieces if p.file not in held], [p for p in pieces if p.file in held]


def others_of(name: str, split: str, negatives: Path = NEGATIVES, same_as: Sequence[str] = ()) -> list[Clip]:
    """Clips of a split of a bank that are of other sources: neither `name`, nor what it is an alias of, nor `same_as`.

    Raises UserError where the bank cannot be read.
    """
    same = set().union(*map(meant_by, (name, *same_as)))
    return [clip for clip in read_clips(negatives, split, "any") if folded(clip.label) not in same]


def bank_of(
    name: str, pieces: Sequence[Piece], split: str, sample_rate: int, negatives: Path = NEGATIVES,
    same_as: Sequence[str] = (),
) -> ClipBank:  # fmt: skip
    """The class's clips and those of one split of a bank of others ("train" or "valid").

    Raises UserError where the bank cannot be read, or has another sample rate.
    """
    own = {Path(f"{piece.file}#{i}"): piece for i, piece in enumerate(pieces)}
    clips = [
        Clip(path, split, name, "", piece.licence, len(piece.wave) / sample_rate) for path, piece in own.items()
    ]  # fmt: skip
    others = others_of(name, split, negatives, same_as)
    read_other = reader(negatives, split)

    def read(path: Path, rate: int) -> np.ndarray:
        return own[path].wave if path in own else read_other(path, rate)

    labels = sorted({clip.label for clip in others})
    return ClipBank([*clips, *others], (name, *labels), sample_rate, read=read)


@dataclass(frozen=True)
class Batch:
    """Examples with their noise: STFTs (B, 513, T) and sigma (B,)."""

    examples: Examples
    noise: Tensor
    sigma: Tensor


class Examiner:
    """Draws batches of one class from a bank; batch number n is always the same."""

    def __init__(self, bank: ClipBank, name: str, settings: Settings, augment: bool = True) -> None:
        self.settings, self.drawn = settings, training.Settings(labels=(name,))
        self.maker = ExampleMaker(bank, (name,), seconds=settings.seconds, augment=augment)

    def batch(self, number: int, count: int) -> Batch:
        """Batch `number` of `count` examples."""
        seed = self.settings.seed * 1_000_003 + number
        g = torch.Generator().manual_seed(seed + 500_000_000)
        examples = self.maker.draw(count, seed)
        noise = torch.randn(count, self.maker.samples, generator=g)
        return Batch(examples, stft(noise), training.draw_sigma(self.drawn, count, g))

    def watch(self, count: int = 3) -> list[Batch]:
        """Batches for looking how far it is, at the noise levels where sources are told apart.

        Below them a clip that is taken for another source, if only in part, costs so much that it decides the mean.
        """
        low, high = (math.log(ratio) for ratio in WATCHED)
        batches = [self.batch(number, self.settings.batch) for number in range(count)]
        g = torch.Generator().manual_seed(self.settings.seed)
        place = torch.rand(count, self.settings.batch, generator=g) * (high - low) + low
        return [replace(batch, sigma=training.LEVEL * row.exp()) for batch, row in zip(batches, place, strict=True)]


def losses_of(denoiser: SpectralDenoiser, batch: Batch, row: int) -> Tensor:
    """The training loss (B,) of a batch under the class of a row."""
    e = batch.examples
    with torch.autocast("cpu", torch.bfloat16, enabled=fast_bfloat16("cpu")):
        return training.loss_of(
            denoiser, training.real(e.signal), training.real(e.target), training.real(batch.noise), batch.sigma,
            torch.full_like(e.label, row), e.has_other,
        )  # fmt: skip


def nearest_class(prior: SourcePrior, spectrum: Tensor, batch: Batch, tried: int = 8) -> tuple[str, Tensor]:
    """The known class whose embedding (condition,) suits examples best, with the spectrum of the new class.

    "anything" and the classes of the most similar spectrum are tried.
    """
    known = len(prior.labels) - len(learned_of(prior))
    average = prior.denoiser.average[:known]  # type: ignore[index]
    far = (average.log() - spectrum.log()).sub_((average.log() - spectrum.log()).mean(1, keepdim=True)).square().sum(1)
    order = far.argsort().tolist()
    if NULL in prior.labels[:known]:
        order = [prior.index(NULL), *(i for i in order if i != prior.index(NULL))]
    table = base_network(prior).get_parameter(EMBEDDING).detach()
    trial = extend(prior, Learned("new class", *new_class(prior, 0, False, table[0], 0), spectrum, {}))
    scores = {}
    for i in order[:tried]:
        with torch.no_grad():
            trial.denoiser.network.learned[-1].embedding.copy_(table[i])  # type: ignore
            scores[i] = float(losses_of(trial.denoiser, batch, len(prior.labels)).mean())  # type: ignore[arg-type]
    best = min(scores, key=scores.__getitem__)
    return prior.labels[best], table[best].clone()


def learn_class(
    prior: SourcePrior,
    name: str,
    own: Sequence[Piece],
    held: Sequence[Piece],
    settings: Settings | None = None,
    *,
    negatives: Path = NEGATIVES,
    progress: Progress | None = None,
) -> Result:
    """Teach a prior one class more, from pieces of its clips and held-out ones.

    Deterministic for a seed on one machine, unless the time limit ends it.

    Raises UserError for a name the prior has, or a prior of another kind or rate than the bank of other sounds.
    """
    settings = settings or Settings()
    check_name(name, prior.labels)
    if not isinstance(prior.denoiser, SpectralDenoiser):
        raise UserError(f"'{prior.name}' is a prior of another kind, which cannot learn further sources.")
    began = time.monotonic()
    bank = bank_of(name, own, "train", prior.sample_rate, negatives, settings.same_as)
    spectrum = measure_spectrum(bank, name, prior, settings.shrink)
    examiner = Examiner(bank, name, settings)
    began_as, embedding = nearest_class(prior, spectrum, examiner.batch(900_000, settings.batch))
    options, state = new_class(prior, settings.rank, settings.biases, embedding, settings.seed)
    made = extend(prior, Learned(name, options, state, spectrum, {}))
    row = made.index(name)
    denoiser: Any = made.denoiser
    module: Any = denoiser.network.learned[-1]
    denoiser.requires_grad_(False)
    module.requires_grad_(True)
    watched = bank_of(name, held, "valid", prior.sample_rate, negatives, settings.same_as)
    control = Examiner(watched, name, settings, augment=False)
    parameters = list(module.parameters())
    steps, best, losses = descend(denoiser, row, parameters, examiner, control.watch(), settings, began, progress)
    # Rounded as the file will be, so that what is reported is what is kept.
    kept = {key: value.half().float() for key, value in module.state_dict().items()}
    item = Learned(name, options, kept, spectrum, {})
    return Result(extend(prior, item), steps, best, time.monotonic() - began, began_as, losses)


def measure_spectrum(bank: ClipBank, name: str, prior: SourcePrior, shrink: float) -> Tensor:
    """Average power per STFT bin (513,) of a class at the training level, drawn a little to that of all others."""
    own = training.measure_spectra(bank, (name,), draws=48)[0]
    return (1 - shrink) * own + shrink * prior.denoiser.average.mean(0)  # type: ignore[operator]


def descend(
    denoiser: SpectralDenoiser,
    row: int,
    parameters: list[torch.nn.Parameter],
    examiner: Examiner,
    watch: Sequence[Batch],
    settings: Settings,
    began: float,
    progress: Progress | None = None,
    optimizers: Sequence[torch.optim.Optimizer] | None = None,
) -> tuple[int, int, list[tuple[int, float]]]:
    """Train until held-out examples are denoised no better; the averaged weights of the best look are left.

    Args:
        row: class of the examples.
        parameters: what is trained.
        watch: held-out batches.
        began: time (monotonic) from which the settings' minutes count.
        optimizers: of the parameters; by default one AdamW.

    Returns:
        steps done, the best one, and (step, held-out loss) of every look.
    """
    if optimizers is None:
        optimizers = [torch.optim.AdamW(parameters, lr=settings.rate, betas=(0.9, 0.98), weight_decay=0.0)]
    average = [p.detach().clone() for p in parameters]
    update = training.average_over(settings.average)

    def look() -> float:
        """Held-out loss of the averaged weights, the current ones put back afterwards."""
        current = [p.detach().clone() for p in parameters]
        put(parameters, average)
        with torch.no_grad():
            loss = float(torch.cat([losses_of(denoiser, batch, row) for batch in watch]).mean())
        put(parameters, current)
        return loss

    looking = time.monotonic()
    losses = [(0, look())]
    # Time for a last look is kept: steps that nobody has looked at since are no use.
    limit, step = 60 * settings.minutes - (time.monotonic() - looking), 0
    best, kept = losses[0], [a.clone() for a in average]
    over = time.monotonic() - began >= limit
    while step < settings.steps and not over:
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"] = settings.rate * min(1.0, (step + 1) / 20)
        loss = losses_of(denoiser, examiner.batch(step, settings.batch), row).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for optimizer in optimizers:
            optimizer.step()
        for parameter in parameters:
            parameter.grad = None
        update(average, [p.detach() for p in parameters], step)
        step += 1
        over = time.monotonic() - began >= limit
        if step % settings.check == 0 or step == settings.steps or over:
            losses.append((step, look()))
            if losses[-1][1] < best[1]:
                best, kept = losses[-1], [a.clone() for a in average]
            elif step - best[0] >= settings.check * settings.patience:
                break
        if progress:
            passed = time.monotonic() - began
            left = min(limit - passed, passed / step * (settings.steps - step))
            progress(step, settings.steps, losses[-1][1], max(0.0, left))
    put(parameters, kept)
    return step, best[0], losses


@torch.no_grad()
def put(parameters: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    """Copy values into parameters."""
    for parameter, value in zip(parameters, values, strict=True):
        parameter.copy_(value)
