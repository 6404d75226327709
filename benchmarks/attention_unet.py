"""Time and memory of the full-size attention U-Net on 4 s: forward, and forward + backward to the input.

    python benchmarks/attention_unet.py --precision float32 --repeats 1

Each line is one process's peak resident memory so far; run precisions in processes of their own.
"""

from __future__ import annotations

import argparse
import resource
import time
from contextlib import nullcontext

import torch

from sourceprior.networks.attention_unet import AttentionUNet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--width", type=int, default=72)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--no-checkpoint", action="store_true", help="keep all activations")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    network = (
        AttentionUNet(options.width, 1, checkpoint=not options.no_checkpoint).to(options.device).requires_grad_(False)
    )
    # A new network predicts exactly zero: give the last layer something to do.
    torch.nn.init.normal_(network.final_layer.out_proj.weight, std=0.05)
    x = torch.randn(1, round(16000 * options.seconds), device=options.device)
    step, label = (torch.zeros(1, dtype=torch.long, device=options.device) for _ in range(2))
    low = options.precision == "bfloat16"

    def run(backward: bool) -> float:
        state = x.clone().requires_grad_(backward)
        context = torch.autocast(options.device, torch.bfloat16) if low else nullcontext()
        if options.device == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        with context, torch.set_grad_enabled(backward):
            out = network(state, step, label)
        if backward:
            torch.autograd.grad(out.square().sum(), state)
        if options.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    for name, backward in (("forward", False), ("forward + backward to the input", True)):
        seconds = min(run(backward) for _ in range(options.repeats))
        peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if options.device == "cuda":
            peak = torch.cuda.max_memory_allocated()
        used = f"peak {peak / 2**30:.2f} GiB, {torch.get_num_threads()} threads"
        print(f"{options.precision} {name}: {seconds:.2f} s, {used}", flush=True)


if __name__ == "__main__":
    main()
