"""Time and memory of the full-size attention U-Net on 4 s: forward, and forward + backward to the input.

    OMP_NUM_THREADS=2 python benchmarks/attention_unet.py --repeats 2

Every line is a process of its own, so that its peak memory is its own. The rate of plain matrix products is measured
beside them: what of the time they alone would take is what no change of this code could save. On a machine with other
work, the processor time (of all threads) is the figure to go by.

`--plain` adds, in a process of its own, turn about with the network, the same network written down layer by layer
(`tests/plain_attention_unet.py`), which stands in for the released code: a ratio of two times of one run says more than
seconds on machines that differ by a factor of four.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import torch

from sourceprior.networks.attention_unet import MEMORY, AttentionUNet

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from plain_attention_unet import plain

MODES = ("forward", "backward")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), action="append")
    parser.add_argument("--mode", choices=MODES, action="append")
    parser.add_argument("--width", type=int, default=72)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--memory", type=float, default=MEMORY, help="bytes that may be kept for the backward pass")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--plain", action="store_true", help="time the plain network as well, turn about")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    precisions, modes = options.precision or ["float32", "bfloat16"], options.mode or list(MODES)
    if options.only:
        one(options, *options.only)
    else:
        for precision in precisions:
            for mode in modes:
                child = [sys.executable, *sys.argv, "--only", precision, mode]
                subprocess.run(child, check=True)


def made(options: argparse.Namespace) -> AttentionUNet:
    torch.manual_seed(0)
    network = AttentionUNet(options.width, 1, memory=options.memory).requires_grad_(False)
    # A new network predicts exactly zero: give the last layer something to do.
    torch.nn.init.normal_(network.final_layer.out_proj.weight, std=0.05)
    return network.to(options.device)


def one(options: argparse.Namespace, precision: str, mode: str) -> None:
    """Print the line of one precision and mode."""
    network = made(options)
    if options.compile:
        network.compile()
    x = torch.randn(1, round(16000 * options.seconds), device=options.device)
    step, label = (torch.zeros(1, dtype=torch.long, device=options.device) for _ in range(2))
    cuda, backward = options.device == "cuda", mode == "backward"

    def run(network: Callable[..., torch.Tensor] = network) -> float:
        state = x.clone().requires_grad_(backward)
        context = torch.autocast(options.device, torch.bfloat16) if precision == "bfloat16" else nullcontext()
        if cuda:
            torch.cuda.synchronize()
        start, worked = time.perf_counter(), time.process_time()
        with context, torch.set_grad_enabled(backward):
            out = network(state, step, label)
            if backward:
                torch.autograd.grad(out.square().sum(), state)
        if cuda:
            torch.cuda.synchronize()
        work.append(time.process_time() - worked)
        return time.perf_counter() - start

    work: list[float] = []
    if options.compile:
        run()
    if options.plain:
        pairs = [(run(), run(partial(plain, network))) for _ in range(options.repeats)]
        ours, theirs = (min(seconds) for seconds in zip(*pairs, strict=True))
        print(f"{precision} {mode}: {ours:.1f} s, plain {theirs:.1f} s, ratio {ours / theirs:.2f}", flush=True)
        return
    times = [run() for _ in range(options.repeats)]
    peak = torch.cuda.max_memory_allocated() if cuda else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rate = products(options.device, torch.bfloat16 if precision == "bfloat16" else torch.float32)
    what = f"{precision} {'forward + backward' if backward else 'forward'}"
    used = f"peak {peak / 2**30:.2f} GiB, {torch.get_num_threads()} threads"
    every = ", ".join(f"{seconds:.1f}" for seconds in times)
    print(f"{what}: {every} s; processor time {min(work):.1f} s; {used}; products {rate / 1e9:.0f} GFLOP/s", flush=True)


def products(device: str, dtype: torch.dtype) -> float:
    """Floating-point operations per second of products as the middle stage has them, the best of three."""
    left, right = (torch.randn(shape, device=device, dtype=dtype) for shape in ((4096, 288), (288, 1152)))
    best = 0.0
    for _ in range(3):
        # On a processor with other work the time of our own threads counts, over the threads.
        clock = time.perf_counter if device == "cuda" else time.process_time
        start = clock()
        for _ in range(10):
            out = left @ right
        if device == "cuda":
            torch.cuda.synchronize()
        seconds = (clock() - start) / (1 if device == "cuda" else torch.get_num_threads())
        best = max(best, 10 * 2 * left.numel() * out.shape[1] / seconds)
    return best


if __name__ == "__main__":
    main()
