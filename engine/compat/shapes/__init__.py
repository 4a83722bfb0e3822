"""Every tensor a component's class has for a configuration, without torch: configurations are checked against headers.

Configurations are data from strangers. Each value is checked before it is used, and the limits below hold every
dimension to 2**31 and every component to 20,000 tensors, whatever a file says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.compat.shapes.encoders import clip_shapes, projected_clip_shapes, umt5_shapes
from engine.compat.shapes.keys import (
    ACTIVATION,
    CHANNELS,
    CLIP_VISION,
    FLAG,
    HEADS,
    LAYERS,
    MOTION_CHANNELS,
    PATCH,
    SCALE,
    TRANSFORMER,
    WIDTH,
    Rule,
    is_channel_table,
    many,
    or_null,
    whole,
)
from engine.compat.shapes.layers import Config, Conflict, Shapes, show
from engine.compat.shapes.transformers import animate_2_shapes, animate_shapes, transformer_shapes, vace_shapes
from engine.compat.shapes.vae import vae_shapes
from engine.errors import ModelError


@dataclass(frozen=True)
class _Kind:
    """A class: the keys its shapes follow from with their defaults, and what it has for a configuration so filled.

    `other` holds second spellings of keys, which win over the first as they do in transformers.
    """

    shapes: Callable[[Config], Shapes]
    keys: Mapping[str, tuple[Any, Rule]]
    other: Mapping[str, str] = field(default_factory=dict)


def expected_shapes(kind: str, config: Mapping[str, Any]) -> dict[str, tuple[int, ...]] | None:
    """Every tensor of a component's class: name to shape, as its state_dict (what save_pretrained writes) has them.

    None for a class not known here. Tied weights are named once. Files may use other names: see `same_tensor`.
    Raises `ModelError` (`bad-config`) naming the key and value when a value of the config cannot be.
    """
    known = _KINDS.get(kind)
    if known is None:
        return None
    if kind in _CLIP and "vision_config" in config:  # that of a whole CLIP: transformers takes the half it needs
        config = config["vision_config"]
        if not isinstance(config, Mapping):
            raise _bad(kind, f"vision_config = {show(config)}: it takes a table")
    filled = {}
    for key, (default, (right, fits)) in known.keys.items():
        other = known.other.get(key)
        written = other if other is not None and other in config else key
        filled[key] = config.get(written, default)
        if written in config and not fits(filled[key]):
            raise _bad(kind, f"{written} = {show(filled[key])}: it takes {right}")
    try:
        return known.shapes(filled)
    except Conflict as conflict:
        raise _bad(kind, str(conflict)) from None


def same_tensor(kind: str, name: str) -> str | None:
    """What `expected_shapes` calls the tensor a file of this class calls `name`, None when the class passes it over.

    Names nothing is known of stay as they are.
    """
    if kind == "UMT5EncoderModel":
        # Tied: save_pretrained writes the first name, other programs the second, and either is enough.
        name = name.removeprefix("transformer.")
        return "shared.weight" if name == "encoder.embed_tokens.weight" else name
    if kind in _CLIP:
        # CLIPVisionModel lost its prefix in transformers 5, which reads both spellings, and for either class.
        name = name.removeprefix("vision_model.")
        if name == "embeddings.position_ids":  # written before transformers 4.31
            return None
        inner = kind == "CLIPVisionModelWithProjection" and name.split(".", 1)[0] in _CLIP_PARTS
        return f"vision_model.{name}" if inner else name
    if kind in _NO_ADDED_Q and "norm_added_q" in name:  # in the published Wan 2.1 image-to-video folders
        return None
    return name


def config_value(kind: str, config: Mapping[str, Any], key: str) -> Any:
    """A value of a configuration that `expected_shapes` took, else what the class takes in its place."""
    if kind in _CLIP and "vision_config" in config:
        config = config["vision_config"]
    return config.get(key, defaults(kind).get(key))


def defaults(kind: str) -> dict[str, Any]:
    """What a class takes for the keys a configuration leaves out, of those that shapes follow from."""
    return {key: default for key, (default, _) in _KINDS[kind].keys.items()}


def _bad(kind: str, problem: str) -> ModelError:
    return ModelError("bad-config", f"{kind} cannot have {problem}.", suggestions=["Download config.json again."])


_KINDS = {
    "WanTransformer3DModel": _Kind(transformer_shapes, TRANSFORMER),
    "WanVACETransformer3DModel": _Kind(
        vace_shapes,
        {
            **TRANSFORMER,
            "vace_layers": ([0, 5, 10, 15, 20, 25, 30, 35], many(whole(255, 0), 256)),
            "vace_in_channels": (96, CHANNELS),
        },
    ),
    "WanAnimateTransformer3DModel": _Kind(
        animate_shapes,
        {
            **TRANSFORMER,
            "in_channels": (36, or_null(CHANNELS)),
            "latent_channels": (16, or_null(CHANNELS)),
            "image_dim": (1280, or_null(WIDTH)),
            "motion_encoder_channel_sizes": (None, ("a table of whole numbers, or null", is_channel_table)),
            "motion_encoder_size": (
                512,
                ("a power of two from 4 to 1024", lambda value: type(value) is int and value in MOTION_CHANNELS),
            ),
            "motion_style_dim": (512, WIDTH),
            "motion_dim": (20, WIDTH),
            "motion_encoder_dim": (512, WIDTH),
            "face_encoder_hidden_dim": (1024, WIDTH),
            "face_encoder_num_heads": (4, HEADS),
            "inject_face_latents_blocks": (5, LAYERS),
        },
    ),
    "WanAnimate2Transformer3DModel": _Kind(
        animate_2_shapes,
        {
            "patch_size": ((1, 2, 2), PATCH),
            "in_dim": (36, CHANNELS),
            "dim": (5120, WIDTH),
            "ffn_dim": (13824, WIDTH),
            "freq_dim": (256, WIDTH),
            "text_dim": (4096, WIDTH),
            "out_dim": (16, CHANNELS),
            "num_heads": (40, HEADS),
            "num_layers": (40, LAYERS),
            "cross_attn_norm": (True, FLAG),
            "use_img_emb": (True, FLAG),
        },
    ),
    "AutoencoderKLWan": _Kind(
        vae_shapes,
        {
            "base_dim": (96, whole(2**16, 2)),
            "decoder_base_dim": (None, or_null(whole(2**16, 2))),  # the plain kind halves it
            "z_dim": (16, CHANNELS),
            "dim_mult": ([1, 2, 4, 4], many(whole(2**10), 16)),
            "num_res_blocks": (2, whole(32)),
            "attn_scales": ([], many(SCALE, 64, 0)),
            "temperal_downsample": ([False, True, True], many(FLAG, 16, 0)),
            "is_residual": (False, FLAG),
            "in_channels": (3, CHANNELS),
            "out_channels": (3, CHANNELS),
            "patch_size": (None, or_null(whole(32))),  # of pixels, before and after: no tensor follows from it
        },
    ),
    "UMT5EncoderModel": _Kind(
        umt5_shapes,
        {
            "vocab_size": (250112, whole(2**24)),
            "d_model": (512, WIDTH),
            "d_kv": (64, CHANNELS),
            "d_ff": (1024, WIDTH),
            "num_layers": (8, LAYERS),
            "num_heads": (6, HEADS),
            "relative_attention_num_buckets": (32, WIDTH),
            "feed_forward_proj": ("gated-gelu", ACTIVATION),
            "is_gated_act": (None, FLAG),  # left out: as feed_forward_proj says
        },
        {
            "d_model": "hidden_size",
            "d_kv": "head_dim",
            "num_layers": "num_hidden_layers",
            "num_heads": "num_attention_heads",
        },
    ),
    "CLIPVisionModel": _Kind(clip_shapes, CLIP_VISION),
    "CLIPVisionModelWithProjection": _Kind(projected_clip_shapes, CLIP_VISION),
}
_CLIP = ("CLIPVisionModel", "CLIPVisionModelWithProjection")
_CLIP_PARTS = ("embeddings", "pre_layrnorm", "encoder", "post_layernorm")
_NO_ADDED_Q = ("WanTransformer3DModel", "WanVACETransformer3DModel", "WanAnimateTransformer3DModel")
