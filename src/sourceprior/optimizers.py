"""What turns gradients into weights: AdamW, Muon for the hidden convolutions, and running averages of the weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from sourceprior.priors import fast_bfloat16


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
        out.append(MatrixMuon(hidden, rate, weight_decay))
    return out


class MatrixMuon(torch.optim.Muon):
    """torch's Muon for convolution weights as well: each is seen as a matrix (out, everything else) of its storage.

    torch multiplies in bfloat16 whatever the machine; where that is not quicker this does it in single precision. On
    a processor without bfloat16 arithmetic a step of torch's took 22 s beside 6 s for the gradients.
    """

    def __init__(self, weights: Sequence[nn.Parameter], rate: float, weight_decay: float) -> None:
        self.weights = list(weights)
        matrices = [nn.Parameter(as_matrix(w.data)) for w in self.weights]
        super().__init__(matrices, lr=rate, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")

    @torch.no_grad()
    def step(self, closure=None):  # type: ignore[override]
        matrices = [p for group in self.param_groups for p in group["params"]]
        for weight, matrix in zip(self.weights, matrices, strict=True):
            matrix.grad = None if weight.grad is None else as_matrix(weight.grad)
        if fast_bfloat16(matrices[0].device.type):
            return super().step(closure)
        if closure is not None:
            raise ValueError("MatrixMuon takes no closure.")
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self.update(p, p.grad, group)
        return None

    def update(self, p: Tensor, grad: Tensor, group: dict) -> None:
        """What torch's does to one matrix, in single precision."""
        past = self.state[p].setdefault("momentum_buffer", torch.zeros_like(grad))
        past.lerp_(grad, 1 - group["momentum"])
        ahead = grad.lerp(past, group["momentum"])
        # "match_rms_adamw": an orthogonal matrix has an RMS of 1 / sqrt(longer side), AdamW's steps one near 0.2.
        rate = group["lr"] * 0.2 * max(p.shape) ** 0.5
        p.mul_(1 - group["lr"] * group["weight_decay"])
        p.sub_(orthogonal(ahead, group["ns_coefficients"], group["ns_steps"], group["eps"]), alpha=rate)


def orthogonal(matrix: Tensor, coefficients: Sequence[float], steps: int, eps: float) -> Tensor:
    """Singular values brought near 1, by Muon's Newton-Schulz iteration: X <- aX + (b XX' + c (XX')^2) X."""
    a, b, c = coefficients
    wide = matrix.shape[0] <= matrix.shape[1]
    x = matrix if wide else matrix.T
    x = x / x.norm().clamp_min(eps)
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x if wide else x.T


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
