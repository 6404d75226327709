"""TF-LoCoformer (Saijo et al. 2024): attention over frequency and over time, with convolutions for what is near."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TITLE = "TF-LoCoformer"
SIZES: dict[str, dict[str, Any]] = {
    "small": {"width": 32, "hidden": 64, "blocks": 2, "heads": 4},
    "paper": {"width": 128, "hidden": 384, "blocks": 6, "heads": 4},
}
"""Options by name: what two cores can train at all, and the published medium one."""


class Network(nn.Module):
    """Mixtures `(B, N)` to stems `(B, K, N)`, by mapping the complex spectrogram of one to those of the others.

    Args:
        sources: K.
        width, hidden: channels of the time-frequency map, and within a feed-forward part.
        blocks: each one pass over frequency and one over time.
        heads: of the attention.
        n_fft, hop: of the STFT (square-root Hann), in samples.
    """

    def __init__(
        self, sources: int, width: int = 32, hidden: int = 64, blocks: int = 2, heads: int = 4, n_fft: int = 512,
        hop: int = 256,
    ) -> None:  # fmt: skip
        super().__init__()
        self.sources, self.n_fft, self.hop = sources, n_fft, hop
        self.window: Tensor
        self.register_buffer("window", torch.hann_window(n_fft).sqrt(), persistent=False)
        self.enter = nn.Sequential(nn.Conv2d(2, width, 3, padding=1), nn.GroupNorm(1, width))
        self.paths = nn.ModuleList([Path(width, hidden, heads) for _ in range(2 * blocks)])
        self.leave = nn.ConvTranspose2d(width, 2 * sources, 3, padding=1)

    def forward(self, mixture: Tensor) -> Tensor:
        batch, length = mixture.shape
        level = mixture.square().mean(-1, keepdim=True).sqrt().clamp_min(1e-8)
        spectrum = torch.stft(mixture / level, self.n_fft, self.hop, window=self.window, pad_mode="constant",
                              return_complex=True)  # fmt: skip
        x = self.enter(torch.view_as_real(spectrum).permute(0, 3, 2, 1))  # (B, width, T, F)
        x = x.permute(0, 2, 3, 1)
        for path in self.paths:
            # Transposed after every pass: rows are frames, then bins, then frames again.
            x = path(x.flatten(0, 1)).view_as(x).transpose(1, 2).contiguous()
        out = self.leave(x.permute(0, 3, 1, 2)).unflatten(1, (self.sources, 2))  # (B, K, 2, T, F)
        complex_ = torch.view_as_complex(out.permute(0, 1, 4, 3, 2).float().contiguous()).flatten(0, 1)
        wave = torch.istft(complex_, self.n_fft, self.hop, window=self.window, length=length)
        return wave.view(batch, self.sources, length) * level[:, None]


class Path(nn.Module):
    """Feed-forward, attention, feed-forward along one axis, each added to its input: (R, L, C) -> (R, L, C)."""

    def __init__(self, width: int, hidden: int, heads: int) -> None:
        super().__init__()
        self.before, self.after = FeedForward(width, hidden), FeedForward(width, hidden)
        self.norm, self.heads = GroupRMS(width), heads
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.before(x)
        x = x + self.attend(self.norm(x))
        return x + self.after(x)

    def attend(self, x: Tensor) -> Tensor:
        """Self-attention with rotary positions."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        found = F.scaled_dot_product_attention(rotate(q), rotate(k), v)
        return self.out(found.transpose(1, 2).flatten(-2))


class FeedForward(nn.Module):
    """Two convolutions of four points around a gated SiLU: what makes attention see neighbours as neighbours."""

    def __init__(self, width: int, hidden: int, kernel: int = 4) -> None:
        super().__init__()
        self.norm, self.kernel = GroupRMS(width), kernel
        self.up = nn.Conv1d(width, 2 * hidden, kernel)
        self.down = nn.ConvTranspose1d(hidden, width, kernel)

    def forward(self, x: Tensor) -> Tensor:
        edge = self.kernel - 1
        value, gate = self.up(F.pad(self.norm(x).transpose(1, 2), (edge, edge))).chunk(2, dim=1)
        return self.down(value * F.silu(gate))[..., edge : edge + x.shape[1]].transpose(1, 2)


class GroupRMS(nn.Module):
    """Every group of channels divided by its root mean square, times a gain: (..., C) -> (..., C)."""

    def __init__(self, width: int, groups: int = 4) -> None:
        super().__init__()
        self.groups = groups
        self.gain = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        grouped = x.unflatten(-1, (self.groups, -1))
        return (grouped * torch.rsqrt(grouped.square().mean(-1, keepdim=True) + 1e-5)).flatten(-2) * self.gain


def rotate(x: Tensor) -> Tensor:
    """Rotary positions (Su et al. 2021): pairs of channels of (..., L, C) turned by angles that grow along L."""
    length, channels = x.shape[-2:]
    frequency = 10000.0 ** (-torch.arange(0, channels, 2, device=x.device) / channels)
    angle = torch.arange(length, device=x.device)[:, None] * frequency
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)
