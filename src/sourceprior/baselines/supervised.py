"""Supervised separators: one network per task, trained on mixtures. For comparison; no weights come with the package.

A model is a folder of `config.json` and `model.safetensors`. Its stems come in the order speakers, then sounds; it is
not told which sounds, so those are assigned by the best permutation, as in its training.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from sourceprior.datasets import SPEECH
from sourceprior.errors import UserError, alternatives
from sourceprior.evaluation import Separator
from sourceprior.mixtures import TASKS, check_rate
from sourceprior.sampling import find_device

KINDS = ("conv_tasnet", "tf_locoformer")
"""Files of `sourceprior.baselines` that hold a supervised network."""
CONFIG, WEIGHTS = "config.json", "model.safetensors"


@dataclass(frozen=True)
class Model:
    """A trained network of one task, its config as written, and a hash of its weights."""

    kind: str
    task: str
    title: str
    parameters: int
    config: Mapping[str, Any]
    network: nn.Module
    digest: str


def module_of(kind: str) -> ModuleType:
    """The file of a kind of network. Raises UserError for an unknown one."""
    if kind not in KINDS:
        raise UserError(f"There is no supervised baseline {kind!r}; choose {alternatives(KINDS)}.")
    return importlib.import_module(f"sourceprior.baselines.{kind}")


def build(kind: str, task: str, options: Mapping[str, Any]) -> nn.Module:
    """A new network of a kind for a task. Raises UserError for an unknown kind or task."""
    if task not in TASKS:
        raise UserError(f"There is no task {task!r}; choose {alternatives(list(TASKS))}.")
    return module_of(kind).Network(sum(TASKS[task]), **options)


def load(folder: str | Path) -> Model:
    """A trained model from its folder. Raises UserError where there is none."""
    file = Path(folder) / CONFIG
    try:
        config = json.loads(file.read_text())
        network = build(config["kind"], config["task"], config["options"])
        content = (Path(folder) / WEIGHTS).read_bytes()
        network.load_state_dict(load_file(Path(folder) / WEIGHTS))
    except OSError:
        raise UserError(f"'{folder}' is not a trained baseline: it lacks {CONFIG} or {WEIGHTS}.") from None
    except (KeyError, TypeError, RuntimeError, SafetensorError, json.JSONDecodeError) as error:
        raise UserError(f"'{folder}' cannot be read as a trained baseline: {error!r}.") from error
    return Model(
        config["kind"], config["task"], module_of(config["kind"]).TITLE, count(network), config, network.eval(),
        hashlib.sha256(content).hexdigest()[:12],
    )  # fmt: skip


def count(network: nn.Module) -> int:
    """Number of parameters."""
    return sum(p.numel() for p in network.parameters())


def alike(labels: Sequence[str]) -> list[Hashable]:
    """Which stems a supervised network cannot tell apart: speakers, and sounds."""
    return [SPEECH if label == SPEECH else "sound" for label in labels]


def separator(models: Mapping[str, Model], device: str = "auto") -> Separator:
    """A separator that takes the model of the task, told by the numbers of speakers and of sounds."""
    place = find_device(device)
    by_counts = {TASKS[task]: (model.network.to(place), model.config["sample_rate"]) for task, model in models.items()}

    def run(mixture: np.ndarray, sample_rate: int, labels: Sequence[str], _seed: int) -> np.ndarray:
        speakers = sum(label == SPEECH for label in labels)
        network, rate = by_counts.get((speakers, len(labels) - speakers), (None, 0))
        if network is None:
            raise UserError(f"No model is trained for {speakers} speakers and {len(labels) - speakers} sounds.")
        check_rate(sample_rate, rate)
        with torch.inference_mode():
            return network(torch.from_numpy(np.asarray(mixture, np.float32))[None].to(place))[0].cpu().numpy()

    return run
