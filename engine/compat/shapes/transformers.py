"""The tensors of Wan's transformers, as diffusers has them."""

from __future__ import annotations

import math
from itertools import pairwise

from engine.compat.shapes.keys import MOTION_CHANNELS
from engine.compat.shapes.layers import Config, Conflict, Shapes, linear, norm, numbered, show, under


def _width(config: Config) -> int:
    return int(config["num_attention_heads"] * config["attention_head_dim"])


def _attention(dim: int, added: int | None) -> Shapes:
    shapes: Shapes = {"norm_q.weight": (dim,), "norm_k.weight": (dim,)}
    for name in ("to_q", "to_k", "to_v", "to_out.0"):
        shapes |= linear(name, dim, dim)
    if added is not None:
        shapes |= linear("add_k_proj", added, dim) | linear("add_v_proj", added, dim)
        shapes["norm_added_k.weight"] = (dim,)
    return shapes


def _block(config: Config) -> Shapes:
    dim, hidden = _width(config), config["ffn_dim"]
    return {
        "scale_shift_table": (1, 6, dim),
        **under("attn1", _attention(dim, None)),
        **under("attn2", _attention(dim, config["added_kv_proj_dim"])),
        **(norm("norm2", dim) if config["cross_attn_norm"] else {}),
        **linear("ffn.net.0.proj", dim, hidden),
        **linear("ffn.net.2", hidden, dim),
    }


def _condition(config: Config) -> Shapes:
    dim, image, tokens = _width(config), config["image_dim"], config["pos_embed_seq_len"]
    shapes = {
        **linear("time_embedder.linear_1", config["freq_dim"], dim),
        **linear("time_embedder.linear_2", dim, dim),
        **linear("time_proj", dim, 6 * dim),
        **linear("text_embedder.linear_1", config["text_dim"], dim),
        **linear("text_embedder.linear_2", dim, dim),
    }
    if image is not None:
        shapes |= {
            **norm("image_embedder.norm1", image),
            **linear("image_embedder.ff.net.0.proj", image, image),
            **linear("image_embedder.ff.net.2", image, dim),
            **norm("image_embedder.norm2", dim),
            **({} if tokens is None else {"image_embedder.pos_embed": (1, tokens, image)}),
        }
    return shapes


def transformer_shapes(config: Config) -> Shapes:
    dim, patch = _width(config), config["patch_size"]
    out = config["out_channels"] or config["in_channels"]
    return {
        "scale_shift_table": (1, 2, dim),
        **linear("patch_embedding", config["in_channels"], dim, *patch),
        **under("condition_embedder", _condition(config)),
        **numbered("blocks", [_block(config)] * config["num_layers"]),
        **linear("proj_out", dim, out * math.prod(patch)),
    }


def vace_shapes(config: Config) -> Shapes:
    dim, places, layers = _width(config), config["vace_layers"], config["num_layers"]
    if 0 not in places or len(set(places)) < len(places) or max(places) >= layers:
        raise Conflict(f"vace_layers = {show(places)}: it takes 0 and other layers below num_layers = {layers}, once")
    block = {**_block(config), **linear("proj_out", dim, dim)}
    first = {**block, **linear("proj_in", dim, dim)}
    return {
        **transformer_shapes(config),
        **linear("vace_patch_embedding", config["vace_in_channels"], dim, *config["patch_size"]),
        **numbered("vace_blocks", [first, *[block] * (len(places) - 1)]),
    }


def animate_shapes(config: Config) -> Shapes:
    dim, head = _width(config), config["attention_head_dim"]
    layers, every = config["num_layers"], config["inject_face_latents_blocks"]
    noisy, latent = config["in_channels"], config["latent_channels"]
    if noisy is None and latent is None:
        raise Conflict("in_channels = None and latent_channels = None: it takes one of them")
    noisy = 2 * latent + 4 if noisy is None else noisy
    latent = (noisy - 4) // 2 if latent is None else latent
    if latent < 1 or noisy != 2 * latent + 4:
        raise Conflict(f"in_channels = {noisy} and latent_channels = {latent}: it takes 2 x latent_channels + 4")
    if layers % every:
        raise Conflict(f"num_layers = {layers}: it takes a multiple of inject_face_latents_blocks = {every}")
    face: Shapes = {"norm_q.weight": (head,), "norm_k.weight": (head,)}
    for name in ("to_q", "to_k", "to_v", "to_out"):
        face |= linear(name, dim, dim)
    return {
        **transformer_shapes({**config, "in_channels": noisy, "out_channels": config["out_channels"] or latent}),
        **linear("pose_patch_embedding", latent, dim, *config["patch_size"]),
        **under("motion_encoder", _motion_encoder(config)),
        **under("face_encoder", _face_encoder(config, dim)),
        **numbered("face_adapter", [face] * (layers // every)),
    }


def _motion_encoder(config: Config) -> Shapes:
    size, style, motion = config["motion_encoder_size"], config["motion_style_dim"], config["motion_dim"]
    sizes = [2**power for power in range(size.bit_length() - 1, 1, -1)]  # halved down to 4
    table = config["motion_encoder_channel_sizes"]
    widths = [MOTION_CHANNELS[at] if table is None else table.get(str(at)) for at in sizes]
    if None in widths:
        raise Conflict(f"motion_encoder_channel_sizes = {show(table)}: it takes all of {sizes}")

    def convolution(into: int, out: int, kernel: int) -> Shapes:
        return {"weight": (out, into, kernel, kernel), "act_fn.bias": (out,)}

    def block(into: int, out: int) -> Shapes:
        return {
            **under("conv1", convolution(into, into, 3)),
            **under("conv2", convolution(into, out, 3)),
            "conv_skip.weight": (out, into, 1, 1),
        }

    linear = {"weight": (style, style), "bias": (style,)}
    return {
        "motion_synthesis_weight": (config["motion_encoder_dim"], motion),
        **under("conv_in", convolution(3, widths[0], 1)),
        **numbered("res_blocks", [block(into, out) for into, out in pairwise(widths)]),
        "conv_out.weight": (style, widths[-1], 4, 4),
        **numbered("motion_network", [*[linear] * 4, {"weight": (motion, style), "bias": (motion,)}]),
    }


def _face_encoder(config: Config, dim: int) -> Shapes:
    hidden = config["face_encoder_hidden_dim"]
    return {
        "padding_tokens": (1, 1, 1, dim),
        **linear("conv1_local", config["motion_encoder_dim"], hidden * config["face_encoder_num_heads"], 3),
        **linear("conv2", hidden, hidden, 3),
        **linear("conv3", hidden, hidden, 3),
        **linear("out_proj", hidden, dim),
    }


def animate_2_shapes(config: Config) -> Shapes:
    dim, hidden, heads, patch = config["dim"], config["ffn_dim"], config["num_heads"], config["patch_size"]
    if dim % (2 * heads):
        raise Conflict(f"dim = {dim}: it takes a multiple of twice num_heads = {heads}")
    sees = config["use_img_emb"]
    block = {
        "modulation": (1, 6, dim),
        **under("self_attn", _attention(dim, None)),
        **under("cross_attn", _attention(dim, dim if sees else None)),
        **(norm("norm3", dim) if config["cross_attn_norm"] else {}),
        **linear("ffn.0", dim, hidden),
        **linear("ffn.2", hidden, dim),
    }
    image = {
        **norm("img_emb.proj.0", 1280),
        **linear("img_emb.proj.1", 1280, 1280),
        **linear("img_emb.proj.3", 1280, dim),
        **norm("img_emb.proj.4", dim),
    }
    return {
        **linear("patch_embedding", config["in_dim"], dim, *patch),
        **linear("text_embedding.0", config["text_dim"], dim),
        **linear("text_embedding.2", dim, dim),
        **linear("time_embedding.0", config["freq_dim"], dim),
        **linear("time_embedding.2", dim, dim),
        **linear("time_projection.1", dim, 6 * dim),
        **(image if sees else {}),
        **numbered("blocks", [block] * config["num_layers"]),
        "head.modulation": (1, 2, dim),
        **linear("head.head", dim, config["out_dim"] * math.prod(patch)),
    }
