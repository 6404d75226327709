"""Seconds and memory of a separation on this machine, and how far that is from what the machine could do.

    python benchmarks/speed.py [--prior FOLDER ...] [--seconds 4] [--json benchmarks/speed.json]
    python benchmarks/speed.py --minute

Separates the first seconds of the demo mixture, two sources, with the presets for everyday use, and as two speakers
with the default preset (the prior then looks for parts of the label first): once loaded (the median of several runs,
split into network, Fourier transforms and the rest), and as a whole process (imports and loading included, with its
peak memory). The limit is the network's floating-point work at the rate this machine multiplies large matrices, in the
precision the network uses here.

With `--minute` it is a file of one minute instead, with 1, 2 and 4 sources: the whole process by the clock and by the
processor (which other programs on the machine hardly lengthen), until the first samples of a stem are on disk, and its
peak memory; and the time to import.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf
import torch
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

import child
from sourceprior import separate
from sourceprior.labels import find
from sourceprior.library import load_priors
from sourceprior.priors import SourcePrior, fast_bfloat16

DEMO = Path(__file__).parent.parent / "examples" / "demo" / "mixture.wav"
LABELS = ["speech", "dog_bark"]
ROWS = [*((preset, LABELS) for preset in ("fast", "default", "best", "sample")), ("default", ["speech", "speech"])]
MORE_LABELS = [*LABELS, "rain", "siren"]


class FourierSeconds(TorchFunctionMode):
    """Adds up the time spent in torch.stft and torch.istft."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        started = time.perf_counter()
        result = func(*args, **(kwargs or {}))
        if func in (torch.stft, torch.istft):
            self.seconds += time.perf_counter() - started
        return result


class NetworkSeconds:
    """Adds up the time spent in the priors' networks."""

    def __init__(self, priors: list[SourcePrior]) -> None:
        self.seconds = 0.0
        for prior in priors:
            prior.denoiser.network.register_forward_pre_hook(self._start)
            prior.denoiser.network.register_forward_hook(self._stop)

    def _start(self, *_: Any) -> None:
        self.seconds -= time.perf_counter()

    def _stop(self, *_: Any) -> None:
        self.seconds += time.perf_counter()


def matrix_rate(size: int = 2048) -> float:
    """Floating-point operations per second of a large matrix product in the precision that the network uses."""
    kind = torch.bfloat16 if fast_bfloat16("cpu") else torch.float32
    a, b = torch.randn(2, size, size).to(kind)
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        a @ b
        seconds.append(time.perf_counter() - started)
    return 2 * size**3 / min(seconds)


def once_loaded(
    preset: str, labels: list[str], samples: Any, rate: int, priors: list[SourcePrior], runs: int
) -> dict[str, float]:
    """Median seconds of a separation in this process, and where they go."""
    network, table = NetworkSeconds(priors), []
    for _ in range(runs + 1):
        network.seconds = 0.0
        with FourierSeconds() as fourier:
            started = time.perf_counter()
            separate(samples, rate, labels, prior=priors, preset=preset, device="cpu")
            total = time.perf_counter() - started
        table.append((total, network.seconds, fourier.seconds, total - network.seconds - fourier.seconds))
    # The first run warms up: it is the slowest, and no person's second file is.
    middle = sorted(table[1:])[runs // 2]
    with FlopCounterMode(display=False) as counter:
        separate(samples, rate, labels, prior=priors, preset=preset, device="cpu")
    names = ("seconds", "network", "fourier", "rest")
    return dict(zip(names, middle, strict=True)) | {"gflop": counter.get_total_flops() / 1e9}


def whole_process(preset: str, labels: list[str], file: Path, folders: list[str]) -> dict[str, float]:
    """Seconds and peak memory (MiB) of the command line from start to end, picture included."""
    words = [sys.executable, "-m", "sourceprior", "separate", str(file), "--preset", preset, "-q", "--device", "cpu"]
    for label in labels:
        words += ["-s", label]
    for folder in folders:
        words += ["--prior", folder]
    with tempfile.TemporaryDirectory() as out:
        found = child.run([*words, "-o", out])
        return {"process_seconds": found["seconds"], "peak_mib": found["peak_mib"]}


def minute() -> None:
    """Print the table of a file of one minute, with the default preset."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import sourceprior.separation"], check=True)
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"import sourceprior.separation, python included: {time.perf_counter() - started:.1f} s")
    print("| sources | whole process | per second of audio | of the processor | first output | peak memory |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        samples, rate = sf.read(DEMO, dtype="float32")
        file, seconds = Path(folder) / "minute.wav", 60
        sf.write(file, np.resize(samples, seconds * rate), rate)
        for count in (1, 2, 4):
            words = [sys.executable, "-m", "sourceprior", "separate", str(file), "-q", "--device", "cpu"]
            words += [word for label in MORE_LABELS[:count] for word in ("-s", label)]
            started, out, first = time.perf_counter(), Path(folder) / str(count), []

            def watch(started: float = started, out: Path = out, first: list[float] = first) -> None:
                if not first and begun(out):
                    first.append(time.perf_counter() - started)

            found = child.run([*words, "-o", str(out)], watch)
            print(
                f"| {count} | {found['seconds']:.1f} s | {found['seconds'] / seconds:.2f} s |"
                f" {found['processor_seconds'] / seconds:.2f} s | {first[0]:.1f} s | {found['peak_mib']:.0f} MiB |",
                flush=True,
            )


def begun(folder: Path) -> bool:
    """Whether samples of a stem are on disk, in a half-written file or a whole one."""
    sizes = []
    for file in folder.glob("*"):
        with contextlib.suppress(FileNotFoundError):
            sizes.append(file.stat().st_size)
    return max(sizes, default=0) > 10_000


def main() -> None:
    """Measure, print a table, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prior", action="append", default=[], help="prior folder; the bundled ones by default")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--minute", action="store_true", help="a file of one minute instead")
    options = parser.parse_args()
    if options.minute:
        minute()
        return

    priors = load_priors(options.prior or None)
    used = list({id(source.prior): source.prior for source in find(LABELS, priors)}.values())
    samples, rate = sf.read(DEMO, dtype="float32", frames=round(options.seconds * sf.info(DEMO).samplerate))
    rates = statistics.median(matrix_rate() for _ in range(3))
    figures: dict[str, Any] = {
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
        "matrix_tflops": rates / 1e12,
        "seconds_of_audio": len(samples) / rate,
        "presets": {},
    }
    print(f"{figures['machine']}; matrix products: {rates / 1e12:.2f} TFLOP/s")
    print("| preset | once loaded | network | Fourier | rest | GFLOP | limit | whole process | peak memory |")
    print("|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "mixture.wav"
        sf.write(file, samples, rate)
        for preset, labels in ROWS:
            row = once_loaded(preset, labels, samples, rate, used, options.runs)
            row |= whole_process(preset, labels, file, options.prior)
            row["limit_seconds"] = row["gflop"] * 1e9 / rates
            name = preset if labels == LABELS else f"{preset}, {' + '.join(labels)}"
            figures["presets"][name] = row
            print(
                f"| {name} | {row['seconds']:.2f} s | {row['network']:.2f} s | {row['fourier']:.2f} s |"
                f" {row['rest']:.2f} s | {row['gflop']:.0f} | {row['limit_seconds']:.2f} s |"
                f" {row['process_seconds']:.1f} s | {row['peak_mib']:.0f} MiB |"
            )
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
