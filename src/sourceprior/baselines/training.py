"""Training of a supervised baseline: mixtures drawn on the fly from the training clips, SI-SDR, checkpoints.

Batch i depends on the seed and i only, and the learning rate on the step only, so that a run that was stopped goes on
to the same weights, bit for bit on one machine with one number of threads.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from sourceprior.baselines.supervised import CONFIG, WEIGHTS, alike, build, count
from sourceprior.datasets import Clip
from sourceprior.errors import UserError
from sourceprior.mixtures import TASKS, Drawer
from sourceprior.priors import fast_bfloat16
from sourceprior.training import average_over, read_checkpoint, same_origin, write_checkpoint

LIMIT_DB = 30.0
"""The loss rewards no more than this: a source that is solved must not outweigh those that are not."""
VALID_SEED = 1_000_000
"""Seed of the mixtures that training is watched with."""


@dataclass(frozen=True)
class Settings:
    """Everything that decides what a run computes; kept in its checkpoints.

    Attributes:
        kind, task, options: the network, see `supervised.build`.
        batch, seconds: mixtures of a step, and their length: the small Conv-TasNet hears half a second around a sample,
            so that longer ones only make the steps fewer.
        rate, warmup: learning rate, reached linearly over the first steps and kept.
        ema: averaging time of the weights as a share of the steps so far.
        speech_as: see `mixtures.SPEECH_AS`.
        precision: "bf16", where the machine multiplies that faster, or "fp32"; the loss is always single precision.
    """

    kind: str
    task: str
    options: dict[str, Any] = field(default_factory=dict)
    batch: int = 4
    seconds: float = 2.0
    rate: float = 1e-3
    warmup: int = 100
    ema: float = 0.1
    seed: int = 0
    sample_rate: int = 16000
    speech_as: str = "single"
    precision: str = "bf16"


def si_sdr_loss(stems: Tensor, sources: Tensor, keys: Sequence[Hashable], limit_db: float = LIMIT_DB) -> Tensor:
    """Negative SI-SDR in dB, mean over sources, of `(B, K, N)`, under the best permutation of equal keys: `(B,)`.

    The error is taken to be at least the target's energy less `limit_db`, so that nothing is gained beyond it.
    """
    table = []
    for k in range(sources.shape[1]):
        target = sources[:, k : k + 1]
        scale = (stems * target).sum(-1, keepdim=True) / target.square().sum(-1, keepdim=True).clamp_min(1e-12)
        wanted = scale * target
        signal, error = wanted.square().sum(-1), (stems - wanted).square().sum(-1)
        table.append(10 * torch.log10((signal + 1e-8) / (error + 10 ** (-limit_db / 10) * signal + 1e-8)))
    ratios = torch.stack(table, 1)  # (B, source, stem)
    orders = [
        order
        for order in itertools.permutations(range(len(keys)))
        if all(keys[k] == keys[j] for k, j in enumerate(order))
    ]
    means = [torch.stack([ratios[:, k, j] for k, j in enumerate(order)], 1).mean(1) for order in orders]
    return -torch.stack(means, 1).amax(1)


class Trainer:
    """Holds what a checkpoint holds; `run` trains until a number of minutes or steps in all.

    Args:
        clips: of the train split.
        root: folder of the clips.
        valid: clips to watch with; none is fine.
        folder: for `last.pt`, and for the model.
        origin: what the licence of the weights follows from; a run that goes on must have the same (`same_origin`).

    Raises:
        UserError: unknown kind or task, or too few classes or speakers.
    """

    def __init__(
        self, settings: Settings, clips: Sequence[Clip], root: Path, folder: Path, *, valid: Sequence[Clip] = (),
        device: torch.device | None = None, log: Callable[[str], None] = print,
        origin: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self.origin = dict(origin or {})
        self.settings, self.folder, self.log = settings, Path(folder), log
        self.device = device or torch.device("cpu")
        torch.manual_seed(settings.seed)
        self.network = build(settings.kind, settings.task, settings.options).to(self.device)
        self.average = AveragedModel(self.network, multi_avg_fn=average_over(settings.ema))
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=settings.rate)
        form: dict[str, Any] = {
            "seconds": settings.seconds,
            "sample_rate": settings.sample_rate,
            "speech_as": settings.speech_as,
        }
        self.drawer = Drawer(settings.task, clips, root, **form)
        self.valid = _drawer_or_none(settings.task, valid, root, form)
        speakers, sounds = TASKS[settings.task]
        self.keys = alike(["speech"] * speakers + ["other"] * sounds)
        if settings.precision not in ("bf16", "fp32"):
            raise UserError(f"The precision is bf16 or fp32, not {settings.precision!r}.")
        self.half = settings.precision == "bf16" and fast_bfloat16(self.device.type)
        self.step, self.elapsed = 0, 0.0

    def batch(self, number: int) -> Tensor:
        """Sources of the mixtures of a step, `(B, K, N)`."""
        size = self.settings.batch
        drawn = [self.drawer.sources(self.settings.seed, size * number + i) for i in range(size)]
        return torch.from_numpy(np.stack(drawn)).to(self.device)

    def train_step(self) -> float:
        """One step of the optimiser; the mean loss, which is minus the mean SI-SDR in dB."""
        sources = self.batch(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.rate * min(1.0, (self.step + 1) / self.settings.warmup)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            stems = self.network(sources.sum(1))
        loss = si_sdr_loss(stems.float(), sources, self.keys).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.optimizer.step()
        self.average.update_parameters(self.network)
        self.step += 1
        return float(loss.detach())

    def run(
        self, minutes: float, steps: float = math.inf, *, until: float = math.inf, save_every: float = 180.0,
        check_every: float = 600.0,
    ) -> None:  # fmt: skip
        """Train up to `minutes` or `steps` in all, or for `until` minutes of this call; writes checkpoints."""
        begin = saved = shown = checked = time.monotonic()
        losses: list[float] = []
        while self.elapsed < 60 * minutes and self.step < steps and time.monotonic() - begin < 60 * until:
            before = time.monotonic()
            losses.append(self.train_step())
            now = time.monotonic()
            self.elapsed += now - before
            if now - shown > 30:
                left = minutes - self.elapsed / 60
                self.log(
                    f"step {self.step}  SI-SDR {-np.mean(losses):.2f} dB  {(now - shown) / len(losses):.2f} s/step  "
                    f"{left:.0f} min left"
                )
                shown, losses = now, []
            if now - saved > save_every:
                self.save()
                saved = now
            if now - checked > check_every:
                self.log(f"step {self.step}  valid improvement {self.check():.2f} dB")
                checked = time.monotonic()
        self.save()

    @torch.no_grad()
    def check(self, mixtures: int = 16) -> float:
        """Mean improvement in SI-SDR of the averaged weights on mixtures of the valid split, dB; nan without one."""
        if self.valid is None:
            return float("nan")
        self.average.eval()
        gains = []
        for index in range(mixtures):
            sources = torch.from_numpy(self.valid.sources(VALID_SEED, index)).to(self.device)[None]
            mixture = sources.sum(1)
            before = si_sdr_loss(mixture[:, None].expand_as(sources), sources, self.keys)
            gains.append(float(before - si_sdr_loss(self.average(mixture), sources, self.keys)))
        self.average.train()
        return float(np.mean(gains))

    def save(self) -> None:
        """Write `last.pt` beside and rename, so that a kill leaves the previous one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        state = {
            "settings": asdict(self.settings), "network": self.network.state_dict(),
            "average": self.average.state_dict(), "optimizer": self.optimizer.state_dict(),
            "step": self.step, "elapsed": self.elapsed, "origin": self.origin,
        }  # fmt: skip
        write_checkpoint(state, self.folder / "last.pt")

    def resume(self) -> bool:
        """Go on from `last.pt` if there is one. Raises UserError if it was made with other settings or clips."""
        file = self.folder / "last.pt"
        if not file.is_file():
            return False
        state = read_checkpoint(file, self.device)
        if state is None:
            raise UserError(f"The checkpoint '{file}' is damaged: delete it to begin anew, or name another folder.")
        if state["settings"] != asdict(self.settings):
            changed = [name for name, value in asdict(self.settings).items() if state["settings"].get(name) != value]
            raise UserError(f"'{file}' was made with another {', '.join(changed)}: choose another folder.")
        self.origin = same_origin(file, state.get("origin", {}), self.origin)
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.elapsed = state["step"], state["elapsed"]
        return True

    def finish(self, data: dict[str, Any], improvement: float | None = None) -> None:
        """Write the averaged weights as a model, with a config that tells how they were made."""
        bad = self.drawer.bad
        if bad:
            self.log(f"{len(bad)} clips that cannot be read were left out, such as {next(iter(bad))}")
        weights = {name: value.cpu().contiguous() for name, value in self.average.module.state_dict().items()}
        # Not save_file, which makes files that nobody else may read.
        (self.folder / (WEIGHTS + ".part")).write_bytes(save(weights))
        os.replace(self.folder / (WEIGHTS + ".part"), self.folder / WEIGHTS)
        config = asdict(self.settings) | {
            "parameters": count(self.network), "steps": self.step, "minutes": round(self.elapsed / 60, 1),
            "mixtures seen": self.step * self.settings.batch, "data": data,
            "clips left out": len(bad), "valid improvement dB": improvement,
            "machine": f"{os.cpu_count()} cores" if self.device.type == "cpu" else torch.cuda.get_device_name(),
            "torch": torch.__version__,
        }  # fmt: skip
        (self.folder / CONFIG).write_text(json.dumps(config, indent=1) + "\n")


def _drawer_or_none(task: str, clips: Sequence[Clip], root: Path, form: dict[str, Any]) -> Drawer | None:
    try:
        return Drawer(task, clips, root, **form) if clips else None
    except UserError:
        # Too few clips to watch with are no reason not to train.
        return None
