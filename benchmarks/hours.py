"""What grows with a recording's length: three hours against three minutes, with a network that takes next to nothing.

    python benchmarks/hours.py [--hours 3] [--folder FOLDER]

The demo's mixture over and over, its level changing, stereo at 44.1 kHz, 16 bits; two sources whose priors are conv
U-Nets of a few channels, untrained, so that each is its class's Wiener filter; one step. All else is as in any run of
`separate`: blocks, windows, the rule for absent sources, resampling, pictures, three files written. The network's own
memory is that of the windows in flight whatever the length; `benchmarks/long.py` has it. Three hours need 8 GB of disk.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile as sf
import soxr
import torch

import child
from sourceprior.denoisers import SpectralDenoiser
from sourceprior.labels import find
from sourceprior.library import load_priors
from sourceprior.networks.conv_unet import ConvUNet
from sourceprior.priors import SourcePrior

RATE = 44100
LABELS = ("speech", "dog_bark")
EXAMPLE = Path(__file__).parents[1] / "examples" / "demo" / "mixture.wav"


def save_prior(folder: Path) -> None:
    """A prior of the two labels with the bundled ones' average spectra, and a network that leaves these as they are."""
    known = find(LABELS, load_priors(None))
    spectra = torch.stack([source.prior.denoiser.average[source.index] for source in known])
    torch.manual_seed(0)
    network = ConvUNet(
        inputs=5, outputs=3, classes=len(LABELS), widths=(4, 4), depths=(1, 1), bottom=8, dilations=(1,), condition=8
    )
    config = {
        "denoiser": {"class": "denoisers.SpectralDenoiser"},
        "network": {"class": "conv_unet.ConvUNet", "options": network.config},
    }
    first = known[0].prior
    denoiser = SpectralDenoiser(network, spectra, first.level).eval()
    tiny = SourcePrior("tiny", denoiser, LABELS, first.sample_rate, first.level, "CC0-1.0", config, "# tiny\n")
    tiny.save_pretrained(folder)


def write(path: Path, minutes: float) -> None:
    """The example over and over, every time at another level and with another place between the channels."""
    mixture, own = sf.read(EXAMPLE, dtype="float32", always_2d=True)
    piece = soxr.resample(mixture.mean(1), own, RATE)
    piece = piece * (0.3 / np.abs(piece).max())
    generator = np.random.default_rng(0)
    left = round(60 * minutes * RATE)
    with sf.SoundFile(path, "w", RATE, 2, "PCM_16") as file:
        while left:
            file.write(np.outer(piece[:left], generator.uniform(0.3, 1.0, 2)))
            left -= min(left, len(piece))


def main() -> None:
    """Measure, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=3.0)
    parser.add_argument("--folder", type=Path, help="where the recordings go; by default that of temporary files")
    args = parser.parse_args()
    print("| minutes | seconds per second | of the processor | peak memory |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory(dir=args.folder) as temporary:
        folder = Path(temporary)
        save_prior(folder / "prior")
        words = [
            sys.executable,
            "-m",
            "sourceprior",
            "separate",
            "--prior",
            str(folder / "prior"),
            "-q",
            "--steps",
            "1",
        ]
        words += [word for label in LABELS for word in ("-s", label)]
        for minutes in (1 / 60, 3.0, 60 * args.hours):
            path = folder / "mix.wav"
            write(path, minutes)
            found = child.run([*words, str(path), "-o", str(folder / "out"), "--overwrite"])
            print(json.dumps({"minutes": minutes} | found), file=sys.stderr, flush=True)
            if minutes < 1:
                start = found
                continue
            cells = [(found[key] - start[key]) / (60 * minutes) for key in ("seconds", "processor_seconds")]
            print(f"| {minutes:g} | {cells[0]:.4f} | {cells[1]:.4f} | {found['peak_mib']:.0f} MiB |", flush=True)


if __name__ == "__main__":
    main()
