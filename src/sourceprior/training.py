"""Training of a source prior: one loop, resumable, in one process or many, on whatever device there is."""

from __future__ import annotations

import math
import os
import pickle
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from sourceprior import processes
from sourceprior.datasets import ClipBank
from sourceprior.errors import UserError, out_of_memory
from sourceprior.objectives import LEVEL, draw_sigma, loss_of, measure_spectra, objective_of, real
from sourceprior.optimizers import average_over, average_with, optimizers
from sourceprior.priors import fast_bfloat16
from sourceprior.rolling import Rolling

__all__ = ["LEVEL", "Settings", "Trainer", "average_over", "draw_sigma", "loss_of", "measure_spectra", "real"]

CHANGEABLE = (
    "labels", "steps", "minutes", "accumulate", "precision", "compile", "leave", "check_minutes", "check_clips",
)  # fmt: skip
"""Settings that a run may go on with other values of; the others decide its data, and its card tells of one value."""
AGREE = 8
"""Steps after which several processes agree on the time."""
VALID_EXAMPLES, VALID_BATCH = 64, 8


@dataclass
class Settings:
    """Everything that decides what a run computes; kept in its checkpoints, filled from a recipe (`recipes`).

    Attributes:
        labels: rows of the prior.
        backbone: file of `sourceprior.networks`; which objective it is trained for follows from it (`objectives`).
        network: its options.
        negatives: what shows the network that a source is absent (`examples`); ε-networks take none.
        shared_spectrum: one average spectrum for all classes.
        augment: other playback rates, polarities, colours.
        playback, colour: range of the playback rates (of their logarithm, to both sides), and dB of the equaliser.
        dropout: share of what a network recognises that is left out at each step (`conv_unet`).
        levels: range of an example's RMS, dB full scale.
        null_share: examples whose label is left out, so that "anything" is learned.
        grow: a run that starts from a prior may have labels that the prior lacks.
        batch: examples of one step of all processes together.
        drawn: examples that are drawn with one seed, 0 for all of a batch; a process draws what it needs of them, so
            several processes do the same work as one only if this is at most the batch of one.
        accumulate: parts a process cuts its batch into, to save memory.
        seconds: length of an example.
        steps, minutes: length of the run and of its cosine decay, whichever ends first.
        rate, warmup, decay: highest learning rate, steps until it is reached, and "cosine" (down to 2 %) or "none".
        optimizer, weight_decay, beta2: see `optimizers`.
        clip: largest norm of the gradient.
        ema: averaging time of the weights as a share of the steps so far; ``ema_decay`` of the usual kind wins over it.
        precision: "bf16" (autocast), where the machine is quicker with it, or "fp32".
        sigma_centre, sigma_spread: of the noise levels of a spectral denoiser, see `draw_sigma`.
        memory: GB that decoded clips may take; more data than that goes through memory in turns (`rolling`).
        leave: which checkpoint becomes the prior, "last" or "best".
        check_minutes, check_clips: between checks on the valid split, and clips of each of them.
    """

    labels: tuple[str, ...]
    backbone: str = "conv_unet"
    negatives: str = "spliced"
    shared_spectrum: bool = False
    augment: bool = True
    playback: float = 0.13
    colour: float = 3.0
    dropout: float = 0.0
    levels: tuple[float, float] = (-27.0, -18.0)
    null_share: float = 0.15
    grow: bool = False
    batch: int = 32
    drawn: int = 0
    accumulate: int = 1
    seconds: float = 2.0
    steps: int = 100_000
    minutes: float = 60.0
    optimizer: str = "muon"
    rate: float = 2e-3
    warmup: int = 200
    decay: str = "cosine"
    weight_decay: float = 0.02
    beta2: float = 0.98
    clip: float = 1.0
    ema: float = 0.1
    ema_decay: float = 0.0
    precision: str = "bf16"
    sigma_centre: float = 1.0
    sigma_spread: float = 1.5
    memory: float = 4.0
    leave: str = "last"
    check_minutes: float = 15.0
    check_clips: int = 32
    seed: int = 0
    compile: bool = True
    network: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise UserError for values out of range."""
        for name, low in (
            ("batch", 1),
            ("accumulate", 1),
            ("drawn", 0),
            ("steps", 0),
            ("warmup", 1),
            ("check_clips", 1),
        ):
            if getattr(self, name) < low:
                raise UserError(f"{name} is at least {low}, not {getattr(self, name)}.")
        for name in ("minutes", "rate", "seconds", "clip", "memory", "ema", "sigma_centre", "check_minutes"):
            if not getattr(self, name) > 0:
                raise UserError(f"{name} is more than 0, not {getattr(self, name)}.")
        for name, words in (
            ("optimizer", ("muon", "adamw")),
            ("decay", ("cosine", "none")),
            ("precision", ("bf16", "fp32")),
            ("leave", ("last", "best")),
            ("negatives", ("none", "whole", "spliced")),
        ):
            if getattr(self, name) not in words:
                raise UserError(f"{name} is {' or '.join(words)}, not '{getattr(self, name)}'.")
        for name, high in (("playback", 0.69), ("colour", 20.0)):
            if not 0 <= getattr(self, name) <= high:
                raise UserError(f"{name} is between 0 and {high}, not {getattr(self, name)}.")
        for name in ("weight_decay", "sigma_spread", "seed"):
            if not 0 <= getattr(self, name) < 2**31:
                raise UserError(f"{name} is at least 0 and less than {2**31}, not {getattr(self, name)}.")
        for name in ("null_share", "ema_decay", "dropout", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"{name} is at least 0 and less than 1, not {getattr(self, name)}.")
        numbers = [isinstance(level, int | float) and not isinstance(level, bool) for level in self.levels]
        if numbers != [True, True] or not self.levels[0] <= self.levels[1] <= 0:
            raise UserError(f"levels are two, in dB full scale, the lower one first, not {self.levels}.")
        if self.drawn and self.batch % self.drawn:
            raise UserError(f"A batch of {self.batch} is no multiple of {self.drawn} examples drawn together.")


def need_tensorboard() -> None:
    """Raise UserError unless the package that a run's curves are drawn by is there."""
    if find_spec("tensorboard") is None:
        raise UserError("Training draws its curves by tensorboard, which is missing: pip install 'sourceprior[train]'.")


def write_checkpoint(state: dict[str, Any], file: Path) -> None:
    """Write a checkpoint beside its place, down to the disk, and rename: a kill or a power cut leaves a whole one."""
    part = file.with_name(f"{file.name}.part")
    with part.open("wb") as stream:
        torch.save(state, stream)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(part, file)


def read_checkpoint(file: Path, device: torch.device | str) -> dict[str, Any] | None:
    """What `write_checkpoint` wrote; None for a file that is missing, empty, cut short or something else."""
    try:
        state = torch.load(file, map_location=device, weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError) as error:
        if out_of_memory(error):
            raise
        return None
    return state if isinstance(state, dict) and {"settings", "step", "elapsed"} <= state.keys() else None


def same_origin(file: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """What the licence of a run's weights follows from: as its checkpoint says, else as given now.

    Args:
        before: of the checkpoint `file`; empty in those of earlier versions, which say nothing.
        now: of the call that is to go on; empty where it does not say.

    Raises:
        UserError: they differ, so that the card would not tell of all that the weights have seen.
    """
    for name, value in now.items():
        if before and before.get(name) != value:
            raise UserError(
                f"'{file}' is of a run with another {name} ({_told(before.get(name))}, not {_told(value)}): go on with "
                "the data and the options that it began with, or train into another folder."
            )
    return dict(before or now)


def _plain(value: Any) -> Any:
    """A setting as it is compared: what was a tuple may have come back as a list."""
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _told(value: Any) -> str:
    text = ", ".join(f"{name}: {count}" for name, count in value.items()) if isinstance(value, dict) else value
    return text or "none"


def set_dropout(denoiser: nn.Module, share: float) -> None:
    """Have every dropout layer leave out this share. Raises UserError for a network that has none."""
    layers = [module for module in denoiser.modules() if isinstance(module, nn.Dropout)]
    if share and not layers:
        raise UserError("This network has no dropout: leave it 0.")
    for layer in layers:
        layer.p = share


class Bank(Protocol):
    """Where clips come from: a `ClipBank`, which holds all of them, or one that holds some at a time."""

    def at(self, number: int) -> ClipBank:
        """The clips that batch ``number`` is drawn from; depends on nothing but the number."""


Batch = tuple[Tensor, ...]


class Ahead:
    """Batches drawn ahead of a GPU by threads, each on a stream of its own: the same batches, without waiting for them.

    Examples are drawn with random numbers of the CPU, and every copy of them to the GPU waits for what it has in hand:
    within the training loop that would leave the GPU idle while the CPU draws, and the CPU while the GPU computes.

    Args:
        draw: number of a batch -> batch, depending on nothing else.
        device: where the batches are; the CPU has threads but no streams.
        threads: batches in preparation.
    """

    def __init__(self, draw: Callable[[int], Batch], device: torch.device, threads: int = 6) -> None:
        self.draw, self.device, self.threads = draw, device, threads
        self.pool, self.local = ThreadPoolExecutor(threads), threading.local()
        self.pending: dict[int, Future] = {}

    def __call__(self, number: int) -> Batch:
        """The batch of that number, usable on the current stream; the next ones are begun."""
        for later in range(number, number + self.threads):
            if later not in self.pending:
                self.pending[later] = self.pool.submit(self._draw, later)
        batch, ready = self.pending.pop(number).result()
        if ready is not None:
            stream = torch.cuda.current_stream(self.device)
            stream.wait_event(ready)
            # Their memory belongs to the thread's stream, which must not reuse it before this stream is done.
            for tensor in batch:
                tensor.record_stream(stream)
        return batch

    def _draw(self, number: int) -> tuple[Batch, torch.cuda.Event | None]:
        if self.device.type != "cuda":
            return self.draw(number), None
        if not hasattr(self.local, "stream"):
            self.local.stream = torch.cuda.Stream(self.device)
            self.local.stream.wait_stream(torch.cuda.default_stream(self.device))
        with torch.cuda.stream(self.local.stream):
            return self.draw(number), self.local.stream.record_event()


class Trainer:
    """Holds what a checkpoint holds; ``run`` trains until the settings' end or ``until`` seconds of this call.

    Args:
        bank: training clips, own and other, on the device to train on.
        folder: where checkpoints and tensorboard curves go.
        init: a denoiser to start from, with the rows of the settings' labels.
        valid: clips that the validation loss is measured on.
        group: this process among those of the run.
        origin: what decides the licence of the weights (`runs.origin_of`), kept in checkpoints; see `same_origin`.

    Raises:
        UserError: the batch cannot be cut into equal parts for the processes.
    """

    def __init__(
        self,
        settings: Settings,
        bank: Bank,
        folder: Path,
        init: Any = None,
        log: Callable[[str], None] = print,
        valid: ClipBank | None = None,
        group: processes.Alone | None = None,
        origin: Mapping[str, Any] | None = None,
    ) -> None:
        self.origin = dict(origin or {})
        self.settings, self.bank, self.folder, self.valid = settings, bank, Path(folder), valid
        self.group = group or processes.Alone()
        parts = self.group.count * settings.accumulate
        if settings.batch % parts:
            raise UserError(f"A batch of {settings.batch} cannot be cut into {parts} equal parts: choose a multiple.")
        self.log = log if self.group.rank == 0 else lambda text: None
        first = bank.at(0)
        self.device, self.sample_rate = first.wave.device, first.sample_rate
        # Processors without bfloat16 arithmetic take fifty times as long for it as for single precision.
        self.half = settings.precision == "bf16" and fast_bfloat16(self.device.type)
        if self.device.type == "cuda":
            # Every step has the same shapes: worth a search for the fastest convolutions.
            torch.backends.cudnn.benchmark = True
            torch.set_float32_matmul_precision("high")
        self.ahead = Ahead(self.batch, self.device) if self.device.type == "cuda" else None
        self.objective = objective_of(settings)
        measured = bank.typical() if isinstance(bank, Rolling) else first
        spectra = measure_spectra(measured, settings.labels, shared=settings.shared_spectrum)
        del measured
        self.denoiser: Any = self.objective.denoiser(spectra) if init is None else init.to(self.device)
        if settings.steps:
            self.denoiser.average.copy_(spectra)
        set_dropout(self.denoiser, settings.dropout)
        self.averaging = average_with(settings.ema_decay) if settings.ema_decay else average_over(settings.ema)
        # What is saved and checked leaves nothing out.
        self.average = AveragedModel(self.denoiser, multi_avg_fn=self.averaging).eval()
        self.optimizers = optimizers(
            self.denoiser.network, settings.optimizer, settings.rate, settings.weight_decay, settings.beta2
        )
        self.step, self.elapsed = 0, 0.0
        self.best, self.last_valid, self.best_step = math.inf, math.nan, 0
        loss = self.objective.loss
        self.loss = torch.compile(loss, dynamic=False) if settings.compile else loss

    @property
    def precision(self) -> str:
        """What products are computed in: "bf16" or "fp32"."""
        return "bf16" if self.half else "fp32"

    @property
    def progress(self) -> float:
        """Share of the run that is done, 0 to 1."""
        s = self.settings
        return 1.0 if self.step >= s.steps else min(1.0, max(self.step / s.steps, self.elapsed / (60 * s.minutes)))

    def rate(self) -> float:
        """Learning rate: linear warm-up, then, unless it is to stay, a cosine down to 2 %."""
        s = self.settings
        rate = s.rate * min(1.0, (self.step + 1) / s.warmup)
        return rate * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * self.progress))) if s.decay == "cosine" else rate

    def batch(self, number: int) -> Batch:
        """This process's examples of one step: its share of the rows, of which it draws no more than it has to."""
        s = self.settings
        drawn = s.drawn or s.batch
        share = s.batch // self.group.count
        begin, end = self.group.rank * share, (self.group.rank + 1) * share
        first, last = begin // drawn, -(-end // drawn)
        bank = self.bank.at(number)
        parts = [
            self.objective.draw(bank, drawn, s.seed * 1_000_003 + number * (s.batch // drawn) + k)
            for k in range(first, last)
        ]
        whole = parts[0] if len(parts) == 1 else tuple(torch.cat(same) for same in zip(*parts, strict=True))
        if end - begin == len(whole[0]):
            return whole
        return tuple(tensor[begin - first * drawn : end - first * drawn] for tensor in whole)

    def losses(self, denoiser: Any, batch: Batch) -> Tensor:
        """Loss of each example (B,), in the precision of the run."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            return self.loss(denoiser, *batch)

    def train_step(self) -> Tensor:
        """One step of the optimiser; the mean loss of all processes (not yet waited for)."""
        batch = self.ahead(self.step) if self.ahead else self.batch(self.step)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.rate()
        if self.settings.dropout:
            # What is left out depends on the step only, as examples do: a resumed run is the undisturbed one.
            torch.manual_seed((self.settings.seed * 1_000_003 + self.step) * self.group.count + self.group.rank)
        parts = self.settings.accumulate
        total = None
        for part in zip(*(tensor.chunk(parts) for tensor in batch), strict=True):
            loss = self.losses(self.denoiser, part).mean() / parts
            loss.backward()
            total = loss.detach() if total is None else total + loss.detach()
        assert total is not None
        self.group.average_gradients(self.denoiser.parameters())
        nn.utils.clip_grad_norm_(self.denoiser.parameters(), self.settings.clip)
        for optimizer in self.optimizers:
            optimizer.step()
        self.denoiser.zero_grad(set_to_none=True)
        self.update_average()
        self.step += 1
        return self.group.mean(total)

    @torch.no_grad()
    def update_average(self) -> None:
        """What AveragedModel.update_parameters computes; that one waits for the GPU, as it takes its count there."""
        averages: list[Tensor] = list(self.average.module.parameters())
        current: list[Tensor] = list(self.denoiser.parameters())
        count = int(self.average.n_averaged)
        if count:
            self.averaging(averages, current, count)
        else:
            torch._foreach_copy_(averages, current)
        self.average.n_averaged += 1

    def run(
        self,
        until: float = math.inf,
        save_every: float = 180.0,
        check: Callable[[Any], dict[str, float]] | None = None,
        save_steps: int = 0,
    ) -> dict[str, float]:
        """Train, with a checkpoint every ``save_every`` seconds and ``check`` of the averaged weights now and then.

        Args:
            until: seconds after which this call ends; another goes on.
            check: gives figures of a denoiser; called by the first process alone.
            save_steps: if not 0, a checkpoint after every so many steps, too.

        Returns:
            The figures of the last check.
        """
        need_tensorboard()
        from torch.utils.tensorboard import SummaryWriter

        writer = SummaryWriter(str(self.folder / "curves"), purge_step=self.step) if self.group.rank == 0 else None
        begin, base, spent, clock = time.monotonic(), self.elapsed, 0.0, 0.0
        saved = checked = shown = 0.0
        running: list[Tensor] = []
        figures: dict[str, float] = {}
        while self.progress < 1 and clock < until:
            before = time.monotonic()
            running.append(self.train_step())
            spent += time.monotonic() - before
            if self.group.count == 1:
                self.elapsed, clock = base + spent, time.monotonic() - begin
            elif self.step % AGREE == 0:
                # The learning rate follows the time: every process has to think it the same.
                taken, clock = self.group.agree([spent, time.monotonic() - begin])
                self.elapsed = base + taken
            if clock - shown > 20:
                mean = torch.stack(running).mean().item()
                left = self.elapsed * (1 / max(self.progress, 1e-6) - 1)
                self.log(
                    f"step {self.step}  loss {mean:.4f}  rate {self.rate():.1e}  {self.progress:.1%}  "
                    f"{(clock - shown) / len(running):.2f} s/step  {left / 60:.0f} min left"
                )
                if writer:
                    writer.add_scalar("loss/train", mean, self.step)
                    writer.add_scalar("rate", self.rate(), self.step)
                shown, running = clock, []
            if clock - saved > save_every or (save_steps and self.step % save_steps == 0):
                self.save()
                saved = clock
            if clock - checked > 60 * self.settings.check_minutes:
                figures = self.report(check, writer)
                checked = self.group.agree([time.monotonic() - begin])[0]
        self.save()
        figures = self.report(check, writer)
        if writer:
            writer.close()
        return figures

    def report(self, check: Callable[[Any], dict[str, float]] | None, writer: Any) -> dict[str, float]:
        """Log the validation loss, keep the checkpoint if it is the best, and log what ``check`` returns."""
        if self.group.rank:
            return {}
        figures = check(self.averaged()) if check else {}
        for name, value in figures.items():
            writer.add_scalar(name, value, self.step)
        if figures:
            self.log(f"step {self.step}  " + "  ".join(f"{name} {value:.2f}" for name, value in figures.items()))
        if self.valid is not None:
            self.last_valid = self.valid_loss()
            writer.add_scalar("loss/valid", self.last_valid, self.step)
            best = self.last_valid < self.best
            self.log(f"step {self.step}  valid loss {self.last_valid:.4f}" + ("  (best so far)" if best else ""))
            if best:
                self.best = self.last_valid
                self.save("best.pt")
        return figures

    @torch.no_grad()
    def valid_loss(self) -> float:
        """Loss of the averaged weights on examples of the valid split, always the same ones."""
        assert self.valid is not None
        losses = []
        for k in range(VALID_EXAMPLES // VALID_BATCH):
            batch = self.objective.draw(self.valid, VALID_BATCH, 900_000_000 + k)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
                losses.append(self.objective.loss(self.averaged(), *batch))
        return float(torch.cat(losses).mean())

    def averaged(self) -> Any:
        """The denoiser with averaged weights."""
        return self.average.module

    def save(self, name: str = "last.pt") -> None:
        """Write a checkpoint beside and rename, so that a kill leaves the previous one; the first process does."""
        if self.group.rank:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        state = {
            "settings": asdict(self.settings) | {"labels": list(self.settings.labels)},
            "denoiser": self.denoiser.state_dict(), "average": self.average.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "step": self.step, "elapsed": self.elapsed, "best": self.best, "origin": self.origin,
        }  # fmt: skip
        write_checkpoint(state, self.folder / name)

    def take_best(self) -> bool:
        """Have the averaged weights of the best checkpoint, if this run kept one: that of another may lie there."""
        state = read_checkpoint(self.folder / "best.pt", self.device)
        if state is None or state.get("origin", self.origin) != self.origin:
            return False
        self.average.load_state_dict(state["average"])
        self.best_step, self.last_valid = state["step"], state["best"]
        # What the card tells of.
        self.step, self.elapsed = state["step"], state["elapsed"]
        return True

    def resume(self, name: str = "last.pt") -> bool:
        """Go on from a checkpoint of the folder if there is one; from the best one where the last one is damaged.

        Raises:
            UserError: it is of a run with other labels or clips, another network, optimiser or prior to start from, or
                none can be read.
        """
        file, best = self.folder / name, self.folder / "best.pt"
        self.group.wait()
        if not file.is_file():
            return False
        state = read_checkpoint(file, self.device)
        newest = read_checkpoint(best, "cpu") or state
        if state is None:
            state = read_checkpoint(best, self.device)
            if state is None:
                raise UserError(f"The checkpoint '{file}' is damaged: delete it to begin anew, or name another folder.")
            self.log(f"'{file}' is damaged: going on from '{best}'")
        if list(state["settings"]["labels"]) != list(self.settings.labels):
            raise UserError(f"'{file}' is of a run with other labels: train into another folder.")
        for setting in fields(self.settings):
            before, now = (_plain(held.get(setting.name)) for held in (state["settings"], asdict(self.settings)))
            changeable = CHANGEABLE if isinstance(self.bank, Rolling) else (*CHANGEABLE, "memory")
            if setting.name not in changeable and setting.name in state["settings"] and before != now:
                raise UserError(
                    f"'{file}' is of a run with {setting.name} = {before}, not {now}: call it as it was begun, or "
                    "train into another folder."
                )
        self.origin = same_origin(file, state.get("origin", {}), self.origin)
        try:
            self.denoiser.load_state_dict(state["denoiser"])
            self.average.load_state_dict(state["average"])
            for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
        except (RuntimeError, ValueError) as error:
            raise UserError(f"'{file}' is of a run with another network: train into another folder.") from error
        self.step, self.elapsed = state["step"], state["elapsed"]
        # The best one knows best how good it is: it may be newer than the last. Earlier versions kept none.
        self.best = (newest or state).get("best", math.inf)
        return True
