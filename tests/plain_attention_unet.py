"""The attention U-Net as one writes it down first: what `networks/attention_unet.py` has to be quicker than.

Whole maps (B, C, F, T) through PyTorch's own layers, one after the other, and attention as two products and a softmax.
It stands in for the released code, which this project does not have, when the two are timed in one run: machines differ
by a factor of four, and one machine by a quarter within an hour. Its parameters are those of an `AttentionUNet`, and it
returns the same numbers (`tests/test_attention_unet.py`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sourceprior.networks import attention_unet
from sourceprior.networks.attention_unet import GLOBAL_CHANNELS, HOP, N_FFT, SUBBANDS, AttentionUNet


def plain(network: AttentionUNet, waveform: Tensor, timestep: Tensor, label: Tensor) -> Tensor:
    """network(waveform (B, N), timestep (B,), label (B,)) -> (B, N), layer by layer."""
    with torch.autocast(waveform.device.type, enabled=False):
        spectrum, window = network._spectrum(waveform)
    x = network.conv_1(spectrum.permute(0, 3, 1, 2).contiguous())

    def stage(level: int, x: Tensor) -> Tensor:
        condition = network.get_submodule(f"t_embedder_{level}")(timestep)
        condition = condition + network.get_submodule(f"y_embedder_{level}")(label)
        for block in network._stages()[level - 1]:
            x = _block(block, x, condition)
        return x

    skip_1 = stage(1, x)
    skip_2 = stage(2, F.pixel_unshuffle(network.down1_2.body(skip_1), 2))
    x = stage(3, F.pixel_unshuffle(network.down2_3.body(skip_2), 2))
    x = torch.cat((F.pixel_shuffle(network.up3_2.body(x), 2), skip_2), 1)
    x = stage(4, network.reduce_chan_level2(x))
    x = torch.cat((F.pixel_shuffle(network.up2_1.body(x), 2), skip_1), 1)
    x = network.out_conv(stage(5, network.reduce_chan_level1(x)))
    condition = network.t_embedder_out(timestep)
    x = network.final_layer.out_proj(_modulate(_norm(x), *network.final_layer.adaLN_modulation.split(condition)))
    with torch.autocast(waveform.device.type, enabled=False):
        spectrum = torch.view_as_complex(x.float().permute(0, 2, 3, 1).contiguous())
        return torch.istft(spectrum, N_FFT, HOP, window=window, center=True, length=waveform.shape[-1])


def _block(block: attention_unet.Block, x: Tensor, condition: Tensor) -> Tensor:
    if block.has_global:
        x = _global(block.fullatt, x, condition)
    # Over frequency for each frame, then over time for each bin: (B, C, F, T) <-> (B, C, T, F).
    x = _path(block.freatt, x.transpose(2, 3), condition)
    return _path(block.timeatt, x.transpose(2, 3), condition)


def _path(layer: attention_unet.PathAttention, x: Tensor, condition: Tensor) -> Tensor:
    """Attention along the last axis of (B, C, S, L), and the feed-forward."""
    shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = layer.adaLN_modulation.split(condition)
    b, c, s, length = x.shape
    update = _modulate(_norm(_gated(layer.sup_conv(_norm(x)))), shift_a, scale_a)
    update = _attention(layer.attn, update.permute(0, 2, 3, 1).reshape(b * s, length, c))
    update = update.reshape(b, s, length, c).permute(0, 3, 1, 2)
    x = x + gate_a[:, :, None, None] * update
    return x + gate_m[:, :, None, None] * _feed_forward(layer.mlp, x, shift_m, scale_m)


def _global(layer: attention_unet.GlobalAttention, x: Tensor, condition: Tensor) -> Tensor:
    """Attention over time between whole frames of (B, C, F, T), and the feed-forward."""
    shift, scale, gate = layer.adaLN_modulation_att.split(condition)
    b, c, f, t = x.shape
    folded = _norm(x).reshape(b, c, f // SUBBANDS, SUBBANDS, t).permute(0, 1, 3, 2, 4).reshape(b, -1, f // SUBBANDS, t)
    frames = _gated(layer.sup_conv(folded)).permute(0, 3, 1, 2).reshape(b, t, -1)
    frames = F.layer_norm(frames, frames.shape[-1:], eps=1e-6) * (1 + scale[:, None]) + shift[:, None]
    frames = gate[:, None] * _attention(layer.attn, frames)
    frames = F.layer_norm(frames, frames.shape[-1:], eps=1e-6)
    update = layer.recov_conv(frames.reshape(b, t, GLOBAL_CHANNELS, -1).permute(0, 2, 3, 1))
    update = update.reshape(b, c, SUBBANDS, f // SUBBANDS, t).permute(0, 1, 3, 2, 4).reshape(x.shape)
    x = x + update
    shift, scale, gate = layer.adaLN_modulation_mlp.split(condition)
    return x + gate[:, :, None, None] * _feed_forward(layer.mlp, x, shift, scale)


def _attention(layer: attention_unet.SelfAttention, x: Tensor) -> Tensor:
    """Self-attention with rotary positions on (S, L, C)."""
    q, k, v = (part.unflatten(-1, (layer.heads, -1)).transpose(1, 2) for part in layer.to_qkv(x).chunk(3, -1))
    half = q.shape[-1] // 2
    frequency = 1e4 ** -(torch.arange(half, device=x.device) / half)
    angle = (torch.arange(x.shape[1], device=x.device)[:, None] * frequency).repeat_interleave(2, -1)
    q, k = (part * angle.cos() + _turned(part) * angle.sin() for part in (q, k))
    weights = torch.softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5, -1)
    return layer.to_out((weights @ v).transpose(1, 2).flatten(2))


def _turned(x: Tensor) -> Tensor:
    """Every pair of channels (a, b) as (-b, a)."""
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack((-b, a), -1).flatten(-2)


def _feed_forward(layer: attention_unet.FeedForward, x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return layer.fc2(_gated(layer.fc1(_modulate(_norm(x), shift, scale))))


def _norm(x: Tensor) -> Tensor:
    """LayerNorm over the channels of (B, C, F, T)."""
    return F.layer_norm(x.permute(0, 2, 3, 1), x.shape[1:2], eps=1e-6).permute(0, 3, 1, 2)


def _modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return x * (1 + scale[:, :, None, None]) + shift[:, :, None, None]


def _gated(x: Tensor) -> Tensor:
    value, gate = x.chunk(2, 1)
    return value * F.silu(gate)
