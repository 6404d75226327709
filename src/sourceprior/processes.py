"""One process or many: who this one is, and the few things that processes of one run have to agree on.

Under ``torchrun`` there are several, and accelerate sets up the group; alone, nothing of it is loaded. Gradients are
summed as one flat vector in the order of the parameters. That does not overlap with the backward pass as torch's
DistributedDataParallel does, but its buckets come in another order in the first step of a resumed run than in the
undisturbed one, and so would the rounding.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from sourceprior.errors import UserError


class Alone:
    """The only process."""

    rank, count = 0, 1

    def device(self, wanted: torch.device) -> torch.device:
        """The device of this process, of the kind that is wanted."""
        return wanted

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Every gradient becomes its mean over the processes."""

    def mean(self, value: Tensor) -> Tensor:
        """The mean of a tensor over the processes."""
        return value

    def agree(self, values: Sequence[float]) -> list[float]:
        """The first process's numbers, for decisions that all have to take alike."""
        return list(values)

    def wait(self) -> None:
        """Until all processes are here."""


class Several(Alone):
    """One of several processes that torchrun started.

    Raises:
        UserError: accelerate is not installed.
    """

    def __init__(self, cpu: bool) -> None:
        try:
            from accelerate import Accelerator
        except ImportError as error:
            raise UserError("Several processes need accelerate: pip install 'sourceprior[train]'.") from error
        self.accelerator = Accelerator(cpu=cpu)
        self.rank, self.count = self.accelerator.process_index, self.accelerator.num_processes

    def device(self, wanted: torch.device) -> torch.device:
        return wanted if wanted.type == "cpu" else self.accelerator.device

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        flat = self.accelerator.reduce(flat, "mean")
        for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def mean(self, value: Tensor) -> Tensor:
        return self.accelerator.reduce(value, "mean")

    def agree(self, values: Sequence[float]) -> list[float]:
        from accelerate.utils import broadcast

        sent = torch.tensor(values, dtype=torch.float64, device=self.accelerator.device)
        return broadcast(sent).tolist()

    def wait(self) -> None:
        self.accelerator.wait_for_everyone()


def find(device: torch.device) -> Alone:
    """What this process is: one of several if torchrun says so, else alone."""
    return Several(device.type == "cpu") if int(os.environ.get("WORLD_SIZE", "1")) > 1 else Alone()
