"""What a file of weights is, told from the names and shapes of its tensors alone: no byte of a tensor is read.

A name such as `blocks.7.self_attn.q.weight` is looked up as it is and as the pattern `blocks.N.self_attn.q.weight`, its
first number left open, so that a lone shard without block 0 is recognised too. Widths are read from vectors (biases,
norms): quantised files store their matrices in other shapes. Names and shapes may be anything.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

from engine.compat.recognise.encoders import find_image_encoder, find_text_encoder
from engine.compat.recognise.loras import find_lora
from engine.compat.recognise.others import find_other
from engine.compat.recognise.table import Recognised, Shape, tabled, unwrapped
from engine.compat.recognise.told import Told, read_told
from engine.compat.recognise.vaes import find_vae
from engine.compat.recognise.wan import SCALED, find_wan
from engine.library.weights import Tensor

__all__ = ["Recognised", "recognise"]

# Beyond these a shape is no weight's: it is cut, so that no number grows endless.
_DIMENSIONS, _LARGEST = 8, 2**40


def recognise(
    shard_tensors: Iterable[Tensor],
    file_name: str = "",
    metadata: Mapping[str, str] | None = None,
    layout: str | None = None,
) -> Recognised:
    """What these tensors are: those of a file, or of all shards of a model.

    The file's name (with its folders, where they say something) and its metadata tell what tensors cannot: which
    expert, which version. `layout` is "gguf" for a GGUF file.
    """
    entries: list[tuple[str, Shape]] = []
    dtypes: Counter[str] = Counter()
    for tensor in shard_tensors:
        shape = tuple([min(max(length, 0), _LARGEST) for length in tensor.shape[:_DIMENSIONS]])
        entries.append((tensor.name, shape))
        dtypes[tensor.dtype] += math.prod(shape)
    told = read_told(file_name, metadata or {})
    found = find_lora(entries, told) or _checkpoint(entries, told) or _single(entries, told)
    return replace(
        found,
        layout=layout or found.layout,
        dtypes=tuple(name for name, _ in dtypes.most_common()),
        parameters=sum(dtypes.values()),
        facts={**found.facts, "tensors": len(entries)},
    )


def _single(entries: list[tuple[str, Shape]], told: Told) -> Recognised:
    """One part of a model."""
    entries, comfyui = unwrapped(entries)
    table = tabled(entries)
    comfyui = comfyui or table.has("scaled_fp8") or any(name.endswith(SCALED) for name in table.count)
    found = (
        find_wan(table, told, comfyui)
        or find_image_encoder(table)
        or find_text_encoder(table)
        or find_vae(table, told)
        or find_other(table)
        or Recognised("unknown", why=("names of no model known here",) if entries else ("no tensors",))
    )
    theirs = comfyui and (found.layout == "unknown" or found.part == "text_encoder")
    return replace(found, layout="comfyui") if theirs else found


# Where the parts of a model lie in one file.
_PARTS = (
    ("model.diffusion_model.", "transformer"),
    ("first_stage_model.", "vae"),
    ("vae.", "vae"),
    ("cond_stage_model.", "text_encoder"),
    ("conditioner.", "text_encoder"),
    ("text_encoders.", "text_encoder"),
)


def _checkpoint(entries: list[tuple[str, Shape]], told: Told) -> Recognised | None:
    parts: dict[str, list[tuple[str, Shape]]] = {}
    for entry in entries:
        for prefix, part in _PARTS:
            if entry[0].startswith(prefix):
                parts.setdefault(part, []).append(entry)
                break
    # A marker or two beside a transformer make no checkpoint.
    parts = {part: held for part, held in parts.items() if len(held) > 10}
    if len(parts) < 2:
        return None
    inner = {part: _single(held, told) for part, held in parts.items()}
    chief = inner.get("transformer") or inner["vae"]
    why = (f"several parts in one file: {', '.join(inner)}", *chief.why)
    name = chief.name.removesuffix(" transformer").removesuffix(" UNet")
    return replace(chief, part="checkpoint", layout="comfyui", name=f"checkpoint of several parts: {name}", why=why)
