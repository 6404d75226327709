"""Between the two ways to read a network: noise in a variance-preserving state, or the clean signal at a noise level.

A variance-preserving state x_t = √ᾱ_t (x_0 + σ_t ε), σ_t = √((1 - ᾱ_t) / ᾱ_t), is a noisy waveform at level σ_t
scaled by √ᾱ_t = 1 / √(1 + σ_t²). So D(x, σ) = x - σ ε̂(x / √(1 + σ²), t(σ)), and back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sourceprior.errors import UserError
from sourceprior.mixture import Denoise
from sourceprior.schedules import VP, karras, vp_linear

TIMESCALE = 1000
"""Timesteps reach a network as if every process had a thousand of them."""


class VPDenoiser(nn.Module):
    """An ε-network read as the denoiser D(x, σ, label) of the project's contract.

    Args:
        network: called as network(x_t (B, N), condition (B,), label (B,)) -> ε̂ (B, N).
        process: β range and number of steps it was trained with; the paper's by default.
        condition: what the network is told: "timestep", t · 1000 / T, or "beta", β_t; by default what its attribute
            `condition` says.
        interpolate: between the trained steps, feed a fractional timestep (or β); otherwise the nearest step's own,
            rounded down to an integer as the released code does.
        spectrum: average power per STFT bin of every class, (classes, 513); that of white noise at `level` by default.
        level: RMS of a typical source in training, linear full scale; by default -22.5 dBFS, the paper's.
    """

    def __init__(
        self,
        network: nn.Module,
        process: VP | None = None,
        *,
        condition: Literal["timestep", "beta"] | None = None,
        interpolate: bool = False,
        spectrum: Tensor | None = None,
        level: float = 10 ** (-22.5 / 20),
    ) -> None:
        super().__init__()
        told = network.condition if condition is None else condition
        if told not in ("timestep", "beta"):
            raise ValueError(f"An ε-network is conditioned on its 'timestep' or its 'beta', not on {told!r}.")
        self.network = network
        self.process = vp_linear() if process is None else process
        self.condition = str(told)
        self.interpolate = interpolate
        self.level = level
        self.average: Tensor
        self.register_buffer("average", torch.full((1, 513), level**2) if spectrum is None else spectrum.float())

    @property
    def levels(self) -> Tensor:
        """Noise levels the network was trained at, (T,), ascending, in units of the waveform."""
        return self.process.levels

    @classmethod
    def from_config(cls, network: nn.Module, config: dict[str, Any]) -> VPDenoiser:
        """For `priors.build`: the process is in the config, the spectra are part of the weights, loaded afterwards."""
        process = vp_linear(**config["denoiser"].get("process", {}))
        return cls(network, process, spectrum=torch.ones(len(config["labels"]), 513), level=float(config["level"]))

    def under(self, process: VP) -> VPDenoiser:
        """The same network, told steps of another process, in whose noise levels it then reads and answers.

        What the network makes of timestep t · 1000 / T of that process is its own affair: it stands for another noise
        level than the one it was trained with, unless the two processes are the same.
        """
        return VPDenoiser(
            self.network,
            process,
            condition="beta" if self.condition == "beta" else "timestep",
            interpolate=self.interpolate,
            spectrum=self.average,
            level=self.level,
        ).train(self.training)

    def spectrum(self, label: Tensor) -> Tensor:
        """Average power per STFT bin of each class: label (B,) -> (B, 513)."""
        return self.average[label.clamp(max=len(self.average) - 1)]

    def forward(self, x: Tensor, sigma: Tensor, label: Tensor) -> Tensor:
        """Denoise x (B, N) at noise levels sigma (B,) > 0 for classes label (B,).

        Levels outside those of the process are fed as its first or last step.
        """
        scale = torch.rsqrt(1 + _wide(sigma).square()).to(x)
        noise = self.network(scale[:, None] * x, self.fed(sigma), label)
        return x - sigma.to(x.dtype)[:, None] * noise

    def fed(self, sigma: Tensor) -> Tensor:
        """What the network is told at noise levels sigma (B,): timesteps or β, (B,)."""
        position = self.position(sigma)
        if self.condition == "beta":
            betas = self.process.betas.to(position)
            low = position.long()
            high = (low + 1).clamp(max=len(betas) - 1)
            return torch.lerp(betas[low], betas[high], position - low).float().to(sigma.device)
        # Single precision before rounding down, as released: step 57 of 60 is then fed as 949, not 950.
        timestep = position.float() * (TIMESCALE / len(self.process))
        return (timestep if self.interpolate else timestep.long()).to(sigma.device)

    def position(self, sigma: Tensor) -> Tensor:
        """Step of the process with noise level sigma (B,), interpolated in ln σ or the nearest: (B,) float64."""
        wanted = _wide(sigma).log()
        levels = self.process.levels.to(wanted.device).log()
        wanted = wanted.clamp(levels[0], levels[-1])
        high = torch.searchsorted(levels, wanted.contiguous()).clamp(1, max(1, len(levels) - 1))
        if len(levels) == 1:
            return torch.zeros_like(wanted)
        low = high - 1
        position = low + (wanted - levels[low]) / (levels[high] - levels[low])
        return position if self.interpolate else position.round()


def _wide(sigma: Tensor) -> Tensor:
    """In float64, on the CPU where the device has none."""
    return (sigma.cpu() if sigma.device.type == "mps" else sigma).double()


def noise_levels(denoisers: Iterable[nn.Module], steps: int, sigma_min: float, sigma_max: float) -> Tensor:
    """Karras levels for a solver, kept to what the denoisers know: descending, last 0, at most (steps + 1,).

    An ε-network knows the levels of its process only (`levels`): the range is narrowed to what all of them know, and
    every level moved to the nearest trained one, each taken once. Denoisers without `levels` know any.

    Raises:
        UserError: nothing of the range is known to all.
    """
    known = (getattr(denoiser, "levels", None) for denoiser in denoisers)
    trained: list[Tensor] = [levels for levels in known if levels is not None]
    low = max([sigma_min, *(float(levels[0]) for levels in trained)])
    high = min([sigma_max, *(float(levels[-1]) for levels in trained)])
    if low > high:
        span = f"{max(float(v[0]) for v in trained):.3g} to {min(float(v[-1]) for v in trained):.3g}"
        raise UserError(f"The priors know noise levels of {span} only, not {sigma_min:.3g} to {sigma_max:.3g}.")
    sigmas = karras(steps, low, high)
    for levels in trained:
        distance = (sigmas[:-1, None].double().log() - levels.log()).abs()
        nearest = levels[distance.argmin(1).unique()].flip(0)
        sigmas = torch.cat([nearest, nearest.new_zeros(1)]).float()
    return sigmas


@contextmanager
def frozen(denoisers: Iterable[nn.Module]) -> Iterator[None]:
    """Within, no parameter of the denoisers wants a gradient, so that nothing is kept or computed for theirs."""
    wanted = [parameter for denoiser in denoisers for parameter in denoiser.parameters() if parameter.requires_grad]
    try:
        for parameter in wanted:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)


def noise_predictor(denoiser: Callable[[Tensor, Tensor, Tensor], Tensor], process: VP) -> Callable[..., Tensor]:
    """A denoiser D(x, σ, label) read as an ε-network of `process`.

    Returns:
        A function of the state x_t (B, N), the steps t (B,) in 0 … T-1 and the labels (B,), giving ε̂ (B, N).
    """

    def predict(state: Tensor, step: Tensor, label: Tensor) -> Tensor:
        levels = process.levels.to(state.device)[step]
        sigma = levels.to(state.dtype)
        # 1 / √ᾱ_t = √(1 + σ_t²)
        x = state * (1 + levels.square()).sqrt().to(state.dtype)[:, None]
        return (x - denoiser(x, sigma, label)) / sigma[:, None]

    return predict


def joint(denoisers: Sequence[nn.Module], labels: Sequence[int]) -> Callable[[Tensor, float], Tensor]:
    """The joint denoiser (B, K, N), σ -> (B, K, N) of sources given by denoiser and label index.

    Sources with the same denoiser object go through it in one batch.
    """
    if len(denoisers) != len(labels):
        raise ValueError(f"{len(denoisers)} denoisers and {len(labels)} labels: one label per source is needed.")
    groups: dict[int, list[int]] = {}
    for source, denoiser in enumerate(denoisers):
        groups.setdefault(id(denoiser), []).append(source)

    def denoise(x: Tensor, sigma: float) -> Tensor:
        batch, sources, length = x.shape
        if sources != len(labels):
            raise ValueError(f"The state has {sources} sources, the denoiser {len(labels)}.")
        clean: list[Tensor] = [x] * sources
        for members in groups.values():
            label = torch.tensor([labels[k] for k in members], device=x.device).repeat(batch)
            level = torch.full((batch * len(members),), float(sigma), dtype=torch.float64, device=x.device)
            out = denoisers[members[0]](x[:, members].reshape(-1, length), level, label)
            for k, own in zip(members, out.view(batch, len(members), length).unbind(1), strict=True):
                clean[k] = own
        return torch.stack(clean, dim=1)

    return denoise


def classifier_free(
    conditional: Denoise, unconditional: Denoise, scale: float, members: Sequence[int] | None = None
) -> Denoise:
    """Classifier-free guidance of joint denoisers: D_null + scale (D_label - D_null); scale 1 is D_label alone.

    Args:
        members: indices of the sources that are guided, the ones `unconditional` is for, in its order; all by default.
    """
    if scale == 1:
        return conditional

    def denoise(x: Tensor, sigma: float) -> Tensor:
        clean = conditional(x, sigma)
        if members is None:
            return torch.lerp(unconditional(x, sigma), clean, scale)
        rows = torch.tensor(members, device=x.device)
        own = torch.lerp(unconditional(x[:, rows], sigma), clean[:, rows], scale)
        return clean.index_copy(1, rows, own)

    return denoise


def training_target(process: VP, clean: Tensor, step: Tensor, noise: Tensor) -> Tensor:
    """The state x_t (B, N) whose noise an ε-network learns to predict: √ᾱ_t x_0 + √(1 - ᾱ_t) ε (paper, eq. 1)."""
    alpha_bar = process.alpha_bars.to(clean.device)[step][:, None]
    return alpha_bar.sqrt().to(clean.dtype) * clean + (1 - alpha_bar).sqrt().to(clean.dtype) * noise
