"""What turns gradients into weights: AdamW, Muon for the hidden convolutions, and running averages of the weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn


def optimizers(
    network: nn.Module, kind: str, rate: float, weight_decay: float, beta2: float = 0.98
) -> list[torch.optim.Optimizer]:
    """Optimisers of a network's parameters.

    Args:
        kind: "muon": Muon for the hidden 2-D convolutions, AdamW for the rest (first and last layer, embeddings,
            modulation, biases); "adamw": AdamW for all.
        rate: learning rate.
        weight_decay: of everything but biases and other vectors.
        beta2: of AdamW, beside 0.9.
    """
    hidden: list[nn.Parameter] = []
    decay: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, p in network.named_parameters():
        if p.ndim == 4 and kind == "muon" and not name.startswith(("stem", "out")):
            hidden.append(p)
        else:
            (decay if p.ndim > 1 else plain).append(p)
    groups = [{"params": decay, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
    out: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, lr=rate, betas=(0.9, beta2), fused=True)]
    if hidden:
        out.append(MatrixMuon(hidden, lr=rate, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"))
    return out


class MatrixMuon(torch.optim.Muon):
    """torch's Muon for convolution weights as well: each is seen as a matrix (out, everything else) of its storage."""

    def __init__(self, weights: Sequence[nn.Parameter], **options) -> None:
        self.weights = list(weights)
        super().__init__([nn.Parameter(as_matrix(w.data)) for w in self.weights], **options)

    @torch.no_grad()
    def step(self, closure=None):  # type: ignore[override]
        matrices = [p for group in self.param_groups for p in group["params"]]
        for weight, matrix in zip(self.weights, matrices, strict=True):
            matrix.grad = None if weight.grad is None else as_matrix(weight.grad)
        return super().step(closure)


def as_matrix(weight: Tensor) -> Tensor:
    """(out, in, kh, kw) -> (out, kh kw in): a view of weights in channels-last order."""
    return weight.permute(0, 2, 3, 1).reshape(len(weight), -1)


def average_over(share: float) -> Callable:
    """Running average of weights over the last ``share`` of all steps (Karras et al. 2024, power-function EMA).

    A fixed decay is too long for the first steps, keeping the untrained network alive, or too short for the last.
    """

    @torch.no_grad()
    def update(averages: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
        torch._foreach_lerp_(averages, current, 1 / (share * float(count) + 1))

    return update


def average_with(decay: float) -> Callable:
    """The usual running average of a fixed decay, shorter in the first steps: min(decay, (1 + n) / (10 + n))."""

    @torch.no_grad()
    def update(averages: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
        torch._foreach_lerp_(averages, current, 1 - min(decay, (1 + float(count)) / (10 + float(count))))

    return update
