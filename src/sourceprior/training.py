"""Training of a source prior: one loop, resumable, on whatever single device there is."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from sourceprior.datasets import SPOKEN, ClipBank
from sourceprior.denoisers import FEATURES, OUTPUTS, SpectralDenoiser
from sourceprior.examples import NULL, ExampleMaker, Examples
from sourceprior.networks.conv_unet import ConvUNet
from sourceprior.stft import BINS, stft

LEVEL = 10 ** (-22.5 / 20)
"""RMS of a typical source, linear: the middle of the training levels."""


@dataclass
class Settings:
    """Everything that decides what a run computes; kept in its checkpoints.

    ``steps`` or ``minutes`` of training, whichever ends first, set the length of the cosine decay. ``ema`` is the
    averaging time of the weights as a share of the steps so far.
    """

    labels: tuple[str, ...]
    negatives: str = "spliced"
    shared_spectrum: bool = False
    batch: int = 32
    seconds: float = 2.0
    steps: int = 100_000
    minutes: float = 60.0
    optimizer: str = "muon"
    rate: float = 2e-3
    warmup: int = 200
    weight_decay: float = 0.02
    ema: float = 0.1
    sigma_centre: float = 1.0
    sigma_spread: float = 1.5
    seed: int = 0
    compile: bool = True
    network: dict = field(default_factory=dict)


def measure_spectra(bank: ClipBank, labels: Sequence[str], draws: int = 96, shared: bool = False) -> Tensor:
    """Average power per STFT bin of each label (labels, 513) at the training level; "anything" is all sounds' mean.

    Smoothed over frequency and drawn a little towards the mean of all, as some classes have a handful of clips.
    With ``shared``, every row is that mean.
    """
    rows = []
    for i, label in enumerate(labels):
        wanted = [name for name in bank.labels if name not in SPOKEN] if label == NULL else [label]
        g = torch.Generator().manual_seed(i)
        clips = torch.multinomial(bank.weights(wanted).cpu(), draws, replacement=True, generator=g)
        wave = bank.render(clips.to(bank.wave.device), 4 * bank.sample_rate, g) * LEVEL
        rows.append(stft(wave).abs().square().mean((0, 2)))
    power = torch.stack(rows)
    # Averaging over a sixth of an octave: single partials of a few clips are not the class.
    bins = torch.arange(BINS, device=power.device)
    near = (torch.log2((bins[:, None] + 2.0) / (bins[None] + 2.0)).abs() < 1 / 12).float()
    power = power @ (near / near.sum(1, keepdim=True)).T
    mean = power.mean(0, keepdim=True)
    power = mean.expand_as(power) if shared else 0.95 * power + 0.05 * mean
    return (power + 1e-4 * power.mean(1, keepdim=True)).contiguous()


def new_denoiser(settings: Settings, spectra: Tensor) -> SpectralDenoiser:
    """An untrained denoiser: the Wiener filter of each class."""
    torch.manual_seed(settings.seed)
    network = ConvUNet(FEATURES, OUTPUTS, classes=len(settings.labels), **settings.network)
    denoiser = SpectralDenoiser(network, spectra, LEVEL)
    return denoiser.to(spectra.device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def loss_of(denoiser: SpectralDenoiser, signal: Tensor, target: Tensor, noise: Tensor, sigma: Tensor, label: Tensor,
            has_other: Tensor) -> Tensor:  # fmt: skip
    """Weighted squared error per example (B,) of STFTs given as (B, 2, 513, T); a class's Wiener filter has about 0.5.

    EDM's weight 1/c_out^2 per bin would spend the network on bins far below the source's loudest, which no listener and
    no SI-SDR hears: c_out^2 of the bin plus its mean over the bins. With a negative in the example the error at low
    noise is the other source itself, not noise: a share of the example's own power keeps its weight from growing there.
    """
    clean, _ = denoiser.denoise_bins(signal + sigma[:, None, None, None] * noise, sigma, label)
    power, variance = denoiser.spectrum(label), sigma.square()[:, None]
    out = power * variance / (power + variance)
    energy = signal.square().sum(1).mean((1, 2))
    floor = out.mean(1, keepdim=True) + (0.2 * energy * has_other)[:, None]
    error = (clean - target).square().sum(1)
    return (error / (out + floor)[:, :, None]).mean((1, 2))


def real(spectrum: Tensor) -> Tensor:
    """Complex (B, F, T) -> (B, 2, F, T)."""
    return torch.view_as_real(spectrum).permute(0, 3, 1, 2)


def draw_sigma(settings: Settings, count: int, g: torch.Generator) -> Tensor:
    """ln sigma ~ N(ln(centre x level), spread^2), kept within 0.01 to 40 x level, stratified over the batch."""
    quantile = (torch.arange(count) + torch.rand(count, generator=g)) / count
    normal = math.sqrt(2) * torch.erfinv((2 * quantile - 1).clamp(-0.9999, 0.9999))
    sigma = settings.sigma_centre * torch.exp(settings.sigma_spread * normal)
    return (sigma.clamp(0.01, 40) * LEVEL)[torch.randperm(count, generator=g)]


def average_over(share: float) -> Callable:
    """Running average of weights over the last ``share`` of all steps (Karras et al. 2024, power-function EMA).

    A fixed decay is too long for the first steps, keeping the untrained network alive, or too short for the last.
    """

    @torch.no_grad()
    def update(averages: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
        torch._foreach_lerp_(averages, current, 1 / (share * float(count) + 1))

    return update


class MatrixMuon(torch.optim.Muon):
    """torch's Muon for convolution weights as well: each is seen as a matrix (out, everything else) of its storage."""

    def __init__(self, weights: Sequence[torch.nn.Parameter], **options) -> None:
        self.weights = list(weights)
        super().__init__([torch.nn.Parameter(as_matrix(w.data)) for w in self.weights], **options)

    @torch.no_grad()
    def step(self, closure=None):  # type: ignore[override]
        matrices = [p for group in self.param_groups for p in group["params"]]
        for weight, matrix in zip(self.weights, matrices, strict=True):
            matrix.grad = None if weight.grad is None else as_matrix(weight.grad)
        return super().step(closure)


def as_matrix(weight: Tensor) -> Tensor:
    """(out, in, kh, kw) -> (out, kh kw in): a view of weights in channels-last order."""
    return weight.permute(0, 2, 3, 1).reshape(len(weight), -1)


def optimizers(denoiser: SpectralDenoiser, settings: Settings) -> list[torch.optim.Optimizer]:
    """Muon for the hidden convolutions, AdamW for the rest (first and last layer, embeddings, modulation, biases)."""
    hidden: list[torch.nn.Parameter] = []
    decay: list[torch.nn.Parameter] = []
    plain: list[torch.nn.Parameter] = []
    for name, p in denoiser.network.named_parameters():
        if p.ndim == 4 and settings.optimizer == "muon" and not name.startswith(("stem", "out")):
            hidden.append(p)
        else:
            (decay if p.ndim > 1 else plain).append(p)
    groups = [{"params": decay, "weight_decay": settings.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    out: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, lr=settings.rate, betas=(0.9, 0.98), fused=True)]
    if hidden:
        out.append(MatrixMuon(hidden, lr=settings.rate, weight_decay=settings.weight_decay,
                              adjust_lr_fn="match_rms_adamw"))  # fmt: skip
    return out


class Ahead:
    """Batches drawn ahead of a GPU by threads, each on a stream of its own: the same batches, without waiting for them.

    Examples are drawn with random numbers of the CPU, and every copy of them to the GPU waits for what it has in hand:
    within the training loop that would leave the GPU idle while the CPU draws, and the CPU while the GPU computes.

    Args:
        draw: number of a batch -> batch, depending on nothing else.
        device: where the batches are; the CPU has threads but no streams.
        threads: batches in preparation.
    """

    def __init__(
        self, draw: Callable[[int], tuple[Examples, Tensor, Tensor]], device: torch.device, threads: int = 6
    ) -> None:
        self.draw, self.device, self.threads = draw, device, threads
        self.pool, self.local = ThreadPoolExecutor(threads), threading.local()
        self.pending: dict[int, Future] = {}

    def __call__(self, number: int) -> tuple[Examples, Tensor, Tensor]:
        """The batch of that number, usable on the current stream; the next ones are begun."""
        for later in range(number, number + self.threads):
            if later not in self.pending:
                self.pending[later] = self.pool.submit(self._draw, later)
        (examples, noise, sigma), ready = self.pending.pop(number).result()
        if ready is not None:
            stream = torch.cuda.current_stream(self.device)
            stream.wait_event(ready)
            # Their memory belongs to the thread's stream, which must not reuse it before this stream is done.
            for tensor in (*vars(examples).values(), noise, sigma):
                tensor.record_stream(stream)
        return examples, noise, sigma

    def _draw(self, number: int) -> tuple[tuple[Examples, Tensor, Tensor], torch.cuda.Event | None]:
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
        init: state dict of a denoiser to start from (rows of labels it knows are taken over by name).
    """

    def __init__(
        self,
        settings: Settings,
        bank: ClipBank,
        folder: Path,
        init: SpectralDenoiser | None = None,
        log: Callable[[str], None] = print,
    ) -> None:
        self.settings, self.bank, self.folder, self.log = settings, bank, Path(folder), log
        self.device = bank.wave.device
        if self.device.type == "cuda":
            # Every step has the same shapes: worth a search for the fastest convolutions.
            torch.backends.cudnn.benchmark = True
            torch.set_float32_matmul_precision("high")
        self.ahead = Ahead(self.batch, self.device) if self.device.type == "cuda" else None
        self.maker = ExampleMaker(bank, settings.labels, settings.negatives, settings.seconds)
        spectra = measure_spectra(bank, settings.labels, shared=settings.shared_spectrum)
        self.denoiser = new_denoiser(settings, spectra) if init is None else init.to(self.device)
        if settings.steps:
            self.denoiser.average.copy_(spectra)
        self.average = AveragedModel(self.denoiser, multi_avg_fn=average_over(settings.ema))
        self.optimizers = optimizers(self.denoiser, settings)
        self.step, self.elapsed = 0, 0.0
        self.loss = torch.compile(loss_of, dynamic=False) if settings.compile else loss_of

    @property
    def progress(self) -> float:
        """Share of the run that is done, 0 to 1."""
        s = self.settings
        return 1.0 if self.step >= s.steps else min(1.0, max(self.step / s.steps, self.elapsed / (60 * s.minutes)))

    def rate(self) -> float:
        """Learning rate: linear warm-up, then a cosine down to 2 %."""
        s = self.settings
        return (
            s.rate
            * min(1.0, (self.step + 1) / s.warmup)
            * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * self.progress)))
        )

    def batch(self, number: int) -> tuple[Examples, Tensor, Tensor]:
        """Examples, noise STFT (unit) and sigma of one step."""
        s = self.settings
        seed = s.seed * 1_000_003 + number
        examples = self.maker.draw(s.batch, seed)
        g = torch.Generator().manual_seed(seed + 500_000_000)
        shape = (s.batch, self.maker.samples)
        if self.device.type == "cuda":
            # Millions of normal numbers, drawn by one core, would take longer than all the rest of the step.
            on_device = torch.Generator(self.device).manual_seed(seed + 500_000_000)
            noise = torch.randn(shape, generator=on_device, device=self.device)
        else:
            noise = torch.randn(shape, generator=g).to(self.device)
        return examples, stft(noise), draw_sigma(s, s.batch, g).to(self.device)

    def train_step(self) -> Tensor:
        """One step of the optimiser; the mean loss (not yet waited for)."""
        examples, noise, sigma = self.ahead(self.step) if self.ahead else self.batch(self.step)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.rate()
        with torch.autocast(self.device.type, torch.bfloat16):
            losses = self.loss(self.denoiser, real(examples.signal), real(examples.target), real(noise), sigma,
                               examples.label, examples.has_other)  # fmt: skip
        loss = losses.mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.denoiser.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        self.denoiser.zero_grad(set_to_none=True)
        self.update_average()
        self.step += 1
        return loss.detach()

    @torch.no_grad()
    def update_average(self) -> None:
        """What AveragedModel.update_parameters computes; that one waits for the GPU, as it takes its count there."""
        averages: list[Tensor] = list(self.average.module.parameters())
        current: list[Tensor] = list(self.denoiser.parameters())
        count = int(self.average.n_averaged)
        if count:
            average_over(self.settings.ema)(averages, current, count)
        else:
            torch._foreach_copy_(averages, current)
        self.average.n_averaged += 1

    def run(
        self,
        until: float = math.inf,
        save_every: float = 180.0,
        check_every: float = 900.0,
        check: Callable[[SpectralDenoiser], dict[str, float]] | None = None,
    ) -> dict[str, float]:
        """Train, with a checkpoint every ``save_every`` seconds and ``check`` of the averaged weights now and then.

        Returns the figures of the last check.
        """
        from torch.utils.tensorboard import SummaryWriter

        writer = SummaryWriter(str(self.folder / "curves"), purge_step=self.step)
        begin = saved = checked = shown = time.monotonic()
        running: list[Tensor] = []
        while self.progress < 1 and time.monotonic() - begin < until:
            before = time.monotonic()
            running.append(self.train_step())
            now = time.monotonic()
            self.elapsed += now - before
            if now - shown > 20:
                mean = torch.stack(running).mean().item()
                left = self.elapsed * (1 / max(self.progress, 1e-6) - 1)
                self.log(
                    f"step {self.step}  loss {mean:.4f}  rate {self.rate():.1e}  {self.progress:.1%}  "
                    f"{(now - shown) / len(running):.2f} s/step  {left / 60:.0f} min left"
                )
                writer.add_scalar("loss/train", mean, self.step)
                shown, running = now, []
            if now - saved > save_every:
                self.save()
                saved = now
            if check and now - checked > check_every:
                self.report(check, writer)
                checked = time.monotonic()
        self.save()
        figures = self.report(check, writer) if check else {}
        writer.close()
        return figures

    def report(self, check: Callable[[SpectralDenoiser], dict[str, float]], writer) -> dict[str, float]:
        """Log the figures that ``check`` returns for the averaged weights."""
        figures = check(self.averaged())
        for name, value in figures.items():
            writer.add_scalar(name, value, self.step)
        self.log(f"step {self.step}  " + "  ".join(f"{name} {value:.2f}" for name, value in figures.items()))
        return figures

    def averaged(self) -> SpectralDenoiser:
        """The denoiser with averaged weights."""
        return cast(SpectralDenoiser, self.average.module)

    def save(self) -> None:
        """Write ``last.pt`` beside and rename, so that a kill leaves the previous one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        state = {
            "settings": asdict(self.settings) | {"labels": list(self.settings.labels)},
            "denoiser": self.denoiser.state_dict(), "average": self.average.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "step": self.step, "elapsed": self.elapsed,
        }  # fmt: skip
        torch.save(state, self.folder / "last.pt.part")
        os.replace(self.folder / "last.pt.part", self.folder / "last.pt")

    def resume(self) -> bool:
        """Go on from ``last.pt`` if there is one."""
        file = self.folder / "last.pt"
        if not file.is_file():
            return False
        state = torch.load(file, map_location=self.device, weights_only=True)
        self.denoiser.load_state_dict(state["denoiser"])
        self.average.load_state_dict(state["average"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step, self.elapsed = state["step"], state["elapsed"]
        return True
