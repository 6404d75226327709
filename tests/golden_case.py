"""The recordings under tests/golden, and networks filled with the weights they were made with."""

from __future__ import annotations

import math
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

FOLDER = Path(__file__).parent / "golden"


@cache
def golden(name: str = "golden") -> dict[str, np.ndarray]:
    with np.load(FOLDER / f"{name}.npz") as file:
        return {key: file[key] for key in file}


def recorded(key: str, name: str = "golden") -> Tensor:
    return torch.from_numpy(golden(name)[key])


def filled(network: nn.Module) -> nn.Module:
    """Every entry of the state dict drawn from its own name (golden/README.md)."""
    state = {}
    for name, value in network.state_dict().items():
        draw = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(tuple(value.shape))
        if name.endswith("gaussian"):
            scale = 1.0
        elif value.ndim == 1:
            scale = 0.05
        elif "embedding_table" in name:
            scale = 0.3
        else:
            scale = 1 / math.sqrt(math.prod(value.shape[1:]))
        state[name] = torch.from_numpy((draw * scale).astype(np.float32))
    network.load_state_dict(state)
    return network


def relative(ours: Tensor, theirs: Tensor) -> float:
    """Norm of the difference over the norm of the recording."""
    theirs = theirs.to(ours)
    return float((ours.detach() - theirs).norm() / theirs.norm())
