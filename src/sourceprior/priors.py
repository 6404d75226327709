"""A source prior: a denoiser with what is needed to use it, and its place on disk.

A prior is a folder: ``config.json``, ``model.safetensors`` (never a pickle), ``README.md``, the model card, and
``clips.csv``, every clip it was trained on with its licence. The config names the network's class within
``sourceprior.networks`` and the denoiser's within ``sourceprior.denoisers``, so that a new backbone is one new file and
nothing else.
"""

from __future__ import annotations

import importlib
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sourceprior.errors import UserError, alternatives
from sourceprior.survey import HIGHEST_RATE, LOWEST_RATE

CONFIG, WEIGHTS, CARD, CLIPS = "config.json", "model.safetensors", "README.md", "clips.csv"
BUNDLED = Path(__file__).parent / "weights"
PRECISIONS = ("float32", "bfloat16")
"""What a network may be run in; bfloat16 is taken where the machine is quicker with it, see `fast_bfloat16`."""


@dataclass(frozen=True)
class SourcePrior:
    """A denoiser with its sample rate, labels, licence and card.

    Attributes:
        name: short name, shown to users.
        denoiser: D(x, sigma, label), see ``denoisers.py``.
        labels: label of each class index; ``anything`` is the null label of a sound prior.
        sample_rate: Hz.
        level: RMS of a typical source at training, linear full scale.
        licence: SPDX name of the weights' licence.
        config: everything else that ``config.json`` holds (network, data, figures).
        card: the model card, Markdown.
        clips: the clips it was trained on, as `runs.clip_table` writes them; empty if that is not known.
    """

    name: str
    denoiser: nn.Module
    labels: tuple[str, ...]
    sample_rate: int
    level: float
    licence: str
    config: dict[str, Any] = field(default_factory=dict, repr=False)
    card: str = field(default="", repr=False)
    clips: str = field(default="", repr=False)

    @property
    def precision(self) -> str:
        """What its network is run in unless the user says otherwise, see PRECISIONS; by default bfloat16."""
        return str(self.config.get("precision", "bfloat16"))

    def index(self, label: str) -> int:
        """Class index of a label, spelt as in ``labels``; raises KeyError."""
        try:
            return self.labels.index(label)
        except ValueError:
            raise KeyError(label) from None

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the folder; weights in half precision, unless the network is to run in float32, buffers as they are."""
        from safetensors.torch import save

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        half = {name for name, _ in self.denoiser.named_parameters() if self.precision != "float32"}
        tensors = {
            name: (value.half() if name in half else value).contiguous()
            for name, value in self.denoiser.state_dict().items()
        }
        # Not save_file, which makes files that nobody else may read.
        (folder / (WEIGHTS + ".part")).write_bytes(save(tensors, metadata={"format": "pt"}))
        os.replace(folder / (WEIGHTS + ".part"), folder / WEIGHTS)
        config = self.config | {
            "format": 1, "name": self.name, "sample_rate": self.sample_rate, "level": self.level,
            "licence": self.licence, "labels": list(self.labels),
        }  # fmt: skip
        (folder / CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
        (folder / CARD).write_text(self.card, encoding="utf-8")
        if self.clips:
            (folder / CLIPS).write_text(self.clips, encoding="utf-8")
        else:
            (folder / CLIPS).unlink(missing_ok=True)

    @classmethod
    def from_pretrained(cls, path: str | Path) -> SourcePrior:
        """Load a prior from a folder, or from a model hub when ``path`` is not a folder but a name like ``who/what``.

        Raises:
            UserError: the folder, a file in it, or an entry of its config is missing or unreadable.
        """
        # Of os.path: Path.is_dir raises for a name that is too long.
        folder = Path(path) if os.path.isdir(path) else download(str(path))
        file = folder / CONFIG
        try:
            config = json.loads(file.read_text(encoding="utf-8"))
            check_config(config)
            denoiser = build(config)
            prior = cls(
                name=str(config["name"]), denoiser=denoiser, labels=tuple(config["labels"]),
                sample_rate=int(config["sample_rate"]), level=float(config["level"]), licence=str(config["licence"]),
                config=config, card=text_of(folder / CARD), clips=text_of(folder / CLIPS),
            )  # fmt: skip
        except FileNotFoundError as error:
            raise UserError(f"'{path}' is not a prior: it holds no {CONFIG}.") from error
        except OSError as error:
            raise UserError(f"'{error.filename or file}' cannot be read: {error.strerror}.") from error
        except UserError as error:
            raise UserError(f"'{file}' cannot be read as the config of a prior: {error}") from error
        except RecursionError as error:
            raise UserError(f"'{file}' cannot be read as the config of a prior: it is nested too deep.") from error
        except Exception as error:
            # What a network makes of options that it was not meant for may be any.
            raise UserError(f"'{file}' cannot be read as the config of a prior: {error!r}.") from error
        load_weights(denoiser, folder / WEIGHTS)
        return prior

    @classmethod
    def from_released(
        cls, path: str | Path, classes: Sequence[str] | None = None, *, weights: str = "ema"
    ) -> SourcePrior:
        """A published checkpoint of the paper or of UnDiff's DiffWave as a prior, see `released.load_released`.

        Raises:
            UserError: the file is missing or something else; the message is one sentence.
        """
        from sourceprior.released import load_released

        return load_released(path, classes, weights=weights)

    def push_to_hub(self, repository: str, **options: Any) -> str:
        """Upload the prior's folder to a model hub; returns the address of the commit."""
        import tempfile

        from huggingface_hub import HfApi

        api = HfApi()
        api.create_repo(repository, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            return str(api.upload_folder(repo_id=repository, folder_path=folder, **options))


def check_config(config: dict[str, Any]) -> None:
    """Raise UserError for entries of a config that would build a denoiser and fail, or mislead, when it is used."""
    labels, rate, level, parts = config["labels"], config["sample_rate"], config["level"], config.get("parts", {})
    names = labels if isinstance(labels, list) else []
    proper = all(isinstance(name, str) and name.strip(" -_") and name.isprintable() for name in names)
    if not names or not proper or len(set(names)) < len(names):
        raise UserError("labels must be a list of printable names, at least one, and all different.")
    if not LOWEST_RATE <= int(rate) <= HIGHEST_RATE:
        raise UserError(f"sample_rate must lie between {LOWEST_RATE} and {HIGHEST_RATE} Hz, not {rate}.")
    if not 0 < float(level) < math.inf:
        raise UserError(f"level must be a number above 0, not {level}.")
    if not isinstance(parts, dict) or not all(
        isinstance(inside, list) and all(name in names for name in (whole, *inside)) for whole, inside in parts.items()
    ):
        raise UserError("parts must give, for a label, a list of other labels.")


def text_of(file: Path) -> str:
    """A file's text; empty if there is none."""
    return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""


def download(name: str) -> Path:
    """Folder of a prior fetched from the model hub."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise UserError(f"There is no folder '{name}': name the folder of a prior, or a hub repository as who/what.")
    try:
        return Path(snapshot_download(name, allow_patterns=[CONFIG, WEIGHTS, CARD, CLIPS]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise UserError(f"'{name}' is neither a folder nor a prior on the model hub that can be reached.") from error


def build(config: dict[str, Any]) -> nn.Module:
    """The denoiser a config describes, its weights not yet loaded."""
    network = config["network"]
    made = attribute("networks", network["class"])(**network["options"])
    return attribute("", config["denoiser"]["class"]).from_config(made, config).eval()


def attribute(package: str, path: str) -> Any:
    """Class ``module.Name`` within sourceprior (or a package of it), and nothing outside it."""
    module, _, name = path.rpartition(".")
    if not module.isidentifier() or not name.isidentifier():
        raise ValueError(f"{path!r} is not module.Class")
    found = getattr(importlib.import_module(".".join(filter(None, ("sourceprior", package, module)))), name)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise ValueError(f"{path!r} is not a network or denoiser")
    return found


def load_weights(denoiser: nn.Module, file: Path) -> None:
    """Read a safetensors file into a denoiser; raises UserError when the two do not fit."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not file.is_file():
        raise UserError(f"The weights '{file}' are missing.")
    try:
        tensors = load_file(file)
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"'{file}' is not a readable safetensors file ({error}): fetch or save it again.") from error
    if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
        raise UserError(f"The weights '{file}' hold values that are not finite: fetch or save them again.")
    known = denoiser.state_dict()
    if missing := [name for name in known if name not in tensors]:
        raise UserError(
            f"The weights '{file}' do not fit their config: {len(missing)} are missing, first {missing[0]}."
        )
    if strange := [name for name in tensors if name not in known]:
        raise UserError(
            f"The weights '{file}' do not fit their config: {len(strange)} are strange, first {strange[0]}."
        )
    try:
        denoiser.load_state_dict({name: value.float() if value.is_floating_point() else value
                                  for name, value in tensors.items()})  # fmt: skip
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise UserError(f"The weights '{file}' do not fit their config: {first}") from error


@cache
def bundled() -> tuple[SourcePrior, ...]:
    """The priors that come with the package, speech first; loaded once per process."""
    folders = sorted(path.parent for path in BUNDLED.glob(f"*/{CONFIG}"))
    if not folders:
        raise UserError("This installation holds no bundled prior: name one with --prior.")
    priors = [SourcePrior.from_pretrained(folder) for folder in folders]
    return tuple(sorted(priors, key=lambda prior: (prior.name != "speech", prior.name)))


@dataclass(frozen=True)
class Source:
    """One requested source: a class of a prior, and the name its stem gets."""

    prior: SourcePrior
    index: int
    name: str


def with_precision(sources: Sequence[Source], precision: str | None) -> list[Source]:
    """The sources, their networks run in one of PRECISIONS instead of what their priors say; None changes nothing.

    Raises:
        UserError: there is no such precision.
    """
    if precision is None:
        return list(sources)
    if precision not in PRECISIONS:
        raise UserError(f"There is no precision {precision!r}; choose {alternatives(PRECISIONS)}.")
    # Sources of one prior keep sharing one.
    priors = {id(s.prior): replace(s.prior, config=s.prior.config | {"precision": precision}) for s in sources}
    return [replace(source, prior=priors[id(source.prior)]) for source in sources]


class JointDenoiser:
    """Denoises all sources of a batch; those that share a network go through it as one batch.

    A network runs in the precision that its prior says, states and results are in single precision.

    Args:
        sources: K sources, at one sample rate.
        device: where the networks run.

    Raises:
        UserError: the priors have different sample rates.
    """

    def __init__(self, sources: Sequence[Source], device: torch.device | str = "cpu") -> None:
        if len({source.prior.sample_rate for source in sources}) > 1:
            rates = ", ".join(f"{source.prior.name} {source.prior.sample_rate} Hz" for source in sources)
            raise UserError(f"Priors of one separation must share a sample rate, these do not: {rates}.")
        self.device = torch.device(device)
        groups: dict[tuple[int, str], list[int]] = {}
        for k, source in enumerate(sources):
            groups.setdefault((id(source.prior.denoiser), source.prior.precision), []).append(k)
        self.groups = [
            (
                # Stubs of torch do not know memory_format here.
                sources[members[0]].prior.denoiser.to(self.device, memory_format=torch.channels_last),  # type: ignore[call-overload]
                torch.tensor(members, device=self.device),
                torch.tensor([sources[k].index for k in members], device=self.device),
                precision == "bfloat16" and fast_bfloat16(self.device.type),
            )
            for (_, precision), members in groups.items()
        ]
        self.num_sources = len(sources)
        rows = [torch.tensor([source.index], device=self.device) for source in sources]
        self.spectra = torch.cat(
            [s.prior.denoiser.spectrum(row) for s, row in zip(sources, rows, strict=True)]  # type: ignore[operator]
        )

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """x (B, K, N) at one noise level, in units of the waveform -> denoised (B, K, N).

        Differentiable in x where x wants a gradient, for the solvers that are guided by one.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and x.requires_grad):
            return self._denoise(x, sigma)

    def _denoise(self, x: Tensor, sigma: float) -> Tensor:
        batch, _, samples = x.shape
        out = torch.empty_like(x)
        for denoiser, members, rows, half in self.groups:
            noisy = x[:, members].reshape(-1, samples)
            level = torch.full((len(noisy),), float(sigma), device=x.device)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
                clean = denoiser(noisy, level, rows.repeat(batch))
            out[:, members] = clean.reshape(batch, -1, samples).to(x.dtype)
        return out


joint = JointDenoiser


@cache
def fast_bfloat16(device: str) -> bool:
    """Whether bfloat16 products are quicker than float32 ones there; on older processors they are many times slower."""
    if device == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return device == "cuda" and torch.cuda.is_bf16_supported()
