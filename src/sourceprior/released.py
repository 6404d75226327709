"""The authors' own checkpoints, and the run that is compared with the recordings of their code (docs/parity.md)."""

from __future__ import annotations

import os
import pickle
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sourceprior.adapters import check_name
from sourceprior.errors import UserError
from sourceprior.labels import folded
from sourceprior.mixture import Mixture
from sourceprior.networks.attention_unet import AttentionUNet
from sourceprior.networks.diffwave import DiffWave
from sourceprior.presets import recipe
from sourceprior.priors import SourcePrior
from sourceprior.sampling import generator
from sourceprior.vp import VPDenoiser, classifier_free, frozen, joint

EXPECTED = "a checkpoint of the attention U-Net (a dict with 'model' and 'ema') or of UnDiff's DiffWave"


LANGEVIN_STEPS = 150
"""Of the released analytical solver: how many of its last steps have a Langevin step."""


class Recording:
    """Recorded normal draws, (draws, N), handed out in order in the place of a generator."""

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows
        self.used = 0

    def __call__(self, shape: tuple[int, ...]) -> Tensor:
        """The next draws, for shape (K, N). Raises ValueError when the recording is over or of another length N."""
        count, length = shape
        if length != self.rows.shape[-1]:
            raise ValueError(f"The recorded noise has {self.rows.shape[-1]} samples a draw, the mixture {length}.")
        if self.used + count > len(self.rows):
            raise ValueError(f"The recording has {len(self.rows)} draws; this run needs more.")
        self.used += count
        return self.rows[self.used - count : self.used]


def as_used(noise: Tensor, sources: int, steps: int, analytical: bool, langevin: int = 0) -> Tensor:
    """A recording of every draw the released code makes, without those that are not used: (draws, N) -> (used, N).

    Its gradient solver draws, after the shared start, one noise per source and step, and in every step one more for a
    noised mixture that it never uses. Its analytical one draws a start and, in every step, a noise per source, then
    one more each for the Langevin step, which it takes for 0 < t < 150. The last step's draws are multiplied by zero;
    the solvers here do not ask.

    Args:
        langevin: the analytical run takes Langevin steps for 0 < t < this.
    """
    if analytical and langevin >= LANGEVIN_STEPS:
        return noise
    if analytical:
        rows, place = [*range(sources)], sources
        for t in reversed(range(steps)):
            rows += range(place, place + sources)
            place += sources
            if 0 < t < LANGEVIN_STEPS:
                rows += range(place, place + sources) if t < langevin else ()
                place += sources
        _complete(noise, sources, steps, place)
        return noise[rows]
    needed = 1 + steps * (sources + 1)
    _complete(noise, sources, steps, needed)
    per_step = noise[1:].view(steps, sources + 1, -1)[:, :sources]
    return torch.cat([noise[:1], per_step.flatten(0, 1)])


def _complete(noise: Tensor, sources: int, steps: int, needed: int) -> None:
    if len(noise) != needed:
        raise ValueError(f"{sources} sources and {steps} steps make {needed} draws, the recording has {len(noise)}.")


def solve(
    networks: Sequence[nn.Module],
    labels: Sequence[int],
    mixture: Tensor | np.ndarray,
    steps: int = 200,
    preset: str = "released",
    guidance: str = "hybrid",
    start: int | None = None,
    noise: Tensor | np.ndarray | None = None,
    *,
    seed: int = 0,
    label_scale: float = 1.0,
    trace: Callable[..., None] | None = None,
    **options: Any,
) -> Tensor:
    """Run one of the paper's solvers on one mixture, with recorded noise if there is some.

    Args:
        networks: one ε-network per source; the same object may come again.
        labels: the class index of each source.
        mixture: (N,), at the level it is to be solved at: nothing is scaled here.
        steps: T of the process; β runs from 1e-4 to 2e-2 unless `beta_min` or `beta_max` say otherwise.
        preset: "released" or "paper".
        guidance: "hybrid", "DPS", "DSG", "cqt" or "analytical", in any case.
        start: noise index the mixture starts at; by default as in `presets.begin_of`. "analytical" starts from noise.
        noise: every normal draw of the released code in its order, (draws, N); random noise by default.
        seed: of the random noise, where none is recorded; the same as with `separate`.
        label_scale: of classifier-free guidance, towards the label and away from the network's row of "no class".
        trace: the solver's own hook, called after every step: with a `Step` by the gradient solver, with (t, state) by
            the analytical one.
        options: further options, as for `presets.recipe`.

    Returns:
        The sources, (K, N).

    Raises:
        ValueError: counts of networks, labels and noise that do not belong together.
        UserError: an unknown preset, guidance or option, or a value that does not fit.
    """
    if len(networks) != len(labels):
        raise ValueError(f"{len(networks)} networks and {len(labels)} labels: one label per network is needed.")
    y = torch.as_tensor(mixture, dtype=torch.float32).reshape(1, -1)
    analytical = str(guidance).lower() == "analytical"
    own_options: dict[str, Any] = {"peak": None} if analytical else {} if start is None else {"start": start}
    run = recipe(preset, guidance, steps, **own_options | options)
    process = run.whole
    readers = {id(network): VPDenoiser(network, process) for network in networks}
    own = [readers[id(network)] for network in networks]
    denoise = joint(own, [int(i) for i in labels])
    if label_scale != 1:
        # A network without such a row has one class only.
        rows = [getattr(network, "null_label", label) for network, label in zip(networks, labels, strict=True)]
        denoise = classifier_free(denoise, joint(own, [int(row) for row in rows]), label_scale)
    problem = Mixture(y, denoise, len(labels))
    generators: Sequence[Any] = [generator(seed)]
    if noise is not None:
        draws = torch.as_tensor(noise, dtype=torch.float32)
        langevin = run.options.get("langevin_steps", LANGEVIN_STEPS) if run.options.get("snr", 0) > 0 else 0
        generators = [Recording(as_used(draws, len(labels), steps, analytical, langevin))]
    with torch.no_grad(), frozen(readers.values()):
        return run(problem, generators=generators, **({"trace": trace} if trace else {}))[0]


def load_released(
    path: str | os.PathLike[str],
    classes: Sequence[str] | None = None,
    *,
    weights: str = "ema",
    heads: int = 4,
    licence: str = "unknown",
) -> SourcePrior:
    """A published checkpoint as a prior: the paper's attention U-Net, or UnDiff's DiffWave.

    The architecture is read off the parameters. Nothing in the file is run: it is read as tensors only.

    Args:
        path: the authors' `.pt` file.
        classes: label of each class index, in the order of the training; fewer than the table has rows is fine. By
            default "speech" for a network of one class, and class_0, class_1 … for one of several.
        weights: "ema", the averaged weights, or "model", the raw ones; of no meaning where the file holds one set only.
        heads: attention heads, which cannot be read off the parameters.
        licence: SPDX name of the weights' licence; the published ones state none.

    Raises:
        UserError: the file is missing, is not such a checkpoint, does not have that many classes, or two labels are
            spelt alike.
    """
    state = read_state(path, weights)
    network, options = network_of(state, path, heads)
    rows = options.get("classes", 1)
    if classes is None:
        classes = ["speech"] if rows == 1 else [f"class_{index}" for index in range(rows)]
    if not 1 <= len(classes) <= rows:
        raise UserError(f"'{path}' has {rows} classes, not {len(classes)}: name as many or fewer, in their order.")
    for name in classes:
        check_name(name, ())
    twice = [name for name, count in Counter(map(folded, classes)).items() if count > 1]
    if twice:
        raise UserError(f"Two classes are both called '{twice[0]}': every class needs a label of its own.")
    denoiser = VPDenoiser(network)
    level, labels = denoiser.level, tuple(classes)
    denoiser.average = torch.full((len(labels), 513), level**2)
    config = {
        "network": {"class": f"{type(network).__module__.rpartition('.')[2]}.{type(network).__name__}"}
        | {"options": options},
        "denoiser": {
            "class": "vp.VPDenoiser",
            "process": {"steps": len(denoiser.process), "beta_min": 1e-4, "beta_max": 2e-2},
        },
        "weights": weights,
        # What the authors' own checkpoints are for is being the same computation.
        "precision": "float32",
    }
    card = f"# {Path(path).stem}\n\nConverted from a published checkpoint; labels: {', '.join(labels)}.\n"
    return SourcePrior(Path(path).stem, denoiser.eval(), labels, 16000, level, licence, config, card)


def read_state(path: str | os.PathLike[str], weights: str = "ema") -> dict[str, Tensor]:
    """The state dict in a checkpoint file: its `ema` or `model` entry, or the file itself where it is one.

    Raises:
        UserError: the file is missing, cannot be read as tensors, or holds no state dict of that name.
    """
    if weights not in ("ema", "model"):
        raise UserError(f"A checkpoint holds the weights 'ema' and 'model', not {weights!r}.")
    if not Path(path).is_file():
        raise UserError(f"There is no file '{path}': name the .pt file of a published checkpoint.")
    try:
        with warnings.catch_warnings():
            # Of the many ways to be no checkpoint some also warn; the error says it all.
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(f"'{path}' holds more than tensors, or no checkpoint at all; expected {EXPECTED}.") from error
    except Exception as error:
        # Bytes of another format, read as a pickle, fail in any way.
        raise UserError(f"'{path}' is damaged or not a PyTorch file; expected {EXPECTED}.") from error
    if not isinstance(content, Mapping):
        raise UserError(f"'{path}' holds a {type(content).__name__}; expected {EXPECTED}.")
    if not _is_state(content):
        found = next(
            (content[name] for name in (weights, "state_dict", "generator") if _is_state(content.get(name))), None
        )
        if found is None:
            held = ", ".join(map(str, list(content)[:5])) or "nothing"
            raise UserError(f"'{path}' has no weights '{weights}' (it holds {held}); expected {EXPECTED}.")
        content = found
    return {str(name).removeprefix("module."): value for name, value in content.items()}


def network_of(
    state: Mapping[str, Tensor], path: str | os.PathLike[str], heads: int = 4
) -> tuple[nn.Module, dict[str, Any]]:
    """The network that a state dict belongs to, with its weights, and the options it was made with.

    Raises:
        UserError: it is the state dict of another network.
    """
    try:
        if "conv_1.weight" in state:
            made, options = _attention_unet(state, heads)
        elif "input_projection.weight" in state:
            made, options = _diffwave(state)
        else:
            raise UserError(f"'{path}' holds the weights of another network; expected {EXPECTED}.")
    except (KeyError, IndexError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"'{path}' lacks parts of its network ({error}); expected {EXPECTED}.") from error
    own = made.state_dict()
    missing = [name for name in own if name not in state]
    # Tables of positions and windows are computed here; only weights of another network are a sign of one.
    extra = [name for name in state if name not in own and not name.endswith((".freqs", ".window", ".inv_freq"))]
    wrong = [name for name in own if name in state and own[name].shape != state[name].shape]
    for what, names in (("lacks", missing), ("has the unknown", extra), ("has another shape of", wrong)):
        if names:
            raise UserError(f"'{path}' {what} '{names[0]}' ({len(names)} in all); expected {EXPECTED}.")
    made.load_state_dict({name: state[name].float() for name in own})
    return made, options


def _is_state(value: Any) -> bool:
    return isinstance(value, Mapping) and len(value) > 0 and all(isinstance(part, Tensor) for part in value.values())


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    """Number of blocks called prefix.0, prefix.1, …"""
    return len({name.split(".")[1] for name in state if name.startswith(prefix + ".")})


def _attention_unet(state: Mapping[str, Tensor], heads: int) -> tuple[nn.Module, dict[str, Any]]:
    stages = ("encoder_level_1", "encoder_level_2", "latent", "decoder_level_2", "decoder_level_1")
    rows, embedding = state["y_embedder_1.embedding_table.weight"].shape
    options: dict[str, Any] = {
        "width": len(state["conv_1.weight"]),
        "classes": rows - 1,
        "embedding": embedding,
        "heads": heads,
        "blocks": [_count(state, stage) for stage in stages],
    }
    return AttentionUNet(**options), options


def _diffwave(state: Mapping[str, Tensor]) -> tuple[nn.Module, dict[str, Any]]:
    layers = _count(state, "residual_layers")
    # The dilations leave no trace in the parameters: the published cycle, or all different in a shorter network.
    options: dict[str, Any] = {
        "layers": layers,
        "channels": len(state["input_projection.weight"]),
        "dilation_cycle": 12,
    }
    return DiffWave(**options), options
