"""The header of a safetensors file: names, shapes, dtypes and places of its tensors, every value of it checked."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

from engine.errors import ModelError
from engine.library.jsonfile import plain_json, what_failed
from engine.regular import open_regular

# Bytes of an element, by the format's names of dtypes.
WIDTH = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64"), 8),
}
# The format allows 100 MB; the largest there is has 0.3 MB. Parsed, JSON takes up to 30 times its size.
_HEADER_BYTES = 4 << 20
_DIMENSIONS = 16


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
    """Read the header of a file, which messages name as `shown`. Raises `ModelError` (`bad-weights`), `OSError`."""
    shown = shown or file
    try:
        with open_regular(file) as (stream, size):
            first = stream.read(8)
            length = int.from_bytes(first, "little")
            if not 2 <= length <= min(size - 8, _HEADER_BYTES):
                raise bad_weights(shown, _no_header(first, length, size), _instead(first))
            raw = stream.read(length)
    except ValueError:
        raise bad_weights(shown, "is not a regular file") from None
    try:
        table = plain_json(raw.decode())
        if b"\\u" in raw:  # names that are no Unicode could not be written again
            json.dumps(table, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise bad_weights(shown, "has no readable header", what_failed(error)) from None
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


# What is found in the place of weights, by its first bytes.
_OTHERS = (
    (b"version ", "It is a pointer of Git LFS: the weights themselves were not fetched."),
    (b"<!", "It is a web page: the server answered with one in the place of the file."),
    (b"<html", "It is a web page: the server answered with one in the place of the file."),
    (b"PK\x03\x04", "It is a pickle of torch under another name."),
    (b"GGUF", "It is a GGUF file under another name."),
)


def _no_header(first: bytes, length: int, size: int) -> str:
    if size == 0:
        return "is empty"
    if 2 <= length <= _HEADER_BYTES and not _instead(first):
        return f"is cut short: it has {size} bytes, and its header alone {8 + length}"
    return "has a header of impossible length"


def _instead(first: bytes) -> str | None:
    return next((what for begin, what in _OTHERS if first.lower().startswith(begin.lower())), None)


def _tensor(file: Path, name: str, entry: object) -> Tensor:
    try:
        dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]  # type: ignore[index]
        right = isinstance(shape, list) and len(shape) <= _DIMENSIONS
        right = right and all(type(number) is int and 0 <= number < 1 << 63 for number in (*shape, begin, end))
        right = right and math.prod(shape) * WIDTH[dtype] == end - begin
    except (TypeError, ValueError, KeyError):
        right = False
    if not right:
        raise bad_weights(file, f"says of {name!r:.120} what cannot be")
    return Tensor(name, dtype, tuple(shape), begin, end)


def bad_weights(file: Path | str, problem: str, cause: str | None = None) -> ModelError:
    return ModelError("bad-weights", f"{file} {problem}.", cause=cause, suggestions=["Download this file again."])
