"""The transformers' weights stored in fp8: what they take then, from configurations alone.

diffusers casts them layer by layer (`enable_layerwise_casting`) and leaves alone what lies outside the blocks, norms
and tables. That is told here a second time, so that a plan needs no torch; tests hold it to the modules themselves.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace
from math import prod

from engine.compat.shapes import expected_shapes
from engine.memory.parts import Part
from engine.memory.traced import Weights

_BLOCKS = "blocks."
_LEFT_ALONE = ("norm", "scale_shift_table")


def in_fp8(part: Part, width: int, exact: Weights) -> Weights:
    """The weights of a `WanTransformer3DModel` in bytes when its layers are stored in fp8 and run in `width` bytes.

    `exact` is what it takes otherwise. `leaf` is that of there: mostly of layers outside the blocks, and never less.
    """
    shapes = expected_shapes(part.kind, part.config) or {}
    cast = {name: prod(shape) for name, shape in shapes.items() if _is_cast(name)}
    blocks, layers = Counter[int](), Counter[str]()
    for name, count in cast.items():
        blocks[int(name.split(".")[1])] += count
        layers[name.rpartition(".")[0]] += count
    less = width - 1
    spared = less * sum(cast.values())
    return replace(
        exact,
        parameters=exact.parameters - spared,
        blocks=tuple(block - less * blocks[at] for at, block in enumerate(exact.blocks)),
        pinned=exact.pinned - less * sum(1 << (count - 1).bit_length() for count in cast.values()),
        casting=width * max(layers.values(), default=0),
        loading=spared,
    )


def _is_cast(name: str) -> bool:
    return name.startswith(_BLOCKS) and not any(piece in name for piece in _LEFT_ALONE)


def can_cast(device: str, half: bool) -> bool:
    """Whether a device (torch's name of it) casts weights from fp8 to what it computes in, bf16 (`half`) or fp32.

    It is tried where torch is loaded and the device in use; elsewhere it is taken for granted.
    """
    torch = sys.modules.get("torch")
    if torch is None or (device.startswith("cuda") and not torch.cuda.is_initialized()):
        return True
    dtype = torch.bfloat16 if half else torch.float32
    try:
        there = torch.ones(1, dtype=dtype, device=device)
        return bool(there.to(torch.float8_e4m3fn).to(dtype).item() == 1)
    except (RuntimeError, TypeError, AttributeError):  # by version and device
        return False
