"""The compact convolutional U-Net of the bundled priors: features of a spectrogram in, a few maps of the same size out.

Four bins by two frames are folded into channels, so that the first level already has an eighth of the positions;
convolutions carry over to any number of frames. At the bottom the frequency axis is folded into channels as well:
one vector per frame sees the whole spectrum and, through dilated convolutions, a few seconds around it. That is where
a source is recognised; the upper levels only draw it. Channel norms instead of group norms and 3 x 3 convolutions
throughout, because matrix units run those near their peak rate and everything else at a tenth of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ChannelNorm(nn.Module):
    """Layer norm over the channels of (B, C, H, W), scaled and shifted by a condition (adaptive norm).

    In channels-last order the channels of a cell are neighbours, and torch's fused kernel normalises them in one pass;
    written as a chain of operations the norms take longer than the convolutions.
    """

    def __init__(self, channels: int, condition: int) -> None:
        super().__init__()
        self.channels = channels
        self.modulation = nn.Linear(condition, 2 * channels)
        zero(self.modulation)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.modulation(condition).to(x.dtype)[:, None, None].chunk(2, -1)
        x = F.layer_norm(x.permute(0, 2, 3, 1), (self.channels,))
        return torch.addcmul(shift, x.to(scale.dtype), 1 + scale).permute(0, 3, 1, 2)


class Block(nn.Module):
    """Residual block of two 3 x 3 convolutions (or two temporal ones, for the bottom of the network)."""

    def __init__(self, channels: int, condition: int, dilation: int | None = None) -> None:
        super().__init__()
        self.norm1 = ChannelNorm(channels, condition)
        self.norm2 = ChannelNorm(channels, condition)
        if dilation is None:
            self.conv1: nn.Module = nn.Conv2d(channels, channels, 3, padding=1)
            self.conv2: nn.Module = nn.Conv2d(channels, channels, 3, padding=1)
        else:
            self.conv1 = nn.Conv2d(channels, channels, (1, 3), padding=(0, dilation), dilation=(1, dilation))
            self.conv2 = nn.Conv2d(channels, channels, 1)
        # Training sets its share (`training.set_dropout`); weights and what is separated know nothing of it.
        self.dropout = nn.Dropout(0.0) if dilation else nn.Identity()
        zero(self.conv2)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        y = self.conv1(F.silu(self.norm1(x, condition)))
        return x + self.conv2(self.dropout(F.silu(self.norm2(y, condition))))


class ConvUNet(nn.Module):
    """Maps (B, inputs, bins, frames) with a noise level and a class to (B, outputs, bins, frames).

    Args:
        inputs, outputs: feature maps in and out.
        classes: rows of the class embedding (the null class included).
        bins: frequency bins; a multiple of ``fold[0] * 2**(len(widths) - 1)``.
        widths: channels of each level; time is halved between the first three levels, frequency between all.
        depths: residual blocks of each level, on the way down and again on the way up.
        bottom: channels of the temporal network at the bottom.
        dilations: of its blocks, in frames of the lowest level.
        fold: bins and frames folded into channels by the first convolution.

    The output convolution starts at zero, so that a new network changes nothing.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        classes: int,
        bins: int = 512,
        widths: Sequence[int] = (32, 72, 128, 192),
        depths: Sequence[int] = (1, 1, 1, 1),
        bottom: int = 384,
        dilations: Sequence[int] = (1, 2, 4, 1),
        fold: tuple[int, int] = (4, 2),
        condition: int = 256,
    ) -> None:
        super().__init__()
        if bins % (fold[0] * 2 ** (len(widths) - 1)):
            raise ValueError(f"bins = {bins} does not divide into {len(widths)} levels of bins folded by {fold[0]}")
        self.config = {
            "inputs": inputs, "outputs": outputs, "classes": classes, "bins": bins, "widths": list(widths),
            "depths": list(depths), "bottom": bottom, "dilations": list(dilations), "fold": list(fold),
            "condition": condition,
        }  # fmt: skip
        self.fold = tuple(fold)
        # Time is halved only twice: below 128 ms per frame the onsets that tell sources apart would be lost.
        self.strides = [(2, 2 if i < 2 else 1) for i in range(len(widths) - 1)]
        self.frame_multiple = fold[1] * math.prod(s[1] for s in self.strides)

        frequencies = torch.exp(torch.linspace(math.log(0.1), math.log(8.0), 32))
        self.frequencies: Tensor
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.noise_embedding = nn.Sequential(nn.Linear(64, condition), nn.SiLU(), nn.Linear(condition, condition))
        self.class_embedding = nn.Embedding(classes, condition)
        nn.init.normal_(self.class_embedding.weight, std=0.3)

        self.stem = nn.Conv2d(inputs * fold[0] * fold[1], widths[0], 3, padding=1)
        self.down_blocks, self.up_blocks = nn.ModuleList(), nn.ModuleList()
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for i, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            self.down_blocks.append(nn.ModuleList(Block(width, condition) for _ in range(depth)))
            self.up_blocks.append(nn.ModuleList(Block(width, condition) for _ in range(depth)))
            if i + 1 < len(widths):
                fh, fw = self.strides[i]
                self.down.append(nn.Conv2d(width, widths[i + 1], (fh, fw), stride=(fh, fw)))
                self.up.append(nn.Conv2d(widths[i + 1], width * fh * fw, 1))
        flat = widths[-1] * bins // (fold[0] * 2 ** (len(widths) - 1))
        self.to_bottom = nn.Conv2d(flat, bottom, 1)
        self.bottom = nn.ModuleList(Block(bottom, condition, d) for d in dilations)
        self.from_bottom = nn.Conv2d(bottom, flat, 1)
        zero(self.from_bottom)
        self.out_norm = ChannelNorm(widths[0], condition)
        self.out = nn.Conv2d(widths[0], outputs * fold[0] * fold[1], 3, padding=1)
        zero(self.out)

    def forward(self, x: Tensor, noise: Tensor, label: Tensor) -> Tensor:
        """x (B, inputs, bins, frames), noise (B,) = ln(sigma / level), label (B,) -> (B, outputs, bins, frames)."""
        frames = x.shape[-1]
        # Two columns at the bottom or more: oneDNN's strided convolutions in bfloat16 read beyond maps of two columns.
        x = F.pad(x, (0, max(2 * self.frame_multiple - frames, -frames % self.frame_multiple)))
        angle = noise[:, None].float() * self.frequencies
        condition = F.silu(self.noise_embedding(torch.cat((angle.cos(), angle.sin()), 1)) + self.class_embedding(label))

        x = self.stem(fold(x, *self.fold))
        skips = []
        for i, blocks in enumerate(self.down_blocks):
            for block in blocks:  # type: ignore[attr-defined]
                x = block(x, condition)
            if i < len(self.down):
                skips.append(x)
                x = self.down[i](x)

        b, c, h, w = x.shape
        z = self.to_bottom(x.reshape(b, c * h, 1, w).contiguous(memory_format=torch.channels_last))
        for block in self.bottom:
            z = block(z, condition)
        x = x + self.from_bottom(z).reshape(b, c, h, w)

        for i in reversed(range(len(self.up_blocks))):
            if i < len(self.down):
                x = unfold(self.up[i](x), *self.strides[i]) + skips[i]
            for block in self.up_blocks[i]:  # type: ignore[attr-defined]
                x = block(x, condition)
        x = self.out(F.silu(self.out_norm(x, condition)))
        return unfold(x, *self.fold)[..., :frames]


def zero(layer: nn.Module) -> None:
    """Set weights and bias to zero."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


def fold(x: Tensor, bins: int, frames: int) -> Tensor:
    """(B, C, F, T) -> (B, C bins frames, F / bins, T / frames): neighbouring cells become channels.

    Like :func:`unfold` it returns channels-last memory: other layouts would be copied by the next convolution, and by
    every layer that adds to what it was given, as a residual block does.
    """
    b, c, f, t = x.shape
    x = x.reshape(b, c, f // bins, bins, t // frames, frames).permute(0, 2, 4, 1, 3, 5)
    return x.reshape(b, f // bins, t // frames, c * bins * frames).permute(0, 3, 1, 2)


def unfold(x: Tensor, bins: int, frames: int) -> Tensor:
    """The inverse of :func:`fold`."""
    b, c, f, t = x.shape
    x = x.permute(0, 2, 3, 1).reshape(b, f, t, c // (bins * frames), bins, frames).permute(0, 1, 4, 2, 5, 3)
    return x.reshape(b, f * bins, t * frames, c // (bins * frames)).permute(0, 3, 1, 2)
