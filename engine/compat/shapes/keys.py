"""What values a configuration may have, and what a class takes where it says nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

# What is right, and whether a value is.
Rule: TypeAlias = tuple[str, Callable[[Any], object]]


def whole(most: int, least: int = 1, step: int = 1) -> Rule:
    right = f"{'an even' if step == 2 else 'a whole'} number from {least} to {most}"
    return right, lambda value: type(value) is int and least <= value <= most and value % step == 0


def or_null(rule: Rule) -> Rule:
    right, fits = rule
    return f"{right}, or null", lambda value: value is None or fits(value)


def many(rule: Rule, most: int, least: int = 1) -> Rule:
    right, fits = rule
    count = f"{most}" if least == most else f"{least} to {most}"

    def fit(value: Any) -> bool:
        return isinstance(value, list | tuple) and least <= len(value) <= most and all(map(fits, value))

    return f"a list of {count}, each {right}", fit


def is_channel_table(value: Any) -> bool:
    fits = CHANNELS[1]
    return value is None or (isinstance(value, Mapping) and len(value) <= 64 and all(map(fits, value.values())))


# Far above what any model has, and low enough that no product of them passes 2**31.
LAYERS = whole(256)
WIDTH = whole(2**20)
CHANNELS = whole(2**16)
HEADS = whole(2**10)
FLAG: Rule = ("true or false", lambda value: isinstance(value, bool))
PATCH = many(whole(32), 3, 3)
_LENGTH = whole(2**20)
SCALE: Rule = ("a number", lambda value: type(value) in (int, float))
ACTIVATION: Rule = (
    'the name of an activation, "gated-" before it or not',
    lambda value: isinstance(value, str) and re.fullmatch(r"(gated-)?[a-z0-9_]{1,60}", value),
)

# The width of the motion encoder by its resolution, unless a configuration has its own table.
MOTION_CHANNELS = {4: 512, 8: 512, 16: 512, 32: 512, 64: 256, 128: 128, 256: 64, 512: 32, 1024: 16}

TRANSFORMER: dict[str, tuple[Any, Rule]] = {
    "patch_size": ((1, 2, 2), PATCH),
    "num_attention_heads": (40, HEADS),
    "attention_head_dim": (128, whole(2**14, 2, step=2)),  # rotary embeddings come in pairs
    "in_channels": (16, CHANNELS),
    "out_channels": (16, or_null(whole(2**16, 0))),  # 0 and null: as many as come in
    "text_dim": (4096, WIDTH),
    "freq_dim": (256, WIDTH),
    "ffn_dim": (13824, WIDTH),
    "num_layers": (40, LAYERS),
    "cross_attn_norm": (True, FLAG),
    "image_dim": (None, or_null(WIDTH)),
    "added_kv_proj_dim": (None, or_null(WIDTH)),
    "rope_max_seq_len": (1024, _LENGTH),  # no tensor that is saved, but one that is made
    "pos_embed_seq_len": (None, or_null(_LENGTH)),
}
CLIP_VISION: dict[str, tuple[Any, Rule]] = {
    "hidden_size": (768, WIDTH),
    "intermediate_size": (3072, WIDTH),
    "projection_dim": (512, WIDTH),
    "num_hidden_layers": (12, LAYERS),
    "num_attention_heads": (12, HEADS),
    "num_channels": (3, CHANNELS),
    "image_size": (224, whole(2**15)),
    "patch_size": (32, whole(2**15)),
}
