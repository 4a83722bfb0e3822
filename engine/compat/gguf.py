"""The header of a GGUF file: metadata, names, shapes, types and places of its tensors, every value of it checked."""

from __future__ import annotations

import os
import stat
import struct
from pathlib import Path

from engine.library.weights import Shard, Tensor, bad_weights

# What is believed of a file. Real headers are a few hundred KiB; a tokenizer's vocabulary makes them some MiB.
_HEADER_BYTES = 16 * 2**20
_TENSORS = _VALUES = _ARRAYS = 20_000
_TEXT_BYTES = 64 * 2**10
_NESTING = 4
_DIMENSIONS = 8  # ggml itself has 4; a video model's first convolution is stored with 5
_ELEMENTS = 2**62

# ggml's types: number -> name, elements a block, bytes a block. One whose size is not known here has 0 bytes.
_TYPES = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    9: ("Q8_1", 32, 0),  # grew smaller over the years
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
}
# Kinds of metadata values: plain ones by their struct format, then text and array.
_PLAIN = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _ARRAY = 8, 9
_LEAST = {**{kind: struct.calcsize(f"<{code}") for kind, code in _PLAIN.items()}, _TEXT: 8, _ARRAY: 12}


class _Bad(Exception):
    """What is wrong, in words that follow the file's name."""


class _Header:
    """The first bytes of a file, taken from front to back."""

    def __init__(self, data: bytes, whole: bool) -> None:
        self.data, self.at, self.arrays = data, 0, 0
        self.short = "ends within its header" if whole else f"has a header of more than {_HEADER_BYTES >> 20} MiB"

    def skip(self, count: int) -> int:
        """Step over bytes; where they begin."""
        if count > len(self.data) - self.at:  # also where it stands beyond the end
            raise _Bad(self.short)
        self.at += count
        return self.at - count

    def number(self, code: str) -> int | float | bool:
        value: int | float | bool = struct.unpack_from(f"<{code}", self.data, self.skip(struct.calcsize(f"<{code}")))[0]
        return value

    def count(self, code: str, least: int = 0) -> int:
        """A whole number; of things that take `least` bytes each, which must still be there."""
        value = int(self.number(code))
        if value * least > len(self.data) - self.at:
            raise _Bad(self.short)
        return value

    def text(self, what: str) -> str:
        length = self.count("Q", 1)
        if length > _TEXT_BYTES:
            raise _Bad(f"has {what} of {length} bytes")
        begin = self.skip(length)
        try:
            return self.data[begin : self.at].decode()
        except UnicodeDecodeError:
            raise _Bad(f"has {what} that is no text") from None

    def pass_array(self, depth: int = 1) -> None:
        """Step over an array without building it."""
        self.arrays += 1
        if depth > _NESTING or self.arrays > _ARRAYS:
            raise _Bad(f"has arrays nested more than {_NESTING} deep, or more than {_ARRAYS} of them")
        kind = self.count("I")
        if kind not in _LEAST:
            raise _Bad(f"has an array of the unknown kind {kind}")
        length = self.count("Q", _LEAST[kind])
        if kind in _PLAIN:
            self.skip(length * _LEAST[kind])
        elif kind == _TEXT:
            self.pass_texts(length)
        else:
            for _ in range(length):
                self.pass_array(depth + 1)

    def pass_texts(self, count: int) -> None:
        at, end, length = self.at, len(self.data) - 8, struct.Struct("<Q").unpack_from
        for _ in range(count):  # a vocabulary has hundreds of thousands
            if at > end:
                raise _Bad(self.short)
            at += 8 + length(self.data, at)[0]
        self.at = at
        self.skip(0)


def read_gguf(file: Path, shown: Path | None = None) -> Shard:
    """Read the header of a GGUF file (version 2 or 3), which messages name as `shown`.

    Shapes stand in torch's order. A tensor of a type unknown here has no size: its `end` is its `begin`.
    Raises `ModelError` (`bad-weights`).
    """
    shown = shown or file
    try:
        data, size = _first_bytes(file)
        return _shard(_Header(data, len(data) == size), size)
    except _Bad as bad:
        raise bad_weights(shown, str(bad)) from None
    except (OSError, ValueError) as error:  # a path with a zero byte is a ValueError
        raise bad_weights(shown, f"cannot be read ({getattr(error, 'strerror', None) or error})") from error


def _first_bytes(file: Path) -> tuple[bytes, int]:
    # Without O_NONBLOCK, opening a pipe waits for somebody who writes into it.
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as stream:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise _Bad("is no regular file")
        return stream.read(min(status.st_size, _HEADER_BYTES)), status.st_size


def _shard(header: _Header, size: int) -> Shard:
    if header.data[:4] != b"GGUF":
        raise _Bad("is no GGUF file")
    header.skip(4)
    version = header.count("I")
    if version not in (2, 3):
        if version in (2 << 24, 3 << 24):
            raise _Bad("is a GGUF file for big-endian machines")
        raise _Bad(f"is a GGUF file of the unknown version {version}")
    tensors = header.count("Q", 24)  # a name of no letters, no dimensions, a type, an offset
    values = header.count("Q", 13)
    if tensors > _TENSORS or values > _VALUES:
        raise _Bad(f"tells of {tensors} tensors and {values} values")
    metadata, alignment = _metadata(header, values)
    found = [_tensor(header, alignment) for _ in range(tensors)]
    data = -(-header.at // alignment) * alignment
    found.sort(key=lambda tensor: (tensor.begin, tensor.end))
    at, names = 0, set()
    for tensor in found:
        if tensor.begin < at:
            raise _Bad(f"has an overlap before {tensor.name!r:.120}")
        at = tensor.end
        names.add(tensor.name)
    if len(names) < len(found):
        raise _Bad("names a tensor twice")
    if found and data + at > size:
        raise _Bad(f"has {size} bytes, and its header tells of {data + at}")
    return Shard(data, metadata, tuple(found))


def _metadata(header: _Header, entries: int) -> tuple[dict[str, str], int]:
    """The plain values as texts, and the alignment of tensors."""
    metadata: dict[str, str] = {}
    seen: set[str] = set()
    alignment = 32
    for _ in range(entries):
        key, kind = header.text("a key"), header.count("I")
        if key in seen:
            raise _Bad(f"has the key {key!r:.120} twice")
        seen.add(key)
        if kind == _ARRAY:
            header.pass_array()
        elif kind == _TEXT:
            metadata[key] = header.text(f"a value of {key!r:.120}")
        elif kind in _PLAIN:
            value = header.number(_PLAIN[kind])
            metadata[key] = str(value).lower() if isinstance(value, bool) else str(value)
            if key == "general.alignment":
                if isinstance(value, float) or not 1 <= value <= 2**16 or value & (value - 1):
                    raise _Bad(f"has the impossible alignment {value}")
                alignment = int(value)
        else:
            raise _Bad(f"has a value of the unknown kind {kind} as {key!r:.120}")
    return metadata, alignment


def _tensor(header: _Header, alignment: int) -> Tensor:
    name = header.text("a tensor's name")
    dimensions = header.count("I", 8)
    if dimensions > _DIMENSIONS:
        raise _Bad(f"gives {name!r:.120} {dimensions} dimensions")
    shape = tuple(header.count("Q") for _ in range(dimensions))
    kind, begin = header.count("I"), header.count("Q")
    elements = 1
    for length in shape:
        elements *= length
    type_name, block, block_bytes = _TYPES.get(kind, (f"TYPE_{kind}", 1, 0))
    if elements > _ELEMENTS or max(shape, default=0) > _ELEMENTS or (shape[0] if shape else 1) % block:
        raise _Bad(f"says of {name!r:.120} what cannot be")
    if begin % alignment:
        raise _Bad(f"has {name!r:.120} at a place that is not aligned")
    return Tensor(name, type_name, shape[::-1], begin, begin + elements // block * block_bytes)
