"""How far every solver is from the exact posterior mean, on sources whose posterior is known: a Markdown table.

    OMP_NUM_THREADS=1 python benchmarks/known_posteriors.py --mixtures 4 --frames 4    # the table of docs/parity.md

Distances are norms relative to that of the exact mean, over all mixtures. "mean run" is the distance of a run whose
noise is all zeros: on Gaussian sources a solver that is linear then gives the mean of its samples exactly, and the
distance is its bias; for the others it is what it is. A sample of the exact posterior is as far as the line says.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from sourceprior.initial import noise
from sourceprior.losses import ReconstructionLoss
from sourceprior.metrics import si_sdr
from sourceprior.mixture import Mixture
from sourceprior.presets import recipe
from sourceprior.schedules import karras
from sourceprior.solvers.dirac import dirac
from sourceprior.solvers.posterior_mean import posterior_mean

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from known_posteriors import gaussian, gaussian_mixture

RMS = 0.08
Run = Callable[[Mixture, Sequence], Tensor]


def paper(preset: str, guidance: str, **options) -> Run:
    return lambda problem, generators: recipe(preset, guidance, **options)(problem, generators=generators)


def independent(problem: Mixture, generators: Sequence) -> Tensor:
    from dataclasses import replace

    return replace(recipe("paper"), shared_noise=False)(problem, generators=generators)


def karras_run(solver: Callable[..., Tensor], steps: int, low: float, high: float, **options) -> Run:
    def run(problem: Mixture, generators: Sequence) -> Tensor:
        sigmas = karras(steps, low * RMS, high * RMS)
        x = noise(problem, float(sigmas[0]), generators)
        return solver(problem, sigmas, x, generators=generators, **options)

    return run


SOLVERS: dict[str, Run] = {
    "posterior_mean, 20 levels": karras_run(posterior_mean, 20, 0.01, 20),
    "posterior_mean, temperature 0.1, 8 levels from 4": karras_run(posterior_mean, 8, 0.01, 4, temperature=0.1),
    "paper hybrid": paper("paper", "hybrid"),
    "paper DSG": paper("paper", "dsg"),
    "paper hybrid, from noise": paper("paper", "hybrid", from_noise=True),
    "paper hybrid, independent noise per source": independent,
    "paper hybrid, plain STFT": paper("paper", "hybrid", loss=ReconstructionLoss(unit=False)),
    "paper DPS, 1 / (2 K)": paper("paper", "dps"),
    "paper DPS, 0.1": paper("paper", "dps", dps_step=0.1),
    "paper DPS, 0.4": paper("paper", "dps", dps_step=0.4),
    "CQT-Diff rule, paper's loss": paper("paper", "cqt"),
    "paper analytical": paper("paper", "analytical"),
    "released hybrid": paper("released", "hybrid"),
    "released hybrid, σ(t) × 1": paper("released", "hybrid", std_scale=1.0),
    "released DSG": paper("released", "dsg"),
    "released DPS": paper("released", "dps"),
    "released analytical": paper("released", "analytical"),
    "dirac (MSDM: 150 levels, twice each)": karras_run(dirac, 150, 0.01, 20),
    "dirac, 16 times each": karras_run(dirac, 150, 0.01, 20, num_resamples=16),
    "dirac, likelihood gaussian (MSDM)": karras_run(dirac, 150, 0.01, 20, likelihood="gaussian"),
    "dirac, likelihood gaussian, 16 times each": karras_run(
        dirac, 150, 0.01, 20, likelihood="gaussian", num_resamples=16
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mixtures", type=int, default=8)
    parser.add_argument("--frames", type=int, default=8, help="length, in 256 samples")
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--only", default="", help="solvers whose name holds this")
    options = parser.parse_args()
    kinds = {"Gaussian": gaussian, "mixture": gaussian_mixture}
    cases = {}
    for kind, make in kinds.items():
        known = make(frames=options.frames, seed=options.seed % 1000)
        generator = torch.Generator().manual_seed(options.seed)
        x = torch.stack(
            [torch.stack([known.sample(k, generator) for k in range(2)]) for _ in range(options.mixtures)]
        ).float()
        exact, spread = known.posterior(x.sum(1).double(), [0, 1])
        exact = exact.float()
        cases[kind] = known.problem(x.sum(1), [0, 1]), x, exact
        halved = (x.sum(1)[:, None] / 2 - exact).norm() / exact.norm()
        sample = math.sqrt(float(spread.sum())) / exact.norm()
        quality = si_sdr(exact.numpy(), x.numpy()).mean()
        print(f"{kind}: exact mean {quality:.1f} dB; distance of a sample of the posterior {sample:.3f}, "
              f"of the mixture halved {halved:.3f}")  # fmt: skip
    print("\n| solver | Gaussian: one run | mean run | residual | SI-SDR | mixture: one run | residual | SI-SDR |")
    print("|---|---|---|---|---|---|---|---|")
    for name, run in SOLVERS.items():
        if options.only not in name:
            continue
        cells = []
        for kind, (problem, x, exact) in cases.items():
            with torch.no_grad():
                own = [torch.Generator().manual_seed(1000 * options.seed + i) for i in range(options.mixtures)]
                stems = run(problem, own)
                cells.append(f"{float((stems - exact).norm() / exact.norm()):.3f}")
                if kind == "Gaussian":
                    bias = run(problem, [torch.zeros] * options.mixtures)
                    cells.append(f"{float((bias - exact).norm() / exact.norm()):.3f}")
                cells.append(f"{float(problem.residual(stems).norm() / problem.y.norm()):.3f}")
                cells.append(f"{float(si_sdr(stems.numpy(), x.numpy()).mean()):.1f}")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
