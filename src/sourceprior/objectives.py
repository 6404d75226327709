"""What a network is trained to do: the two readings of a denoiser, each with its examples and its loss.

    Spectral   a network of features of a spectrogram, such as conv_unet: EDM with a class's spectrum, negatives
    Noise      an ε-network, such as attention_unet or diffwave: the noise in a variance-preserving state (the paper)

Which of them a backbone is for shows in its class: an ε-network says by its attribute `condition` what it is told.
"""

from __future__ import annotations

import importlib
import inspect
import math
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from sourceprior.datasets import SPOKEN, ClipBank
from sourceprior.denoisers import FEATURES, OUTPUTS, SpectralDenoiser
from sourceprior.errors import UserError
from sourceprior.examples import NULL, ExampleMaker
from sourceprior.schedules import vp_linear
from sourceprior.stft import BINS, stft
from sourceprior.vp import VPDenoiser, training_target

if TYPE_CHECKING:
    from sourceprior.training import Settings

LEVEL = 10 ** (-22.5 / 20)
"""RMS of a typical source, linear: the middle of the training levels."""
PROCESS = {"steps": 200, "beta_min": 1e-4, "beta_max": 2e-2}
"""Of ε-networks: the paper's."""


class Objective(Protocol):
    """Makes a denoiser, draws its examples and judges what it does with them."""

    def denoiser(self, spectra: Tensor) -> Any:
        """An untrained denoiser of classes with these average spectra (labels, 513), on their device."""

    def draw(self, bank: ClipBank, count: int, seed: int) -> tuple[Tensor, ...]:
        """``count`` examples, everything about them included; they depend on the bank and the seed only."""

    @property
    def loss(self) -> Callable[..., Tensor]:
        """(denoiser, *examples) -> loss of each example (B,)."""

    def config(self, denoiser: Any) -> dict[str, Any]:
        """What `priors.build` needs to make the denoiser again."""


def find_backbone(name: str) -> type[nn.Module]:
    """The class of a file of `sourceprior.networks` that has the file's name. Raises UserError if there is none."""
    try:
        module = importlib.import_module(f"sourceprior.networks.{name}") if name.isidentifier() else None
    except ModuleNotFoundError:
        module = None
    for found in vars(module).values() if module else ():
        if isinstance(found, type) and issubclass(found, nn.Module) and found.__name__.lower() == name.replace("_", ""):
            return found
    raise UserError(f"There is no network '{name}': conv_unet, attention_unet and diffwave can be trained.")


def predicts_noise(backbone: str) -> bool:
    """Whether a backbone is an ε-network."""
    return hasattr(find_backbone(backbone), "condition")


def rows_of(labels: Sequence[str], settings: Settings) -> tuple[str, ...]:
    """The labels in the order of a backbone's rows.

    The row of "no class" of an ε-network is its last one, and is none where labels are never left out in training.

    Raises UserError where a network without classes is to learn several labels.
    """
    if not predicts_noise(settings.backbone):
        return tuple(labels)
    kept = [label for label in labels if label != NULL]
    if not takes_classes(settings.backbone):
        if len(kept) > 1:
            raise UserError(
                f"{settings.backbone} has one class, the data has {len(kept)}: train it on --sources speech."
            )
        return tuple(kept)
    return (*kept, NULL) if NULL in labels and settings.null_share else tuple(kept)


def takes_classes(backbone: str) -> bool:
    """Whether a network is conditioned on a class."""
    return "classes" in inspect.signature(find_backbone(backbone)).parameters


def new_network(settings: Settings, **given: Any) -> nn.Module:
    """The untrained network of a run. Raises UserError for options that it does not have."""
    made = find_backbone(settings.backbone)
    torch.manual_seed(settings.seed)
    try:
        return made(**given, **settings.network)
    except (TypeError, ValueError) as error:
        raise UserError(f"{settings.backbone} cannot be made with {settings.network}: {error}") from error


def objective_of(settings: Settings) -> Objective:
    """The objective that the backbone of a run is for."""
    return Noise(settings) if predicts_noise(settings.backbone) else Spectral(settings)


class Spectral:
    """A denoiser of STFT bins, with noise levels of EDM and other sources as negatives (`denoisers`, `examples`)."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.loss = loss_of
        self.makers: WeakKeyDictionary[ClipBank, ExampleMaker] = WeakKeyDictionary()

    def denoiser(self, spectra: Tensor) -> SpectralDenoiser:
        """The Wiener filter of each class."""
        s = self.settings
        network = new_network(s, inputs=FEATURES, outputs=OUTPUTS, classes=len(s.labels))
        denoiser = SpectralDenoiser(network, spectra, LEVEL)
        return denoiser.to(spectra.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def maker(self, bank: ClipBank) -> ExampleMaker:
        """What draws from a bank."""
        s = self.settings
        if bank not in self.makers:
            self.makers[bank] = ExampleMaker(
                _unheld(bank), s.labels, s.negatives, s.seconds, levels=s.levels, null_share=s.null_share,
                augment=s.augment, playback=s.playback, colour=s.colour,
            )  # fmt: skip
        return self.makers[bank]

    def draw(self, bank: ClipBank, count: int, seed: int) -> tuple[Tensor, ...]:
        """Signal, target and unit noise as STFTs (B, 2, 513, T), sigma, label and has_other (B,)."""
        maker, device = self.maker(bank), bank.wave.device
        examples = maker.draw(count, seed)
        g = torch.Generator().manual_seed(seed + 500_000_000)
        shape = (count, maker.samples)
        if device.type == "cuda":
            # Millions of normal numbers, drawn by one core, would take longer than all the rest of the step.
            on_device = torch.Generator(device).manual_seed(seed + 500_000_000)
            noise = torch.randn(shape, generator=on_device, device=device)
        else:
            noise = torch.randn(shape, generator=g).to(device)
        sigma = draw_sigma(self.settings, count, g).to(device)
        return (
            real(examples.signal), real(examples.target), real(stft(noise)), sigma, examples.label, examples.has_other,
        )  # fmt: skip

    def config(self, denoiser: SpectralDenoiser) -> dict[str, Any]:
        """Network and denoiser by class and options."""
        return {
            "denoiser": {"class": "denoisers.SpectralDenoiser"},
            "network": {"class": _class(denoiser.network), "options": denoiser.network.config},
        }


class Noise:
    """An ε-network under the variance-preserving process, on single sources at their level (paper, section 5.1)."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.process = vp_linear(**PROCESS)  # type: ignore[arg-type]
        self.loss = noise_loss
        self.makers: WeakKeyDictionary[ClipBank, ExampleMaker] = WeakKeyDictionary()

    def denoiser(self, spectra: Tensor) -> VPDenoiser:
        """A network that predicts no noise yet."""
        s = self.settings
        # The row of "no class" comes on top of the classes.
        classes = len(s.labels) - (NULL in s.labels)
        network = new_network(s, **{"classes": classes} if takes_classes(s.backbone) else {})
        denoiser = VPDenoiser(network, self.process, spectrum=spectra, level=LEVEL)
        return denoiser.to(spectra.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def maker(self, bank: ClipBank) -> ExampleMaker:
        """What knows which clips belong to which row."""
        s = self.settings
        if bank not in self.makers:
            self.makers[bank] = ExampleMaker(_unheld(bank), s.labels, "none", s.seconds, augment=False)
        return self.makers[bank]

    def draw(self, bank: ClipBank, count: int, seed: int) -> tuple[Tensor, ...]:
        """Clean signals (B, N), cropped or padded, unit noise (B, N), steps of the process (B,), labels (B,)."""
        s, maker, device = self.settings, self.maker(bank), bank.wave.device
        g = torch.Generator().manual_seed(seed)
        clips = maker.choose(count, g)
        wave = bank.render(clips, maker.samples, g, s.augment, playback=s.playback)
        low, high = s.levels
        gain = 10 ** ((torch.rand(count, generator=g) * (high - low) + low) / 20)
        index = bank.label[clips]
        dropped = (torch.rand(count, generator=g).to(device) < s.null_share) & (maker.wider[index] >= 0)
        label = torch.where(dropped, maker.wider[index], maker.row[index])
        step = torch.randint(0, len(self.process), (count,), generator=g).to(device)
        noise = torch.randn(wave.shape, generator=g).to(device)
        return wave * gain[:, None].to(device), noise, step, label

    def config(self, denoiser: VPDenoiser) -> dict[str, Any]:
        """Network, denoiser and process."""
        return {
            "denoiser": {"class": "vp.VPDenoiser", "process": PROCESS},
            "network": {"class": _class(denoiser.network), "options": denoiser.network.config},  # type: ignore[dict-item]
        }


def _unheld(bank: ClipBank) -> ClipBank:
    """The bank, without being what keeps it in memory: of data in turns it is to go when its turn is over."""
    return cast(ClipBank, weakref.proxy(bank))


def _class(network: nn.Module) -> str:
    return f"{type(network).__module__.rpartition('.')[2]}.{type(network).__name__}"


def noise_loss(denoiser: VPDenoiser, clean: Tensor, noise: Tensor, step: Tensor, label: Tensor) -> Tensor:
    """Mean squared error of the predicted noise, per example (B,); a network that predicts none has 1."""
    process = denoiser.process
    state = training_target(process, clean, step, noise)
    told = denoiser.fed(process.levels.to(step.device)[step])
    return (denoiser.network(state, told, label) - noise).square().mean(1)


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


def measure_spectra(bank: ClipBank, labels: Sequence[str], draws: int = 96, shared: bool = False) -> Tensor:
    """Average power per STFT bin of each label (labels, 513) at the training level; "anything" is all sounds' mean.

    Smoothed over frequency and drawn a little towards the mean of all, as some classes have a handful of clips; a label
    of which the bank holds none gets that mean, and so has every row with ``shared``.
    """
    rows: dict[int, Tensor] = {}
    for i, label in enumerate(labels):
        wanted = [name for name in bank.labels if name not in SPOKEN] if label == NULL else [label]
        weights = bank.weights(wanted).cpu()
        if not bool(weights.any()):
            continue
        g = torch.Generator().manual_seed(i)
        clips = torch.multinomial(weights, draws, replacement=True, generator=g)
        wave = bank.render(clips.to(bank.wave.device), 4 * bank.sample_rate, g) * LEVEL
        # Crops of silence tell nothing of the class.
        heard = wave[wave.any(1)] if bool(wave.any()) else wave
        rows[i] = stft(heard).abs().square().mean((0, 2))
    if not rows:
        raise UserError(f"The data holds no clip of {', '.join(labels)}.")
    known = torch.stack(list(rows.values()))
    power = torch.stack([rows.get(i, known.mean(0)) for i in range(len(labels))])
    # Averaging over a sixth of an octave: single partials of a few clips are not the class.
    bins = torch.arange(BINS, device=power.device)
    near = (torch.log2((bins[:, None] + 2.0) / (bins[None] + 2.0)).abs() < 1 / 12).float()
    power = power @ (near / near.sum(1, keepdim=True)).T
    mean = power.mean(0, keepdim=True)
    power = mean.expand_as(power) if shared else 0.95 * power + 0.05 * mean
    return (power + 1e-4 * power.mean(1, keepdim=True)).contiguous()
