"""Any solver on any prior: the authors' networks read as denoisers, and the compact one, under every solver."""

import json
import pkgutil

import pytest
import soundfile as sf
import torch
from torch import nn

from conftest import LEVEL, RATE, tiny_prior
from golden_case import filled, relative
from known_posteriors import KnownDenoiser, gaussian
from sourceprior import solvers
from sourceprior.cli import app
from sourceprior.errors import UserError
from sourceprior.networks.attention_unet import AttentionUNet
from sourceprior.networks.diffwave import DiffWave
from sourceprior.priors import Source, SourcePrior
from sourceprior.sampling import settings_of, solve
from sourceprior.schedules import vp_linear
from sourceprior.solver_choice import check_options, find_solver
from sourceprior.vp import VPDenoiser, noise_levels

SOLVERS = [module.name for module in pkgutil.iter_modules(solvers.__path__)]
FRAMES = 2


class ExactNoise(nn.Module):
    """The ε-network of Gaussian sources whose denoiser is known, at the trained steps of a process and nowhere else."""

    def __init__(self, known: KnownDenoiser, condition: str) -> None:
        super().__init__()
        self.known, self.condition, self.process = known, condition, vp_linear()

    def forward(self, state, told, label):
        if self.condition == "beta":
            step = (self.process.betas.float()[None] - told[:, None]).abs().argmin(1)
        else:
            step = torch.ceil(told * len(self.process) / 1000).long()
        alpha_bar, sigma = self.process.alpha_bars[step].float(), self.process.levels[step].float()
        x = state / alpha_bar.sqrt()[:, None]
        return (x - self.known(x, sigma, label)) / sigma[:, None]


class Known(nn.Module):
    """The same denoiser without the network, for any level, in single precision."""

    def __init__(self, known: KnownDenoiser) -> None:
        super().__init__()
        self.known = known

    def forward(self, x, sigma, label):
        return self.known(x, sigma, label)

    def spectrum(self, label):
        return self.known.spectrum(label).float()


def prior_of(denoiser, labels=("a", "b")) -> SourcePrior:
    return SourcePrior("known", denoiser, labels, RATE, LEVEL, "CC0-1.0")


@pytest.mark.parametrize("condition", ["timestep", "beta"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_an_exact_network_separates_as_the_denoiser_it_stands_for(solver, condition, monkeypatch):
    monkeypatch.setattr("sourceprior.priors.fast_bfloat16", lambda device: False)
    known = gaussian(frames=FRAMES)
    spectrum = known.spectrum(torch.arange(2)).float()
    network = VPDenoiser(ExactNoise(known, condition), spectrum=spectrum, level=LEVEL)
    generator = torch.Generator().manual_seed(0)
    y = sum(known.sample(k, generator) for k in range(2)).float()
    chosen = settings_of("paper" if solver in ("gradient", "analytical") else "sample", solver=solver, candidates=1)
    asked = []
    through, direct = prior_of(network), prior_of(Known(known))
    inner = network.fed
    monkeypatch.setattr(network, "fed", lambda sigma: asked.extend(sigma.tolist()) or inner(sigma))
    stems = solve(y, [Source(through, k, "ab"[k]) for k in range(2)], chosen)[0]
    # Nothing was asked of the network outside of what it knows.
    levels = vp_linear().levels
    assert min(asked) >= float(levels[0]) * (1 - 1e-6)
    assert max(asked) <= float(levels[-1]) * (1 + 1e-6)
    monkeypatch.setattr(direct.denoiser, "levels", levels, raising=False)
    expected = solve(y, [Source(direct, k, "ab"[k]) for k in range(2)], chosen)[0]
    assert relative(stems, expected) < 1e-3
    exact = known.posterior_mean(y[None].double(), [0, 1])[0]
    nothing = relative(y.expand(2, -1) / 2, exact)
    assert relative(stems, exact) < 0.7 * nothing


def call(words: list[str]) -> None:
    """The command line, without a process of its own."""
    assert not app(words, standalone_mode=False)


def tiny(kind: str, folder) -> None:
    """A prior with random weights on disk: every part of the way is there, and nothing of it means anything."""
    if kind == "compact":
        tiny_prior("compact", ("anything", "Bark", "rain")).save_pretrained(folder)
        return
    network = AttentionUNet(8, 3, blocks=(1, 1, 1, 1, 1)) if kind == "attention_unet" else DiffWave(3, 16)
    torch.save({"model": {}, "ema": filled(network).state_dict()}, f"{folder}.pt")
    classes = ["--classes", "anything,Bark,rain"] if kind == "attention_unet" else []
    call(["convert", f"{folder}.pt", str(folder), *classes])


@pytest.mark.parametrize("kind", ["attention_unet", "diffwave", "compact"])
def test_every_solver_from_the_command_line(kind, tmp_path, mixture):
    sf.write(tmp_path / "mix.wav", mixture["mixture"][:1201], RATE, subtype="FLOAT")
    tiny(kind, tmp_path / "prior")
    names = ["speech", "speech"] if kind == "diffwave" else ["Bark", "rain"]
    scale = [] if kind == "diffwave" else ["--label-scale", "1.5"]
    runs = {solver: ["--solver", solver] for solver in SOLVERS}
    runs |= {"gaussian": ["--solver", "dirac", "-O", "likelihood=gaussian"]}
    runs |= {"released": ["--preset", "released", "-O", "start=1"]}
    for name, words in runs.items():
        out = tmp_path / name
        sources = [word for label in names for word in ("-s", label)]
        call(["separate", str(tmp_path / "mix.wav"), *sources, "-o", str(out), "--prior", str(tmp_path / "prior"),
              "--steps", "2", "--no-picture", "-q", *scale, *words])  # fmt: skip
        report = json.loads((out / "report.json").read_text())
        stems = [sf.read(out / file)[0] for file in report["files"]]
        assert len(stems) == 3
        assert relative(torch.tensor(sum(stems)), torch.tensor(mixture["mixture"][:1201])) < 1e-3
        assert max(float(abs(stem).max()) for stem in stems) > 0


def test_noise_levels_are_those_a_network_knows():
    network = VPDenoiser(ExactNoise(gaussian(frames=1), "beta"))
    levels = network.levels
    plain = noise_levels([nn.Identity()], 20, 1e-4, 9.0)
    assert plain[0] == 9
    for steps in (1, 8, 500):
        sigmas = noise_levels([nn.Identity(), network], steps, 1e-4, 9.0)
        assert sigmas[-1] == 0
        assert (sigmas.diff() < 0).all()
        assert len(sigmas) <= steps + 1
        assert all(float((levels.float() - sigma).abs().min()) == 0 for sigma in sigmas[:-1])
    assert float(noise_levels([network], 8, 1e-4, 9.0)[0]) == pytest.approx(float(levels[-1]))
    assert float(noise_levels([network], 8, 1e-4, 9.0)[-2]) == pytest.approx(float(levels[0]))
    with pytest.raises(UserError, match=r"know noise levels of 0\.01 to 2\.56 only"):
        noise_levels([network], 8, 1e-4, 1e-3)


def test_options_that_do_not_fit_are_named():
    for solver, name in (("dirac", "gamma"), ("gradient", "dps_step"), ("gradient", "clip"), ("analytical", "peak")):
        with pytest.raises(UserError, match=f"{name} of {solver} is a number.*; 'wide' does not fit"):
            check_options(find_solver(solver), {name: "wide"})
        assert check_options(find_solver(solver), {name: None}) == {name: None}


def test_a_run_that_diverges_is_told():
    known = prior_of(Known(gaussian(frames=2)))
    sources = [Source(known, 0, "a"), Source(known, 1, "b")]
    settings = settings_of("sample", solver="dirac", steps=20, options={"likelihood": "gaussian", "gamma": 1e-4})
    with pytest.raises(UserError, match="dirac diverged"):
        solve(torch.randn(512), sources, settings)
