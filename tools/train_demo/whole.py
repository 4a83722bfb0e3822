"""Wan's VAE over a whole clip at once: what `AutoencoderKLWan.encode` and `.decode` compute chunk by chunk.

For training: no feature caches, each layer once, frames stacked time-major in the batch axis ([T*B, C, H, W], so that
the frame before is B rows up), channels last in memory. It runs the model's own modules' weights. Sources of what is
equal: diffusers' `WanEncoder3d` and `WanDecoder3d` with their caches, for the residual kind of Wan 2.2 with patches.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl_wan import patchify, unpatchify
from torch import Tensor


def encode_whole(vae: Any, clip: Tensor) -> Tensor:
    """The latents' mean and log variance, [B, 2 z, 1 + (T - 1) / 4, H / 8, W / 8], of a clip [B, 3, T, H, W]."""
    batch = clip.shape[0]
    encoder = vae.encoder
    x = causal_conv(encoder.conv_in, _stack(patchify(clip, vae.config.patch_size)), batch)
    for block in encoder.down_blocks:
        shortcut = block.avg_shortcut(_unstack(x, batch))
        for layer in block.resnets:
            x = _residual(layer, x, batch)
        if block.downsampler is not None:
            x = _resample_down(block.downsampler, x, batch)
        x = x + _stack(shortcut)
    x = _middle(encoder.mid_block, x, batch)
    x = causal_conv(encoder.conv_out, _norm_silu(encoder.norm_out, x), batch)
    return _unstack(causal_conv(vae.quant_conv, x, batch), batch)


def decode_whole(vae: Any, latents: Tensor) -> Tensor:
    """The clip [B, 3, 1 + 4 (t - 1), 8 h, 8 w] of latents [B, z, t, h, w], not yet clamped to [-1, 1]."""
    batch = latents.shape[0]
    decoder = vae.decoder
    x = causal_conv(vae.post_quant_conv, _stack(latents), batch)
    x = _middle(decoder.mid_block, causal_conv(decoder.conv_in, x, batch), batch)
    for block in decoder.up_blocks:
        before = x
        for layer in block.resnets:
            x = _residual(layer, x, batch)
        if block.upsampler is not None:
            shortcut = block.avg_shortcut(_unstack(before, batch), first_chunk=True)
            x = _resample_up(block.upsampler, x, batch) + _stack(shortcut)
    patches = _unstack(causal_conv(decoder.conv_out, _norm_silu(decoder.norm_out, x), batch), batch)
    return unpatchify(patches, vae.config.patch_size)


def causal_conv(conv: Any, x: Tensor, batch: int) -> Tensor:
    """A `WanCausalConv3d` of stride 1: each frame from itself and the frames before, of which there are zeros first.

    Of a single frame only the last tap meets anything.
    """
    weight: Tensor = conv.weight
    taps = weight.shape[2]
    padding = (weight.shape[3] // 2, weight.shape[4] // 2)
    frames = x.shape[0] // batch
    if taps == 1 or frames == 1:
        return F.conv2d(x, weight[:, :, -1], conv.bias, padding=padding)
    video = F.pad(_unstack(x, batch), (0, 0, 0, 0, taps - 1, 0))
    return _stack(F.conv3d(video, weight, conv.bias, padding=(0, *padding)))


def _residual(block: Any, x: Tensor, batch: int) -> Tensor:
    h = causal_conv(block.conv1, _norm_silu(block.norm1, x), batch)
    h = causal_conv(block.conv2, _norm_silu(block.norm2, h), batch)
    shortcut = block.conv_shortcut
    return h + (x if isinstance(shortcut, torch.nn.Identity) else causal_conv(shortcut, x, batch))


def _middle(block: Any, x: Tensor, batch: int) -> Tensor:
    x = _residual(block.resnets[0], x, batch)
    for attention, residual in zip(block.attentions, block.resnets[1:], strict=True):
        x = _residual(residual, _attend(attention, x), batch)
    return x


def _attend(block: Any, x: Tensor) -> Tensor:
    """Each frame's positions attend to each other; one head."""
    qkv = block.to_qkv(_norm(block.norm, x)).flatten(2).transpose(1, 2)
    q, k, v = qkv.unsqueeze(1).chunk(3, dim=-1)
    mixed = F.scaled_dot_product_attention(q, k, v).squeeze(1).transpose(1, 2)
    return x + block.proj(mixed.reshape(x.shape).contiguous(memory_format=torch.channels_last))


def _resample_down(layer: Any, x: Tensor, batch: int) -> Tensor:
    """Half the side; `downsample3d` also halves the frames after the first, which passes as it is."""
    x = layer.resample(x)
    if layer.mode != "downsample3d" or x.shape[0] == batch:
        return x
    conv = layer.time_conv
    frames = x.shape[0] // batch
    taps = x.view(frames, batch, *x.shape[1:])
    seen = torch.cat([taps[0:-2:2], taps[1:-1:2], taps[2::2]], dim=2).flatten(0, 1)
    flat = conv.weight.transpose(1, 2).reshape(conv.weight.shape[0], -1, 1, 1)
    return torch.cat([x[:batch], F.conv2d(seen, flat, conv.bias)])


def _resample_up(layer: Any, x: Tensor, batch: int) -> Tensor:
    """Twice the side; `upsample3d` also doubles the frames after the first, which its convolution never sees."""
    if layer.mode == "upsample3d" and x.shape[0] > batch:
        pairs = causal_conv(layer.time_conv, x[batch:], batch)
        pairs = pairs.view(-1, batch, 2, x.shape[1], *x.shape[2:]).transpose(1, 2)
        x = torch.cat([x[:batch], pairs.reshape(-1, *x.shape[1:])])
    up, conv = layer.resample
    return conv(F.interpolate(x, scale_factor=up.scale_factor, mode=up.mode))


def _norm(norm: Any, x: Tensor) -> Tensor:
    """`WanRMS_norm`; it keeps bfloat16 where autocast chose it."""
    size = torch.rsqrt((x * x).mean(1, keepdim=True) + 1e-12)
    return x * size * norm.gamma.to(x.dtype).view(1, -1, 1, 1)


def _norm_silu(norm: Any, x: Tensor) -> Tensor:
    return F.silu(_norm(norm, x))


def _stack(clip: Tensor) -> Tensor:
    """[B, C, T, H, W] -> [T*B, C, H, W], channels last in memory."""
    return clip.permute(2, 0, 1, 3, 4).flatten(0, 1).contiguous(memory_format=torch.channels_last)


def _unstack(x: Tensor, batch: int) -> Tensor:
    """[T*B, C, H, W] -> [B, C, T, H, W]."""
    return x.unflatten(0, (-1, batch)).permute(1, 2, 0, 3, 4)
