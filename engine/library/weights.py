"""The header of a safetensors file: names, shapes, dtypes and places of its tensors, every value of it checked."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

from engine.errors import ModelError

# Bytes of an element, by the format's names of dtypes.
WIDTH = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64"), 8),
}
_HEADER_BYTES = 100_000_000  # what the format allows


@dataclass(frozen=True)
class Tensor:
    """A tensor of a file, its bytes from `begin` to `end` after the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def count(self) -> int:
        """Its elements."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Shard:
    """A safetensors file: where its `data` begins, and the tensors in the order they lie in."""

    data: int
    metadata: dict[str, str] | None
    tensors: tuple[Tensor, ...]


def read_shard(file: Path, shown: Path | None = None) -> Shard:
    """Read the header of a file, which messages name as `shown`. Raises `ModelError` (`bad-weights`)."""
    shown = shown or file
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if not 2 <= length <= min(size - 8, _HEADER_BYTES):
            raise bad_weights(shown, "has a header of impossible length")
        try:
            table = json.loads(stream.read(length).decode())
            json.dumps(table, ensure_ascii=False).encode()  # names that are no Unicode could not be written again
        except (ValueError, RecursionError):
            raise bad_weights(shown, "has no readable header") from None
    metadata = table.pop("__metadata__", None) if isinstance(table, dict) else None
    if not isinstance(table, dict) or not isinstance(metadata, dict | None):
        raise bad_weights(shown, "has a header that is no table of tensors")
    if any(not isinstance(value, str) for value in (metadata or {}).values()):
        raise bad_weights(shown, "has metadata that are no texts")
    tensors = sorted((_tensor(shown, *entry) for entry in table.items()), key=lambda t: (t.begin, t.end))
    at = 0
    for tensor in tensors:
        if tensor.begin != at:
            raise bad_weights(shown, f"has a gap or an overlap before {tensor.name!r:.120}")
        at = tensor.end
    if 8 + length + at != size:
        raise bad_weights(shown, f"has {size} bytes, and its header tells of {8 + length + at}")
    return Shard(8 + length, metadata, tuple(tensors))


def _tensor(file: Path, name: str, entry: object) -> Tensor:
    try:
        dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]  # type: ignore[index]
        right = isinstance(shape, list)
        right = right and all(type(number) is int and number >= 0 for number in (*shape, begin, end))
        right = right and math.prod(shape) * WIDTH[dtype] == end - begin
    except (TypeError, ValueError, KeyError):
        right = False
    if not right:
        raise bad_weights(file, f"says of {name!r:.120} what cannot be")
    return Tensor(name, dtype, tuple(shape), begin, end)


def bad_weights(file: Path | str, problem: str) -> ModelError:
    return ModelError("bad-weights", f"{file} {problem}.", suggestions=["Download this file again."])
