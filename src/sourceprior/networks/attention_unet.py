"""The paper's prior: a triple-path attention U-Net on the complex STFT that predicts the noise in a waveform.

Three attentions (paper, Figure 4): within a frame over frequency, within a bin over time, and, in the middle stage
only, over time on whole frames. Everything is conditioned on timestep and class through AdaLN-Zero (Peebles and Xie
2023). Parameter names and shapes are those of the published checkpoints.

Feature maps are kept as (B, F, T, C), channels last: LayerNorm and the 1x1 convolutions then work on the last
dimension without a copy, and a 3x3 convolution sees the same memory as a channels_last tensor.

On a processor an attention takes a few of its sequences at a time through all its layers, as many as its cache holds.
Whole maps would go to memory and back some thirty times per attention, in new pages every time, which took as long as
all the arithmetic.

What the backward pass needs of a whole forward pass is 5 GB at full size and 4 s. Of each stage a `Keep` says how much
is kept, the rest is computed again; which, is planned for every call from its size and from the memory it may take.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import IntEnum
from itertools import pairwise
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

N_FFT = 510
HOP = 255
BINS = N_FFT // 2 + 1
TIMESTEP_FEATURES = 256
SUBBANDS = 4
"""Neighbouring bins folded into channels by the global-temporal attention."""
GLOBAL_CHANNELS = 16
"""Channels left per folded bin before whole frames attend to each other."""
FRAME_CHANNELS = GLOBAL_CHANNELS * (BINS // 4 // SUBBANDS)
"""Channels of a whole frame in the middle stage, which its heads share."""
FRAME_MULTIPLE = 4
"""Two halvings of the time axis need a multiple of four frames."""
PART = 2**20
"""Numbers in the widest map of the sequences that a processor takes at a time: 4 MB in float32."""
MEMORY = 3.7e9
"""Bytes that a forward pass may keep for its backward pass unless told otherwise."""


class Keep(IntEnum):
    """What an attention keeps for the backward pass."""

    INPUT = 1
    ATTENTION = 9
    """All but the hidden map of its feed-forward, which is computed again."""
    ALL = 13

    def maps(self, frozen: bool) -> int:
        """Maps of the input's size; weights and gates that learn keep what they are multiplied with as well."""
        return int(self) if frozen or self is Keep.INPUT else int(self) + 8


class _SwiGLU(torch.autograd.Function):
    """First half times SiLU of the second half, on the last dimension.

    Written out, because PyTorch's own would keep the SiLU for the backward pass as well, and would fill whole maps with
    zeros to put the halves' slopes together.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        value, gate = x.chunk(2, dim=-1)
        return value * F.silu(gate)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        value, gate = x.chunk(2, dim=-1)
        out = torch.empty_like(x)
        of_value, of_gate = out.chunk(2, dim=-1)
        torch.mul(slope, F.silu(gate), out=of_value)
        torch.ops.aten.silu_backward.grad_input(slope * value, gate, grad_input=of_gate)
        return out


def _normalise(x: Tensor) -> Tensor:
    """LayerNorm over the last dimension, without affine parameters: those come from the condition."""
    return F.layer_norm(x, x.shape[-1:], eps=1e-6)


def _modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """LayerNorm of x (B, ..., C), scaled by 1 + scale and shifted, both (B, C)."""
    if len(x) == 1:
        return F.layer_norm(x, x.shape[-1:], 1 + scale[0], shift[0], eps=1e-6)
    between = (1,) * (x.ndim - 2)
    shift, scale = (value.reshape(len(value), *between, -1) for value in (shift, 1 + scale))
    return torch.addcmul(shift, _normalise(x), scale)


def _gated_residual(x: Tensor, gate: Tensor, layer: nn.Linear | nn.Conv2d, inner: Tensor, own: bool = False) -> Tensor:
    """x + gate * layer(inner) for x and inner (B, ..., C), gate (B, C) and a linear layer or 1x1 convolution.

    Of a single item the product is added to x right away, by weights that the gate is part of; with `own`, x is
    nobody else's and may be written over.
    """
    weight, bias = layer.weight.flatten(1), layer.bias
    if len(gate) > 1 or x.dtype != inner.dtype or torch.is_autocast_enabled(x.device.type):
        return torch.addcmul(x, gate.reshape(len(gate), *(1,) * (x.ndim - 2), -1), F.linear(inner, weight, bias))
    rows, turned = inner.flatten(0, -2), (gate[0, :, None] * weight).t()
    flat = x.flatten(0, -2)
    flat = flat.addmm_(rows, turned) if own and not torch.is_grad_enabled() else torch.addmm(flat, rows, turned)
    return (flat.add_(gate[0] * bias) if bias is not None else flat).view_as(x)


def _swiglu(x: Tensor) -> Tensor:
    """First half times SiLU of the second half, on the last dimension."""
    if x.requires_grad:
        return cast(Tensor, _SwiGLU.apply(x))
    value, gate = x.chunk(2, dim=-1)
    return value * F.silu(gate)


def _again(layer: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """layer(*inputs), computed anew for the backward pass."""
    return cast(Tensor, checkpoint(layer, *inputs, use_reentrant=False, preserve_rng_state=False))


def _pointwise(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """A 1x1 convolution on a channels-last map is a matrix product."""
    return F.linear(x, conv.weight.flatten(1), conv.bias)


def _spatial(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """A convolution on a map (B, F, T, C) -> (B, F', T', C')."""
    return conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def _at_once(layer: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """layer(*inputs), as it is."""
    return layer(*inputs)


def _in_parts(
    layer: Callable[..., Tensor], x: Tensor, modulation: tuple[Tensor, ...], keep: Keep, *, wide: int
) -> Tensor:
    """layer(x, *modulation) for x (B, S, L, C) and modulation (B, C), where the S sequences do not see each other.

    Returned as (B, L, S, C): the next attention is along the other axis, and putting the parts together moves every
    number anyway.

    On a processor: item by item and a part of the sequences at a time, so that the widest map of a part, of `wide`
    channels, stays in its cache. Where only inputs are kept, the backward pass computes the layer again, part by part.
    """

    def run(x: Tensor, modulation: tuple[Tensor, ...]) -> Tensor:
        return _again(layer, x, *modulation) if keep is Keep.INPUT else layer(x, *modulation)

    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return run(x, modulation).transpose(1, 2)
    size = max(1, PART // (x.shape[2] * wide))
    items = zip(x.split(1), *(value.split(1) for value in modulation), strict=True)
    done = [
        torch.cat([run(part, tuple(own)).transpose(1, 2) for part in item.split(size, 1)], 2) for item, *own in items
    ]
    return torch.cat(done) if len(done) > 1 else done[0]


class TimestepEmbedder(nn.Module):
    """Sinusoid of the timestep, then two linear layers: (B,) -> (B, width)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(TIMESTEP_FEATURES, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, timestep: Tensor) -> Tensor:
        half = TIMESTEP_FEATURES // 2
        frequency = torch.exp(-math.log(1e4) * torch.arange(half, device=timestep.device) / half)
        angle = timestep.float()[:, None] * frequency
        features = torch.cat((angle.cos(), angle.sin()), dim=-1)
        return self.mlp(features.to(next(self.mlp.parameters()).dtype))


class LabelEmbedder(nn.Module):
    """A table of classes + 1 rows, the last one for "no class": (B,) -> (B, width)."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.embedding_table = nn.Embedding(classes + 1, width)

    def forward(self, label: Tensor) -> Tensor:
        return self.embedding_table(label)


class Modulation(nn.Sequential):
    """Linear(SiLU(condition)) in `parts` equal parts: (B, embedding) -> parts x (B, width)."""

    def __init__(self, embedding: int, width: int, parts: int) -> None:
        super().__init__(nn.SiLU(), nn.Linear(embedding, parts * width))
        self.parts = parts

    @property
    def linear(self) -> nn.Linear:
        return cast(nn.Linear, self[1])

    def split(self, condition: Tensor) -> tuple[Tensor, ...]:
        return self(condition).chunk(self.parts, dim=-1)


class FeedForward(nn.Module):
    """Gated feed-forward as 1x1 convolutions, added to its input: (B, F, T, C) and thrice (B, C) -> (B, F, T, C).

    The input may be written over: it is the caller's own map.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(width, 4 * width, 1)
        self.fc2 = nn.Conv2d(2 * width, width, 1)

    def forward(self, x: Tensor, shift: Tensor, scale: Tensor, gate: Tensor, keep: Keep) -> Tensor:
        def hidden(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
            return _swiglu(_pointwise(self.fc1, _modulated(x, shift, scale)))

        inner = (_again if keep is Keep.ATTENTION else _at_once)(hidden, x, shift, scale)
        return _gated_residual(x, gate, self.fc2, inner, own=True)


class SelfAttention(nn.Module):
    """Multi-head self-attention with rotary positions (θ = 1e4, interleaved pairs): (S, L, C) -> (S, L, C).

    `to_out` is the caller's to apply, who knows what is done with it.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Linear(width, 3 * width)
        self.to_out = nn.Linear(width, width)

    def forward(self, x: Tensor, rotation: Tensor) -> Tensor:
        s, length, width = x.shape
        qk, v = self.to_qkv(x).split((2 * width, width), -1)
        # A pair of channels is a complex number that the position turns: queries and keys of all heads in one product.
        pairs = torch.view_as_complex(qk.float().unflatten(-1, (width, 2)))
        turned = torch.view_as_real(pairs * rotation)
        # On a processor bfloat16 is slower than float32 for heads as narrow as these.
        kind = turned.dtype if x.device.type == "cpu" else qk.dtype
        q, k = turned.to(kind).reshape(s, length, 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        if v.requires_grad:
            # What is kept for the backward pass would hold on to the unturned queries and keys as well.
            v = v.contiguous()
        v = v.reshape(s, length, self.heads, -1).to(kind).transpose(1, 2)
        with torch.autocast(x.device.type, enabled=False):
            out = F.scaled_dot_product_attention(q, k, v)
        return out.transpose(1, 2).reshape(s, length, width).to(qk.dtype)

    def rotation(self, length: int, device: torch.device) -> Tensor:
        """Unit complex numbers (length, C) for the C pairs of all queries and keys of a position."""
        pairs = self.to_out.in_features // self.heads // 2
        frequency = 1.0 / 1e4 ** (torch.arange(pairs, device=device, dtype=torch.float32) / pairs)
        angle = torch.arange(length, device=device, dtype=torch.float32)[:, None] * frequency
        return torch.polar(torch.ones_like(angle), angle).repeat(1, 2 * self.heads)


class PathAttention(nn.Module):
    """Attention along the third axis of (B, S, L, C), every one of the S sequences on its own, then feed-forward.

    Returns (B, L, S, C), as the attention along the other axis takes it.
    """

    def __init__(self, width: int, embedding: int, heads: int) -> None:
        super().__init__()
        self.sup_conv = nn.Conv2d(width, 2 * width, 1)
        self.attn = SelfAttention(width, heads)
        self.mlp = FeedForward(width)
        self.adaLN_modulation = Modulation(embedding, width, 6)

    def forward(self, x: Tensor, condition: Tensor, keep: Keep) -> Tensor:
        rotation = self.attn.rotation(x.shape[2], x.device)

        def layer(x: Tensor, *modulation: Tensor) -> Tensor:
            shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = modulation
            x = x.contiguous()
            update = _swiglu(_pointwise(self.sup_conv, _normalise(x)))
            update = self.attn(_modulated(update, shift_a, scale_a).flatten(0, 1), rotation).view_as(x)
            x = _gated_residual(x, gate_a, self.attn.to_out, update)
            return self.mlp(x, shift_m, scale_m, gate_m, keep)

        return _in_parts(layer, x, self.adaLN_modulation.split(condition), keep, wide=4 * x.shape[-1])


class GlobalAttention(nn.Module):
    """Attention over time between whole frames, on few channels: (B, F, T, C) -> (B, T, F, C)."""

    def __init__(self, width: int, embedding: int, heads: int, bins: int) -> None:
        super().__init__()
        vector = GLOBAL_CHANNELS * (bins // SUBBANDS)
        self.sup_conv = nn.Conv2d(SUBBANDS * width, 2 * GLOBAL_CHANNELS, 1)
        self.recov_conv = nn.Conv2d(GLOBAL_CHANNELS, SUBBANDS * width, (3, 1), padding=(1, 0))
        self.attn = SelfAttention(vector, heads)
        self.mlp = FeedForward(width)
        self.adaLN_modulation_att = Modulation(embedding, vector, 3)
        self.adaLN_modulation_mlp = Modulation(embedding, width, 3)

    def forward(self, x: Tensor, condition: Tensor, keep: Keep) -> Tensor:
        # Cheap to compute again but for the maps at the input's size, which are all that there is to save.
        x = (_at_once if keep is Keep.ALL else _again)(self._attend, x, condition)

        def layer(x: Tensor, shift: Tensor, scale: Tensor, gate: Tensor) -> Tensor:
            return self.mlp(x.contiguous(), shift, scale, gate, keep)

        return _in_parts(layer, x, self.adaLN_modulation_mlp.split(condition), keep, wide=4 * x.shape[-1])

    def _attend(self, x: Tensor, condition: Tensor) -> Tensor:
        b, f, t, c = x.shape
        shift, scale, gate = self.adaLN_modulation_att.split(condition)
        # Four neighbouring bins become channels, channel-major.
        folded = _normalise(x).view(b, f // SUBBANDS, SUBBANDS, t, c).permute(0, 1, 3, 4, 2).flatten(3)
        small = _swiglu(_pointwise(self.sup_conv, folded))
        frames = _modulated(small.permute(0, 2, 3, 1).flatten(2), shift, scale)
        frames = self.attn.to_out(self.attn(frames, self.attn.rotation(t, x.device))) * gate[:, None]
        frames = _normalise(frames).view(b, t, GLOBAL_CHANNELS, -1).permute(0, 3, 1, 2)
        update = _spatial(self.recov_conv, frames).unflatten(-1, (c, SUBBANDS)).permute(0, 1, 4, 2, 3).reshape(x.shape)
        return x + update


class Block(nn.Module):
    """[Global-temporal attention,] intra-frame attention, intra-frequency attention on (B, F, T, C)."""

    def __init__(self, width: int, embedding: int, heads: int, global_bins: int | None = None) -> None:
        super().__init__()
        if global_bins is not None:
            self.fullatt = GlobalAttention(width, embedding, heads, global_bins)
        self.has_global = global_bins is not None
        self.freatt = PathAttention(width, embedding, heads)
        self.timeatt = PathAttention(width, embedding, heads)

    def forward(self, x: Tensor, condition: Tensor, keep: Keep) -> Tensor:
        x = self.fullatt(x, condition, keep) if self.has_global else x.transpose(1, 2)
        x = self.freatt(x, condition, keep)
        return self.timeatt(x, condition, keep).transpose(1, 2)


class Resample(nn.Module):
    """3x3 convolution, then pixel unshuffle (down) or shuffle (up) by two: (B, F, T, C) -> (B, F', T', C')."""

    def __init__(self, width: int, down: bool) -> None:
        super().__init__()
        self.body = nn.Conv2d(width, width // 2 if down else 2 * width, 3, padding=1, bias=False)
        self.down = down

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x.permute(0, 3, 1, 2))
        x = F.pixel_unshuffle(x, 2) if self.down else F.pixel_shuffle(x, 2)
        return x.permute(0, 2, 3, 1).contiguous()


class FinalLayer(nn.Module):
    """LayerNorm, modulation by the timestep, 3x3 convolution to real and imaginary part."""

    def __init__(self, width: int, embedding: int) -> None:
        super().__init__()
        self.out_proj = nn.Conv2d(width, 2, 3, padding=1, bias=False)
        self.adaLN_modulation = Modulation(embedding, width, 2)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        return _spatial(self.out_proj, _modulated(x, *self.adaLN_modulation.split(condition)))


class AttentionUNet(nn.Module):
    """ε-network of the paper: 37.24 M parameters at width 72.

    Args:
        width: channels h of the outer stages; the stages have h, 2h, 4h, 2h, h. A multiple of 2 * heads.
        classes: number of classes; the label embeddings have one row more, for "no class".
        embedding: width of the timestep and class embeddings.
        heads: attention heads.
        blocks: blocks of the five stages.
        memory: bytes that a forward pass may keep for its backward pass, about: as much as fits into them is kept, the
            rest is computed again. 0 keeps no more than every attention's input, infinity everything. It changes no
            result.

    Raises:
        ValueError: heads that do not divide 128, width not a multiple of 2 * heads, or fewer than one class.
    """

    condition = "timestep"
    """What the network wants to be told about the noise."""

    def __init__(
        self,
        width: int = 72,
        classes: int = 1,
        *,
        embedding: int = 128,
        heads: int = 4,
        blocks: tuple[int, int, int, int, int] = (2, 4, 8, 4, 2),
        memory: float = MEMORY,
    ) -> None:
        super().__init__()
        if heads < 1 or FRAME_CHANNELS % (2 * heads):
            raise ValueError(f"The attention U-Net needs heads that divide {FRAME_CHANNELS // 2}, not {heads}.")
        if width < 1 or width % (2 * heads):
            raise ValueError(f"The attention U-Net needs a width that is a multiple of {2 * heads}, not {width}.")
        if classes < 1:
            raise ValueError(f"The attention U-Net needs at least one class, not {classes}.")
        self.config = {
            "width": width,
            "classes": classes,
            "embedding": embedding,
            "heads": heads,
            "blocks": list(blocks),
        }
        self.width = width
        self.classes = classes
        self.null_label = classes
        self.memory = memory

        def stage(channels: int, count: int, global_bins: int | None = None) -> nn.ModuleList:
            return nn.ModuleList(Block(channels, embedding, heads, global_bins) for _ in range(count))

        self.conv_1 = nn.Conv2d(2, width, 3, padding=1, bias=False)
        for level in range(1, 6):
            self.add_module(f"t_embedder_{level}", TimestepEmbedder(embedding))
            self.add_module(f"y_embedder_{level}", LabelEmbedder(classes, embedding))
        self.t_embedder_out = TimestepEmbedder(embedding)
        self.encoder_level_1 = stage(width, blocks[0])
        self.down1_2 = Resample(width, down=True)
        self.encoder_level_2 = stage(2 * width, blocks[1])
        self.down2_3 = Resample(2 * width, down=True)
        self.latent = stage(4 * width, blocks[2], global_bins=BINS // 4)
        self.up3_2 = Resample(4 * width, down=False)
        self.reduce_chan_level2 = nn.Conv2d(4 * width, 2 * width, 1)
        self.decoder_level_2 = stage(2 * width, blocks[3])
        self.up2_1 = Resample(2 * width, down=False)
        self.reduce_chan_level1 = nn.Conv2d(2 * width, width, 1)
        self.decoder_level_1 = stage(width, blocks[4])
        self.out_conv = nn.Conv2d(width, width, 3, padding=1)
        self.final_layer = FinalLayer(width, embedding)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """AdaLN-Zero: every gate starts at zero, so a new network passes its input on, and predicts zero noise."""
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                nn.init.xavier_uniform_(module.weight.view(len(module.weight), -1))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
        for module in self.modules():
            if isinstance(module, TimestepEmbedder):
                for layer in module.mlp:
                    if isinstance(layer, nn.Linear):
                        nn.init.normal_(layer.weight, std=0.02)
            elif isinstance(module, Modulation):
                nn.init.zeros_(module.linear.weight)
                nn.init.zeros_(module.linear.bias)
        for module in self.modules():
            if isinstance(module, GlobalAttention):
                # Its gate stands before a LayerNorm, which undoes any gate but an exact zero, and has a gradient a
                # thousand times too large there. So here the way back starts at zero, and the gate at one.
                nn.init.ones_(module.adaLN_modulation_att.linear.bias.chunk(3)[2])
                for parameter in module.recov_conv.parameters():
                    nn.init.zeros_(parameter)
        nn.init.zeros_(self.final_layer.out_proj.weight)

    def forward(self, waveform: Tensor, timestep: Tensor, label: Tensor) -> Tensor:
        """The noise in `waveform`.

        Args:
            waveform: (B, N) noisy waveform at variance-preserving scale, any N ≥ 1.
            timestep: (B,) timestep on the network's own scale of 0 to 999, integer or not.
            label: (B,) class index in 0 .. classes; `classes` itself is the row of "no class".

        Returns:
            (B, N) estimate of the unit-variance noise ε.
        """
        length = waveform.shape[-1]
        # The spectrum stays in single precision under autocast: half an octave of dynamic range is not worth it.
        with torch.autocast(waveform.device.type, enabled=False):
            spectrum, window = self._spectrum(waveform.float())
        x = _spatial(self.conv_1, spectrum.to(self.conv_1.weight.dtype))

        keep = self._plan(x)

        def stage(level: int, x: Tensor) -> Tensor:
            condition = self.get_submodule(f"t_embedder_{level}")(timestep)
            condition = condition + self.get_submodule(f"y_embedder_{level}")(label)
            for block in self._stages()[level - 1]:
                x = block(x, condition, keep[level - 1])
            return x.contiguous()

        skip_1 = stage(1, x)
        skip_2 = stage(2, self.down1_2(skip_1))
        x = stage(3, self.down2_3(skip_2))
        x = stage(4, _pointwise(self.reduce_chan_level2, torch.cat((self.up3_2(x), skip_2), dim=-1)))
        x = stage(5, _pointwise(self.reduce_chan_level1, torch.cat((self.up2_1(x), skip_1), dim=-1)))

        x = self.final_layer(_spatial(self.out_conv, x), self.t_embedder_out(timestep))
        with torch.autocast(waveform.device.type, enabled=False):
            spectrum = torch.view_as_complex(x.float().contiguous())
            noise = torch.istft(spectrum, N_FFT, HOP, window=window, center=True, length=length)
        return noise.to(waveform.dtype)

    def _stages(self) -> tuple[nn.ModuleList, ...]:
        return self.encoder_level_1, self.encoder_level_2, self.latent, self.decoder_level_2, self.decoder_level_1

    def _plan(self, x: Tensor) -> list[Keep]:
        """What each stage keeps, for a map x (B, F, T, C) of the first: as much as `memory` holds.

        First the attentions, then the feed-forwards, which are cheaper to compute again; the inner stages first.
        """
        if not torch.is_grad_enabled():
            return [Keep.ALL] * 5
        keep = [Keep.INPUT] * 5
        frozen = not any(parameter.requires_grad for parameter in self.latent.parameters())
        # A halving of both axes doubles the channels; every block has two attentions, in the middle half of one more.
        maps = [2 * len(blocks) * x.nbytes / 2 ** min(i, 4 - i) for i, blocks in enumerate(self._stages())]
        maps[2] *= 1.25
        # What is kept in any case: the inputs, and some maps around the stages.
        left = self.memory - sum(maps) - 8 * x.nbytes
        for less, more in pairwise(Keep):
            for i in (2, 1, 3, 0, 4):
                cost = (more.maps(frozen) - less.maps(frozen)) * maps[i]
                if keep[i] is less and cost <= left:
                    left, keep[i] = left - cost, more
        return keep

    def _spectrum(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N) -> real and imaginary part (B, 256, T, 2) with T a multiple of four, and the window (510,)."""
        length = waveform.shape[-1]
        missing = -(length // HOP + 1) % FRAME_MULTIPLE
        if missing == 0 and length % HOP:
            # Samples after the last frame's centre would be divided by the vanishing flank of its window.
            missing = FRAME_MULTIPLE
        window = torch.hann_window(N_FFT, periodic=True, device=waveform.device).sqrt()
        padded = F.pad(waveform, (0, missing * HOP))
        spectrum = torch.stft(padded, N_FFT, HOP, window=window, center=True, pad_mode="reflect", return_complex=True)
        return torch.view_as_real(spectrum), window
