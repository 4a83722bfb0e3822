"""The demo's text encoder and transformer, and one forward pass of both as training needs it.

The pass gives what diffusers' own gives, with less work: the pipeline pads every text with zeros to 512 tokens, which
are all alike, so that one of them whose attention counts as often does the same; and a time embedding is made once a
clip, not once a token.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.nn import functional

TEXT_WIDTH = 96
PADDED = 512  # tokens of text that the pipelines hand to the transformer


def make_text_encoder(words: int) -> Any:
    """UMT5's encoder for a vocabulary of `words`, random weights."""
    from transformers import UMT5Config, UMT5EncoderModel

    config = UMT5Config(
        vocab_size=words,
        d_model=TEXT_WIDTH,
        d_kv=24,
        d_ff=192,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
        pad_token_id=0,
        eos_token_id=1,
    )
    return UMT5EncoderModel(config)


def make_transformer() -> Any:
    """Diffusers' transformer, random weights, its attention to padding low at first."""
    from diffusers import WanTransformer3DModel

    transformer = WanTransformer3DModel(
        num_attention_heads=6,
        attention_head_dim=32,
        in_channels=16,
        out_channels=16,
        text_dim=TEXT_WIDTH,
        ffn_dim=512,
        num_layers=6,
    )
    with torch.no_grad():
        for layer in (
            transformer.condition_embedder.text_embedder.linear_1,
            transformer.condition_embedder.text_embedder.linear_2,
        ):
            layer.bias.zero_()
        for block in transformer.blocks:
            _turn_from_padding(block.attn2)
            for linear in (block.attn1.to_out[0], block.attn2.to_out[0], block.ffn.net[2]):
                linear.bias.zero_()
        transformer.proj_out.weight.zero_()
        transformer.proj_out.bias.zero_()
    return transformer


def _turn_from_padding(attention: Any) -> None:
    """Queries point away from the key of an empty token: 500 of them would drown a prompt of ten words.

    That key is the bias alone, which the norm brings to full length.
    """
    sign = torch.randint(0, 2, attention.to_k.bias.shape) * 2.0 - 1.0
    attention.to_k.bias.copy_(0.02 * sign)
    attention.to_q.bias.copy_(-0.6 * sign)


class Attention:
    """Diffusers' attention, with one padding token at the end of the text that counts as many."""

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        rotary_emb: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key = attn.norm_q(attn.to_q(hidden_states)), attn.norm_k(attn.to_k(context))
        heads = [one.unflatten(2, (attn.heads, -1)) for one in (query, key, attn.to_v(context))]
        mask = None
        if rotary_emb is not None:
            heads[:2] = [_turned(one, *rotary_emb) for one in heads[:2]]
        else:
            tokens = context.shape[1]
            mask = torch.zeros(tokens, device=context.device)
            mask[-1] = math.log(PADDED - tokens + 1)
            mask = mask.expand(1, 1, hidden_states.shape[1], tokens)
        query, key, value = (one.transpose(1, 2).float() for one in heads)
        with torch.autocast("cpu", enabled=False):  # in bf16 its backward pass takes ten times longer on a CPU
            found = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return attn.to_out[0](found.transpose(1, 2).flatten(2).to(heads[2].dtype))  # type: ignore[no-any-return]


def _turned(heads: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary positions: pairs of channels are turned by an angle of their own."""
    first, second = heads.unflatten(-1, (-1, 2)).unbind(-1)
    c, s = cos[..., 0::2].to(heads.dtype), sin[..., 1::2].to(heads.dtype)
    return torch.stack((first * c - second * s, first * s + second * c), -1).flatten(-2)


def for_training(transformer: Any) -> Any:
    """`transformer` with the attention above."""
    for block in transformer.blocks:
        block.attn1.set_processor(Attention())
        block.attn2.set_processor(Attention())
    return transformer


def embed(text_encoder: Any, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Embeddings (B, tokens + 1, width) of token ids (B, tokens); zero where there is padding, as the last one is."""
    found = text_encoder(ids, mask).last_hidden_state * mask[..., None]
    return functional.pad(found, (0, 0, 0, 1))


def velocity(
    transformer: Any, latents: torch.Tensor, times: torch.Tensor, text: torch.Tensor, still: int
) -> torch.Tensor:
    """What the transformer says of `latents` (B, 16, n, h, w) at `times` (B), of 1000; the first `still` are clean."""
    batch, _, count, height, width = latents.shape
    embedder = transformer.condition_embedder
    positions = transformer.rope(latents)
    tokens = transformer.patch_embedding(latents).flatten(2).transpose(1, 2).contiguous()
    all_times = torch.cat([times, times.new_zeros(1)]) if still else times
    time, six, text, _ = embedder(all_times, text, None)
    six = six.unflatten(1, (6, -1))
    if still:
        a_frame = tokens.shape[1] // count
        clean = (torch.arange(tokens.shape[1], device=tokens.device) < still * a_frame)[None, :, None]
        time = torch.where(clean, time[-1:, None], time[:-1, None])
        six = torch.where(clean[..., None], six[-1:, None], six[:-1, None])
        shift, scale = (transformer.scale_shift_table[None] + time[:, :, None]).unbind(2)
    else:
        shift, scale = (one[:, None] for one in (transformer.scale_shift_table + time[:, None]).unbind(1))
    for block in transformer.blocks:
        tokens = block(tokens, text, six, positions)
    tokens = transformer.norm_out(tokens) * (1 + scale) + shift
    patches = transformer.proj_out(tokens).reshape(batch, count, height // 2, width // 2, 1, 2, 2, -1)
    return patches.permute(0, 7, 1, 4, 2, 5, 3, 6).flatten(6, 7).flatten(4, 5).flatten(2, 3)
