"""UnDiff's DiffWave-Large: dilated convolutions on the waveform, conditioned on the schedule's β (arXiv 2306.00721).

The baseline backbone of the paper's Table 3. Parameter names and shapes are those of the published checkpoint.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

EMBEDDING = 512
FREQUENCIES = 64


class RandomFourierFeatures(nn.Module):
    """Cosines, then sines, of 2π value x 64 fixed Gaussian frequencies: (B,) -> (B, 128)."""

    def __init__(self) -> None:
        super().__init__()
        self.gaussian: Tensor
        self.register_buffer("gaussian", 16 * torch.randn(1, FREQUENCIES))

    def forward(self, value: Tensor) -> Tensor:
        angle = 2 * math.pi * value[:, None] * self.gaussian
        return torch.cat((angle.cos(), angle.sin()), dim=-1)


class NoiseEmbedding(nn.Module):
    """β (B,) -> condition (B, 512), through the Fourier features of log10 β."""

    def __init__(self) -> None:
        super().__init__()
        self.rff = RandomFourierFeatures()
        self.proj1 = nn.Linear(2 * FREQUENCIES, EMBEDDING)
        self.proj2 = nn.Linear(EMBEDDING, EMBEDDING)

    def forward(self, beta: Tensor) -> Tensor:
        features = self.rff(torch.log10(beta))
        return nn.functional.silu(self.proj2(nn.functional.silu(self.proj1(features))))


class SqueezeExcitation(nn.Module):
    """Scales every channel by a gate computed from all channels' means: (B, C, N) -> (B, C, N)."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.excitation = nn.Sequential(
            nn.Linear(channels, channels // reduction, bias=False),
            nn.ReLU(),
            nn.Linear(channels // reduction, channels, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.excitation(x.mean(dim=-1))[..., None]


class ResidualLayer(nn.Module):
    """One gated dilated convolution: (B, C, N), (B, 512) -> (next state, skip), both (B, C, N)."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.dilated_conv = nn.Conv1d(channels, 2 * channels, 3, padding=dilation, dilation=dilation)
        self.diffusion_projection = nn.Linear(EMBEDDING, channels)
        self.output_projection = nn.Conv1d(channels, 2 * channels, 1)
        self.se_skip = SqueezeExcitation(channels)

    def forward(self, x: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        gate, value = self.dilated_conv(x + self.diffusion_projection(condition)[..., None]).chunk(2, dim=1)
        residual, skip = self.output_projection(torch.sigmoid(gate) * torch.tanh(value)).chunk(2, dim=1)
        return (x + residual) / math.sqrt(2), self.se_skip(skip)


class DiffWave(nn.Module):
    """ε-network of UnDiff: 48 layers of 256 channels, about 33 M parameters.

    Args:
        layers: residual layers.
        channels: width; at least 16, for the squeeze-excitation divides it by 16.
        dilation_cycle: layer i has dilation 2^(i mod dilation_cycle).
        checkpoint: keep only every layer's input for the backward pass; it changes no result.

    Raises:
        ValueError: fewer than one layer, or fewer than 16 channels.
    """

    condition = "beta"
    """What the network wants to be told about the noise."""

    def __init__(
        self, layers: int = 48, channels: int = 256, dilation_cycle: int = 12, *, checkpoint: bool = True
    ) -> None:
        super().__init__()
        if layers < 1 or channels < 16 or dilation_cycle < 1:
            raise ValueError(
                "DiffWave needs at least one layer, 16 channels and a dilation cycle of 1, "
                f"not {layers}, {channels} and {dilation_cycle}."
            )
        self.config = {"layers": layers, "channels": channels, "dilation_cycle": dilation_cycle}
        self.checkpoint = checkpoint
        self.input_projection = nn.Conv1d(1, channels, 1)
        self.diffusion_embedding = NoiseEmbedding()
        self.residual_layers = nn.ModuleList(ResidualLayer(channels, 2 ** (i % dilation_cycle)) for i in range(layers))
        self.skip_projection = nn.Conv1d(channels, channels, 1)
        self.output_projection = nn.Conv1d(channels, 1, 1)
        for conv in (self.input_projection, self.skip_projection):
            nn.init.kaiming_normal_(conv.weight)
        # A new network predicts no noise: training then starts from the same place whatever the width.
        nn.init.zeros_(self.output_projection.weight)

    def forward(self, waveform: Tensor, beta: Tensor, label: Tensor | None = None) -> Tensor:
        """The noise in `waveform`.

        Args:
            waveform: (B, N) noisy waveform at variance-preserving scale.
            beta: (B,) β_t of the schedule, in (0, 1).
            label: there is only one class; taken so that all ε-networks are called alike.

        Returns:
            (B, N) estimate of the unit-variance noise ε.
        """
        x = torch.relu(self.input_projection(waveform[:, None]))
        condition = self.diffusion_embedding(beta)
        total = torch.zeros_like(x)
        for layer in self.residual_layers:
            if self.checkpoint and torch.is_grad_enabled():
                x, skip = checkpoint(layer, x, condition, use_reentrant=False)
            else:
                x, skip = layer(x, condition)
            total = total + skip
        total = total / math.sqrt(len(self.residual_layers))
        return self.output_projection(torch.relu(self.skip_projection(total)))[:, 0]
