"""Model folders of full size that take no room: real configurations and headers, holes for tensors."""

from __future__ import annotations

import json
import struct
from math import prod
from pathlib import Path
from typing import Any

from engine.catalog import ModelSpec
from engine.compat.identify import class_of
from engine.compat.shapes import expected_shapes
from engine.library.weights import WIDTH

_SHARD = 4_950_000_000  # bytes, about what the publishers' shards have
_SOLVER = "UniPCMultistepScheduler"
_SCHEDULER = {"_class_name": _SOLVER, "prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0}
_NAMES = {"transformers": "model", "diffusers": "diffusion_pytorch_model"}


def giant(spec: ModelSpec, folder: Path) -> Path:
    """A folder as the catalog describes it, with headers of the real sizes over sparse files."""
    index: dict[str, Any] = {"_class_name": spec.pipeline, "_diffusers_version": "0.35.0"}
    index |= {"boundary_ratio": spec.boundary_ratio} if spec.two_experts else {}
    index |= {"expand_timesteps": True} if spec.expand_timesteps else {}
    for name, config in spec.architecture.items():
        kind = class_of(name, spec)
        library = "transformers" if name.endswith("encoder") else "diffusers"
        index[name] = [library, kind]
        if "z_dim" in config:  # these come with the weights
            config = {**config, "latents_mean": [0.0] * config["z_dim"], "latents_std": [1.0] * config["z_dim"]}
        named = {"architectures": [kind]} if library == "transformers" else {"_class_name": kind}
        place = folder / name
        place.mkdir(parents=True)
        (place / "config.json").write_text(json.dumps({**named, **config}))
        dtype = "BF16" if name == "text_encoder" else "F32"
        _weights(place, _NAMES[library], expected_shapes(kind, config) or {}, dtype)
    small = {
        "scheduler": (
            "diffusers",
            "UniPCMultistepScheduler",
            "scheduler_config.json",
            {**_SCHEDULER, "flow_shift": 3.0},
        ),
        "tokenizer": ("transformers", "T5TokenizerFast", "tokenizer_config.json", {"tokenizer_class": "T5Tokenizer"}),
    }
    if "image_encoder" in spec.architecture:
        processor = {"image_processor_type": "CLIPImageProcessor"}
        small["image_processor"] = ("transformers", "CLIPImageProcessor", "preprocessor_config.json", processor)
    for name, (library, kind, file, config) in small.items():
        index[name] = [library, kind]
        (folder / name).mkdir()
        if name == "tokenizer":
            (folder / name / "tokenizer.json").write_text("{}")
        (folder / name / file).write_text(json.dumps(config))
    (folder / "model_index.json").write_text(json.dumps(index, indent=2))
    return folder


def _weights(folder: Path, name: str, shapes: dict[str, tuple[int, ...]], dtype: str) -> None:
    shards: list[dict[str, tuple[int, ...]]] = [{}]
    held = 0
    for tensor, shape in shapes.items():
        size = prod(shape) * WIDTH[dtype]
        if shards[-1] and held + size > _SHARD:
            shards.append({})
            held = 0
        shards[-1][tensor] = shape
        held += size
    if len(shards) == 1:
        sparse(folder / f"{name}.safetensors", shards[0], dtype)
        return
    weight_map = {}
    for number, shard in enumerate(shards, 1):
        file = f"{name}-{number:05d}-of-{len(shards):05d}.safetensors"
        sparse(folder / file, shard, dtype)
        weight_map |= dict.fromkeys(shard, file)
    table = {"metadata": {"total_size": sum(prod(shape) for shape in shapes.values()) * WIDTH[dtype]}}
    (folder / f"{name}.safetensors.index.json").write_text(json.dumps({**table, "weight_map": weight_map}))


def sparse(file: Path, shapes: dict[str, tuple[int, ...]], dtype: str = "F32") -> Path:
    """A safetensors file with a header and no bytes below it: it takes a block of the disk, and has its full size."""
    table, at = {}, 0
    for name, shape in shapes.items():
        end = at + prod(shape) * WIDTH[dtype]
        table[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, end]}
        at = end
    header = json.dumps({"__metadata__": {"format": "pt"}, **table}).encode()
    with file.open("wb") as stream:
        stream.write(struct.pack("<Q", len(header)) + header)
        stream.truncate(8 + len(header) + at)
    return file
