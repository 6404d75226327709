"""What a separation costs is counted as it is paid."""

import time
from pathlib import Path

import numpy as np
import pytest
import torch

from sourceprior.cost import Cost, peak_memory_mb


def test_forwards_backwards_and_seconds():
    network = torch.nn.Linear(8, 8)
    x = torch.randn(3, 8, requires_grad=True)
    with Cost([network, network]) as cost:
        for _ in range(2):
            network(x).sum().backward()
        with torch.no_grad():
            network(x[:1])
        time.sleep(0.02)
    assert (cost.forwards, cost.backwards) == (7, 6)
    assert cost.seconds > 0.02
    network(x)
    assert cost.forwards == 7, "it counts within its block only"


def test_peak_memory_is_that_of_the_block():
    with Cost() as first:
        taken = np.ones(40_000_000)
    del taken
    with Cost() as second:
        pass
    assert 50 < second.memory_mb < 20_000
    if not torch.cuda.is_initialized() and "VmHWM" in Path("/proc/self/status").read_text():
        assert first.memory_mb > second.memory_mb + 200
    assert peak_memory_mb() > 50


def test_an_error_leaves_no_hooks():
    network = torch.nn.Linear(1, 1)
    cost = Cost([network])
    with pytest.raises(ValueError, match="on purpose"), cost:
        raise ValueError("on purpose")
    network(torch.zeros(1, 1))
    assert cost.forwards == 0
