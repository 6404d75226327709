"""What the paper's gradient solver loses on a prior: by its noise, by the gradient through the prior, or by the prior.

    OMP_NUM_THREADS=1 python benchmarks/guidance_parts.py --data DATA [-n 4] [--steps 100] [--task speech_sound]

Valid mixtures, the same for every row. Rows change one thing each: no noise after the start; a gradient that takes the
denoiser's Jacobian for the identity; and an oracle in the prior's place, the Wiener filter made from the true power of
every time-frequency cell: what the solver does where the prior knows everything but the phases. Every result
is printed as it comes; the table at the end is Markdown.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sourceprior import mixtures
from sourceprior.candidates import run as run_candidates
from sourceprior.datasets import read_manifest
from sourceprior.evaluation import FLOOR_DB
from sourceprior.labels import find
from sourceprior.library import load_priors
from sourceprior.metrics import bootstrap_interval, si_sdr
from sourceprior.mixture import Denoise, Mixture
from sourceprior.presets import paper_solver, scale_of
from sourceprior.priors import joint
from sourceprior.sampling import PRESETS
from sourceprior.solvers.posterior_mean import posterior_mean
from sourceprior.stft import istft, stft
from sourceprior.vp import frozen, noise_levels

ROWS: dict[str, dict[str, Any]] = {
    "hybrid": {},
    "hybrid, no noise after the start": {"step_noise": 0},
    "hybrid, Jacobian taken for 1": {"jacobian": "identity"},
    "hybrid, both": {"step_noise": 0, "jacobian": "identity"},
    "DPS": {"guidance": "dps"},
    "DPS, no noise after the start": {"guidance": "dps", "step_noise": 0},
    "posterior mean, default": {"guidance": None},
    "hybrid, oracle": {"oracle": True},
    "hybrid, oracle, no noise after the start": {"oracle": True, "step_noise": 0},
    "DPS, oracle": {"guidance": "dps", "oracle": True},
    "posterior mean, default, oracle": {"guidance": None, "oracle": True},
}
"""Options of the gradient solver, and whether an oracle takes the prior's place."""


def wiener(truth: Tensor) -> Denoise:
    """The denoiser of sources `(K, N)` whose power in every time-frequency cell is known."""
    power = stft(truth)[None].abs().square()

    def denoise(x: Tensor, sigma: float) -> Tensor:
        return istft(stft(x) * (power / (power + sigma**2)), x.shape[-1])

    return denoise


def separated(truth: Tensor, sources: list[Any], steps: int, seed: int, row: dict[str, Any]) -> Tensor:
    """Stems `(K, N)` of the sum of `truth`, at the priors' level."""
    level = float(np.mean([source.prior.level for source in sources]))
    gain = level * len(sources) ** 0.5 / truth.sum(0).square().mean().sqrt()
    clean = joint(sources, torch.device("cpu"))
    denoise = wiener(gain * truth) if row.get("oracle") else clean
    problem = Mixture(gain * truth.sum(0)[None], denoise, len(sources), clean.spectra)
    generator = torch.Generator().manual_seed(seed)
    options = {"guidance": "hybrid"} | {name: value for name, value in row.items() if name != "oracle"}
    with frozen([source.prior.denoiser for source in sources]):
        if options["guidance"]:
            scale = scale_of(sources)
            return paper_solver(
                problem, "gradient", "paper", options, steps=steps, scale=scale, generators=[generator]
            )[0]
        chosen = PRESETS["default"]
        denoisers = [source.prior.denoiser for source in sources]
        sigmas = noise_levels(denoisers, chosen.steps, chosen.sigma_min * level, chosen.sigma_max * level)
        with torch.no_grad():
            (answer,) = run_candidates(
                problem, sigmas, posterior_mean, generators=[generator], count=1, alike=list(range(len(sources))),
                **chosen.options,
            )  # fmt: skip
        return answer.stems


def main() -> None:
    """Every row on every mixture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--task", default="speech_sound")
    parser.add_argument("-n", "--count", type=int, default=4)
    parser.add_argument("--steps", type=int, default=100, help="T; three quarters of it are run")
    parser.add_argument("--seed", type=int, default=1, help="of the list of mixtures")
    parser.add_argument("--row", action="append", choices=list(ROWS))
    parser.add_argument("--speech", default="joined", help="as recorded in docs/experiments.md; or single")
    args = parser.parse_args()
    priors = load_priors(None)
    clips = read_manifest(args.data, "valid")
    usable = mixtures.usable_labels(clips, 2, {label for prior in priors for label in prior.labels})
    specs = mixtures.draw(args.task, args.count, clips, args.data, labels=usable, seed=args.seed, speech_as=args.speech)
    found: dict[str, list[float]] = {}
    measure: Callable[[Tensor, Tensor], float] = lambda stems, truth: float(  # noqa: E731
        np.maximum(si_sdr(stems.numpy(), truth.numpy()), FLOOR_DB).mean()
    )
    for spec in specs:
        truth = torch.from_numpy(mixtures.render(spec, args.data)).float()
        sources = find(spec.labels, priors)
        for name in args.row or ROWS:
            stems = separated(truth, sources, args.steps, spec.index, ROWS[name]).detach()
            found.setdefault(name, []).append(measure(stems, truth))
            print(f"{spec.index} {'+'.join(spec.labels)} {name}: {found[name][-1]:.2f}", flush=True)
    print("\n| | SI-SDR, dB | difference to the first |\n|---|---|---|")
    first = np.array(next(iter(found.values())))
    for name, row in found.items():
        values = np.array(row)
        low, high = bootstrap_interval(values - first)
        print(f"| {name} | {values.mean():.2f} | {(values - first).mean():+.2f} ({low:+.2f} to {high:+.2f}) |")


if __name__ == "__main__":
    main()
