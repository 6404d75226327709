"""Conv-TasNet (Luo and Mesgarani 2019): a learned filter bank, masks from dilated convolutions, and the way back."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TITLE = "Conv-TasNet"
SIZES: dict[str, dict[str, Any]] = {
    "small": {"filters": 256, "kernel": 32, "bottleneck": 96, "hidden": 192, "blocks": 7, "repeats": 2},
    "paper": {"filters": 512, "kernel": 32, "bottleneck": 128, "hidden": 512, "blocks": 8, "repeats": 3},
}
"""Options by name: what two cores can train in an hour, and the published one (with 2 ms filters, as at 16 kHz)."""


class Network(nn.Module):
    """Mixtures `(B, N)` to stems `(B, K, N)`.

    Args:
        sources: K.
        filters, kernel: of the filter bank, kernel in samples, hop half of it.
        bottleneck, hidden: channels of the separator between and within its blocks.
        blocks, repeats: blocks of dilation 1, 2, 4 ... and how often the series is run through.
    """

    def __init__(
        self, sources: int, filters: int = 256, kernel: int = 32, bottleneck: int = 96, hidden: int = 192,
        blocks: int = 7, repeats: int = 2,
    ) -> None:  # fmt: skip
        super().__init__()
        self.sources, self.filters, self.kernel = sources, filters, kernel
        self.encoder = nn.Conv1d(1, filters, kernel, stride=kernel // 2, bias=False)
        self.enter = nn.Sequential(nn.GroupNorm(1, filters), nn.Conv1d(filters, bottleneck, 1))
        self.blocks = nn.ModuleList([Block(bottleneck, hidden, 2**i) for _ in range(repeats) for i in range(blocks)])
        self.leave = nn.Sequential(Slope(), nn.Conv1d(bottleneck, sources * filters, 1), nn.ReLU())
        self.decoder = nn.ConvTranspose1d(filters, 1, kernel, stride=kernel // 2, bias=False)

    def forward(self, mixture: Tensor) -> Tensor:
        batch, length = mixture.shape
        level = mixture.square().mean(-1, keepdim=True).sqrt().clamp_min(1e-8)
        # Half a kernel of silence at both ends: every sample is then seen by two frames.
        hop = self.kernel // 2
        y = F.pad(mixture / level, (hop, hop + -length % hop))[:, None]
        code = self.encoder(y).relu()
        x = self.enter(code)
        skipped: Tensor | float = 0.0
        for block in self.blocks:
            x, skip = block(x)
            skipped = skipped + skip
        masks = self.leave(skipped).view(batch, self.sources, self.filters, -1)
        wave = self.decoder((masks * code[:, None]).flatten(0, 1)).view(batch, self.sources, -1)
        return wave[..., hop : hop + length] * level[:, None]


class Block(nn.Module):
    """1×1 up, dilated depthwise convolution, 1×1 down to what goes on and to what is skipped to the end."""

    def __init__(self, channels: int, hidden: int, dilation: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(channels, hidden, 1),
            Slope(),
            nn.GroupNorm(1, hidden),
            Depthwise(hidden, hidden, 3, padding=dilation, dilation=dilation, groups=hidden),
            Slope(),
            nn.GroupNorm(1, hidden),
        )
        self.out = nn.Conv1d(hidden, 2 * channels, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, T) -> the block's output and its skip, each (B, C, T)."""
        onward, skip = torch.chunk(self.out(self.body(x)), 2, dim=1)
        return x + onward, skip


class Slope(nn.PReLU):
    """PReLU of two rectifiers: on a CPU the backward pass of torch's own takes three times as long."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T) -> the same."""
        return x.relu() - self.weight.to(x.dtype) * (-x).relu()


class Depthwise(nn.Conv1d):
    """A depthwise convolution which, to be trained on a CPU, adds shifted copies: that is twice as quick there."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T) -> the same."""
        if x.device.type != "cpu" or not torch.is_grad_enabled() or self.bias is None:
            return super().forward(x)
        length, dilation, edge = x.shape[-1], self.dilation[0], int(self.padding[0])
        weight, bias = self.weight[:, 0, :, None].to(x.dtype), self.bias[:, None].to(x.dtype)
        padded = F.pad(x, (edge, edge))
        taps = [padded[..., i * dilation : i * dilation + length] * weight[:, i] for i in range(weight.shape[1])]
        return sum(taps, start=bias)
