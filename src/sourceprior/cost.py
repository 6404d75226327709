"""What a separation costs: seconds, network evaluations forward and backward, peak memory."""

from __future__ import annotations

import contextlib
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Cost:
    """Measures a block: ``with Cost(networks) as cost: ...``.

    Attributes:
        forwards: signals that went through one of the networks: a batch of K sources counts as K, a recording of two
            windows as two.
        backwards: signals that a gradient came back through.
        seconds: wall clock.
        memory_mb: the most memory the process held meanwhile, MB, of the GPU if there is one in use; where the system
            cannot tell for a block (other than Linux), the most it has held so far; nan where it tells nothing.
    """

    def __init__(self, networks: Sequence[nn.Module] = ()) -> None:
        self.networks = networks
        self.forwards = self.backwards = 0
        self.seconds = 0.0
        self.memory_mb = float("nan")

    def __enter__(self) -> Cost:
        unique = {id(network): network for network in self.networks}.values()
        self._hooks = [network.register_forward_hook(self._count) for network in unique]
        _forget_peak()
        self._started = time.perf_counter()
        return self

    def __exit__(self, *_: Any) -> None:
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        self.seconds = time.perf_counter() - self._started
        self.memory_mb = peak_memory_mb()
        for hook in self._hooks:
            hook.remove()

    def _count(self, _module: nn.Module, _arguments: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            self.forwards += len(output)
            if output.requires_grad:
                output.register_hook(self._count_back)

    def _count_back(self, gradient: Tensor) -> None:
        self.backwards += len(gradient)


def peak_memory_mb() -> float:
    """The most memory the process has held (on Linux: since the last `Cost` began), MB; nan where unknown."""
    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 1e6
    try:
        return int(re.findall(r"VmHWM:\s+(\d+) kB", _STATUS.read_text())[0]) * 1.024e-3
    except (OSError, IndexError):
        pass
    try:
        import resource
    except ImportError:
        return float("nan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)


def _forget_peak() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):
        # 5 resets the peak of the resident set (proc(5)).
        _RESET.write_text("5")
