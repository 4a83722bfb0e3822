"""Models of real size without a download: the real components by their configurations, filled with random numbers.

Files are written by hand, tensor by tensor from one small buffer, so that a model of 60 GB needs no RAM. Components
that are alike (two experts, the text encoder of every model) are one set of files under several names.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from engine.compat.folder import FROM_TRANSFORMERS, weights_name
from engine.memory.parts import Model, Part, Precision
from engine.memory.skeleton import build, hollow
from engine.memory.traced import key_of

if TYPE_CHECKING:
    import torch

SHARD = 5 * 10**9  # bytes, as published
_POOL = 1 << 21  # random numbers, which all tensors are made of
_NAMES = {"torch.float32": "F32", "torch.bfloat16": "BF16"}  # in safetensors


@dataclass(frozen=True)
class Tensor:
    """A tensor of a file. `scale` is the deviation of its numbers; None stands for a vector of `fill`."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    scale: float | None
    fill: float = 0.0

    @property
    def bytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize


def bytes_of(model: Model, precision: Precision, store: Path) -> int:
    """What a model still takes on disk: components that are alike once, those that are there already not at all."""
    alike = {key(part, precision): part for part in model.parts.values()}
    lacking = [part for name, part in alike.items() if not _place(store, name).exists()]
    return sum(tensor.bytes for part in lacking for tensor in tensors(part, precision))


def _place(store: Path, name: str) -> Path:
    return store / "components" / name


def key(part: Part, precision: Precision) -> str:
    """A name for all that a component's files follow from."""
    return key_of({**part.identity, "dtype": precision.of(part.name)})


def tensors(part: Part, precision: Precision) -> list[Tensor]:
    """The tensors of a component in the precision mix it runs in, each once."""
    with hollow():
        module = build(part, precision)
        named = dict(module.named_parameters())
        tied = dict(module.named_parameters(remove_duplicate=False))
        named |= {name: buffer for name, buffer in module.state_dict().items() if name not in tied}
        return [_tensor(name, value) for name, value in named.items()]


def _tensor(name: str, value: Any) -> Tensor:
    """Numbers that keep what passes through of the order of 1: norms change nothing, sums have a deviation of 1."""
    shape = tuple(value.shape)
    if prod(shape) == max(shape, default=1):
        return Tensor(name, value.dtype, shape, None, 0.0 if name.endswith("bias") else 1.0)
    into = prod(shape[1:]) if len(shape) != 3 else shape[-1]
    return Tensor(name, value.dtype, shape, 2.0 ** -round(into.bit_length() / 2))


def build_model(model: Model, pipeline: str, precision: Precision, store: Path, name: str) -> Path:
    """The folder `name` in `store`, in diffusers layout; components that are there already are taken."""
    from diffusers import UniPCMultistepScheduler, __version__

    from tests.tiny import small_tokenizer

    folder = store / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    tokenizer = small_tokenizer()
    tokenizer.save_pretrained(folder / "tokenizer")
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    scheduler.save_pretrained(folder / "scheduler")
    index: dict[str, Any] = {"_class_name": pipeline, "_diffusers_version": __version__}
    index |= {"boundary_ratio": model.boundary_ratio, "expand_timesteps": model.expand_timesteps}
    index["tokenizer"] = ["transformers", type(tokenizer).__name__]
    index["scheduler"] = ["diffusers", type(scheduler).__name__]
    for part in model.parts.values():
        _link(build_component(part, precision, store), folder / part.name)
        index[part.name] = ["transformers" if part.name in FROM_TRANSFORMERS else "diffusers", part.kind]
    (folder / "model_index.json").write_text(json.dumps(index, indent=1))
    return folder


def build_component(part: Part, precision: Precision, store: Path) -> Path:
    """The files of one component, in a folder that has its name only when it is whole."""
    final = _place(store, key(part, precision))
    if final.exists():
        return final
    making = final.with_suffix(".part")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    with hollow():
        module: Any = build(part, precision)
        if part.name in FROM_TRANSFORMERS:
            module.config.architectures = [part.kind]
            module.config.save_pretrained(making)
        else:
            module.save_config(making)
    _write_weights(tensors(part, precision), making / weights_name(part.name))
    making.rename(final)
    return final


def _link(source: Path, target: Path) -> None:
    target.mkdir()
    for file in source.iterdir():
        os.link(file, target / file.name)


# --- safetensors, written without holding any ------------------------------------------------------------------------


def _write_weights(named: list[Tensor], file: Path) -> None:
    """One file, or shards of `SHARD` bytes with an index."""
    shards, pool = _shards(named), _Pool()
    if len(shards) == 1:
        _write(named, file, pool)
        return
    where: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        part = file.with_stem(f"{file.stem}-{number:05}-of-{len(shards):05}")
        _write(shard, part, pool)
        where |= {tensor.name: part.name for tensor in shard}
    total = {"total_size": sum(tensor.bytes for tensor in named)}
    Path(f"{file}.index.json").write_text(json.dumps({"metadata": total, "weight_map": where}))


def _shards(named: list[Tensor]) -> list[list[Tensor]]:
    shards: list[list[Tensor]] = [[]]
    for tensor in named:
        if shards[-1] and sum(one.bytes for one in shards[-1]) + tensor.bytes > SHARD:
            shards.append([])
        shards[-1].append(tensor)
    return shards


def _write(named: list[Tensor], file: Path, pool: _Pool) -> None:
    """A safetensors file: the length of its header, the header, the numbers."""
    header = json.dumps({"__metadata__": {"format": "pt"}, **_header(named)}).encode()
    header += b" " * (-len(header) % 8)
    with file.open("wb") as out:
        out.write(len(header).to_bytes(8, "little") + header)
        for tensor in named:
            pool.write(tensor, out)


def _header(named: list[Tensor]) -> Mapping[str, Any]:
    table, at = {}, 0
    for tensor in named:
        ends = [at, at + tensor.bytes]
        table[tensor.name] = {"dtype": _NAMES[str(tensor.dtype)], "shape": tensor.shape, "data_offsets": ends}
        at = ends[1]
    return table


class _Pool:
    """A buffer of random numbers for each dtype and scale; tensors begin at different places of it."""

    def __init__(self) -> None:
        self._buffers: dict[tuple[torch.dtype, float], memoryview] = {}
        self._at = 0

    def write(self, tensor: Tensor, out: BinaryIO) -> None:
        import torch

        if tensor.scale is None:
            filled = torch.full((prod(tensor.shape),), tensor.fill, dtype=tensor.dtype)
            out.write(filled.view(torch.uint8).numpy().data)
            return
        for piece in self._pieces(self._buffer(tensor.dtype, tensor.scale), tensor.bytes):
            out.write(piece)

    def _pieces(self, buffer: memoryview, count: int) -> Iterator[memoryview]:
        start = self._at = (self._at + 4096 * 7) % len(buffer)
        while count > 0:
            piece = buffer[start : start + count]
            yield piece
            count -= len(piece)
            start = 0

    def _buffer(self, dtype: torch.dtype, scale: float) -> memoryview:
        import torch

        if (dtype, scale) not in self._buffers:
            numbers = torch.randn(_POOL, generator=torch.Generator().manual_seed(0)) * scale
            self._buffers[dtype, scale] = numbers.to(dtype).view(torch.uint8).numpy().data
        return self._buffers[dtype, scale]
