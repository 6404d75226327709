"""A trained network that has learned further classes, each by weights of its own; what it knew stays as it was.

A learned class has a row of the class embedding, a shift of every bias (the adaptive norms' scales and shifts among
them), and a low-rank change of every convolution (Hu et al. 2022, "LoRA"). The examples of a batch are sorted by
class: those of the known classes go through the network untouched, so that their result is the same to the last bit;
those of a learned class go through the same network with its changes added to the weights.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

EMBEDDING = "class_embedding.weight"


class LearnedClass(nn.Module):
    """What one learned class adds to a network's weights; new, it adds nothing but an embedding of zeros.

    Args:
        base: the network; its convolutions, biases and ``class_embedding`` are what can change.
        rank: of the change of every convolution; 0 leaves the convolutions alone, and -1 makes it a full one.
        biases: whether every bias has a shift.
    """

    def __init__(self, base: nn.Module, rank: int, biases: bool = True) -> None:
        super().__init__()
        shapes = {name: parameter.shape for name, parameter in base.named_parameters() if name != EMBEDDING}
        self.embedding = nn.Parameter(torch.zeros(base.get_parameter(EMBEDDING).shape[1]))
        self.shift, self.left, self.right = nn.ParameterDict(), nn.ParameterDict(), nn.ParameterDict()
        for name, shape in shapes.items():
            # Names of parameters may not hold dots.
            key = name.replace(".", "/")
            if (len(shape) == 1 and biases) or rank < 0:
                self.shift[key] = nn.Parameter(torch.zeros(shape))
            elif len(shape) == 4 and rank > 0:
                inputs = math.prod(shape[1:])
                rows = min(rank, shape[0], inputs)
                self.left[key] = nn.Parameter(torch.zeros(shape[0], rows))
                self.right[key] = nn.Parameter(torch.randn(rows, inputs) / inputs**0.5)

    def weights(self, base: nn.Module) -> dict[str, Tensor]:
        """The network's weights that differ for this class, by name."""
        changed = {EMBEDDING: self.embedding[None]}
        for key, shift in self.shift.items():
            name = key.replace("/", ".")
            changed[name] = base.get_parameter(name) + shift
        for key, left in self.left.items():
            name = key.replace("/", ".")
            weight = base.get_parameter(name)
            changed[name] = weight + (left @ self.right[key]).view(weight.shape)
        return changed


class AdaptedNetwork(nn.Module):
    """Called as the network it is made from, with labels that go on after its own.

    Args:
        base: ``class`` and ``options`` of a network of this package, as in a prior's config.
        learned: what each learned class is made with, keyword arguments of `LearnedClass`.
    """

    def __init__(self, base: dict[str, Any], learned: list[dict[str, Any]]) -> None:
        super().__init__()
        from sourceprior.priors import attribute

        self.base = attribute("networks", base["class"])(**base["options"])
        self.classes = self.base.get_parameter(EMBEDDING).shape[0]
        self.learned = nn.ModuleList(LearnedClass(self.base, **options) for options in learned)
        self.config = {"base": base, "learned": learned}

    def forward(self, x: Tensor, noise: Tensor, label: Tensor) -> Tensor:
        """x (B, inputs, bins, frames), noise (B,) = ln(sigma / level), label (B,) -> (B, outputs, bins, frames)."""
        wanted = label.tolist()
        groups = sorted({max(-1, index - self.classes) for index in wanted})
        if groups == [-1]:
            return self.base(x, noise, label)
        out: Tensor | None = None
        for group in groups:
            members = [i for i, index in enumerate(wanted) if max(-1, index - self.classes) == group]
            rows = torch.tensor(members, device=x.device)
            if group < 0:
                part = self.base(x[rows], noise[rows], label[rows])
            else:
                # Indexing a whole batch would copy it in every step of training.
                whole = len(groups) == 1
                given = (x, noise) if whole else (x[rows], noise[rows])
                part = functional_call(
                    self.base, self.learned[group].weights(self.base), (*given, torch.zeros_like(rows))
                )
                if whole:
                    return part
            out = part.new_empty(len(x), *part.shape[1:]) if out is None else out
            out[rows] = part
        assert out is not None
        return out
