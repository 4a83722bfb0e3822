"""A bf16 folder made from a model folder whose weights are wider: shard by shard, resumable, in little memory.

It loads, in the precisions of `pipelines/components.py`, to the very bits the source loads to. So only what runs in
bf16 is converted, and of it not what diffusers keeps in fp32; the VAE and the image encoder run in fp32 and stay.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from engine.control import Control
from engine.errors import ModelError
from engine.library.jsonfile import read_json
from engine.library.listing import is_needed
from engine.library.share import part_of, regular_file, share, write_all
from engine.library.weights import WIDTH, Shard, Tensor, bad_weights, read_shard
from engine.paths import write_atomic

_TRANSFORMERS = (
    "WanTransformer3DModel",
    "WanVACETransformer3DModel",
    "WanAnimateTransformer3DModel",
    "WanAnimate2Transformer3DModel",
)
_CONVERTED = ("transformer", "transformer_2", "text_encoder")
# What any of these classes keeps in fp32: for estimates, which must not wait for diffusers.
_MAY_KEEP = (
    *("rope", "norm1", "norm2", "norm3", "scale_shift_table", "modulation"),
    *("time_embedder", "time_embedding", "time_projection", "motion_synthesis_weight"),
)
_TORCH = {
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
}
_SLICE = 1 << 20  # elements at a time: they stay in the cache of a core
_SMALL = 1 << 20  # JSON up to this is copied whole
_RECORD = Path(".wan-tui", "bf16.json")
_MODEL_INDEX = "model_index.json"
_INDEX = ".safetensors.index.json"

Tick = Callable[[str, int, int], None]


@dataclass(frozen=True)
class _Result:
    """What becomes of a shard: the dtype each of its tensors gets, in the order they lie in."""

    shard: Shard
    dtypes: tuple[str, ...]

    @property
    def is_final(self) -> bool:
        return all(tensor.dtype == to for tensor, to in self)

    @property
    def data_bytes(self) -> int:
        """Bytes of the tensors."""
        return sum(tensor.count * WIDTH[to] for tensor, to in self)

    def __iter__(self) -> Iterator[tuple[Tensor, str]]:
        return zip(self.shard.tensors, self.dtypes, strict=True)

    def header(self) -> bytes:
        table: dict[str, Any] = {} if self.shard.metadata is None else {"__metadata__": self.shard.metadata}
        at = 0
        for tensor, to in self:
            end = at + tensor.count * WIDTH[to]
            table[tensor.name] = {"dtype": to, "shape": tensor.shape, "data_offsets": [at, end]}
            at = end
        text = json.dumps(table, separators=(",", ":"), ensure_ascii=False).encode()
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + text


@dataclass(frozen=True)
class _Piece:
    """A file of the result: where its source really lies and which file exactly that is, as size, mtime and inode."""

    path: str
    source: Path
    identity: tuple[int, int, int]
    kept: tuple[str, ...] | None = None
    result: _Result | None = None
    text: bytes | None = None

    @property
    def size(self) -> int:
        return self.identity[0]

    @property
    def is_converted(self) -> bool:
        return self.result is not None and not self.result.is_final

    @property
    def result_bytes(self) -> int:
        if self.text is not None:
            return len(self.text)
        if self.result is None or self.result.is_final:
            return self.size
        return len(self.result.header()) + self.result.data_bytes


def bf16_bytes(source: Path) -> int:
    """Bytes of the result, from the headers alone. An upper bound, close: nothing counts as shared, and every tensor
    that some Wan transformer keeps in fp32 counts as kept; all others that are converted count two bytes an element.
    """
    kept = {name: _MAY_KEEP if name.startswith("transformer") else () for name in _CONVERTED}
    index = read_json(source / _MODEL_INDEX)
    return sum(piece.result_bytes for piece in _plan(source, index, kept))


def make_bf16(source: Path, target: Path, control: Control, tick: Tick, *, sealed: bool) -> dict[str, str]:
    """Make the bf16 folder `target` from `source`; returns the SHA-256 of each file by path, where it is known.

    `tick` is told the path of a file, how many of its source's bytes are done, and of how many. What an earlier call
    finished stays as it is; `model_index.json` comes last. `sealed` is as in `share`. Raises `ModelError`, `Cancelled`
    (finished shards stay), and `OSError` as it comes. One call at a time for a target: the caller sees to that.
    """
    index = read_json(source / _MODEL_INDEX)
    classes = _components(source, index)
    kept = {name: kept_in_fp32(classes[name], source / name) for name in _CONVERTED if name in classes}
    pieces = _plan(source, index, kept)
    _check_target(source, target, classes)
    record = _Record(target)
    _clear(target, record, pieces, [target / name for name in classes])
    if not all(record.holds(piece) for piece in pieces):  # an unfinished folder must not look like a pipeline
        (target / _MODEL_INDEX).unlink(missing_ok=True)
    digests: dict[str, str] = {}
    for piece in pieces:
        control.check()
        if record.holds(piece):
            sha256 = record.sha256(piece)
        else:
            (target / piece.path).parent.mkdir(parents=True, exist_ok=True)
            sha256 = _make(piece, target / piece.path, control, tick, sealed=sealed)
            record.add(piece, sha256)
        tick(piece.path, piece.size, piece.size)
        if sha256:
            digests[piece.path] = sha256
    return digests


def recorded(target: Path) -> dict[str, str]:
    """The SHA-256 that each file had which earlier calls finished, where it is known."""
    rows = _Record(target).rows.items()
    return {path: row["sha256"] for path, row in rows if isinstance(row, dict) and isinstance(row.get("sha256"), str)}


def kept_in_fp32(kind: str, component: Path) -> tuple[str, ...]:
    """The parts of names that diffusers keeps in fp32 under bf16, for the class the component's config.json names.

    The private attribute is read as `load_model_dict_into_meta` reads it: a tensor is kept when one of them is a whole
    part of its dotted name. transformers 5 keeps nothing of the text encoder in fp32 under bf16: its attribute of the
    same name, UMT5's "wo", counts under fp16 only.
    """
    if component.name == "text_encoder":
        if kind == "UMT5EncoderModel":
            return ()
        raise _refused(component, kind)
    named = read_json(component / "config.json").get("_class_name")
    if named not in _TRANSFORMERS:
        raise _refused(component, named)
    import diffusers

    if not hasattr(diffusers, named):
        raise _refused(component, named)
    kept = getattr(diffusers, named)._keep_in_fp32_modules or ()
    return (kept,) if isinstance(kept, str) else tuple(kept)


# --- what is to be made ----------------------------------------------------------------------------------------------


def _components(source: Path, index: Mapping[str, Any]) -> dict[str, str]:
    """Component to class, for those the folder has; the names are checked, for they become folders."""
    found = {}
    for name, value in index.items():
        if isinstance(value, list) and len(value) == 2 and all(value):
            if not re.fullmatch(r"[a-z][a-z0-9_]{0,60}", name):
                raise bad_weights(source / _MODEL_INDEX, f"names the component {name!r:.80}")
            if not (source / name).is_dir():
                raise _incomplete(source, name)
            found[name] = str(value[1])
    return found


def _plan(source: Path, index: Mapping[str, Any], kept: Mapping[str, tuple[str, ...]]) -> list[_Piece]:
    """Every file of the result in the order it is made: what is large first, model_index.json last."""
    pieces = []
    for name in _components(source, index):
        ours = [_piece(source, path, kept.get(name)) for path in _files(source, name)]
        if name in kept and not any(piece.result for piece in ours):
            raise _incomplete(source, f"{name}/*.safetensors")
        pieces += [_with_total(piece, ours) for piece in ours] if name in kept else ours
    pieces.sort(key=lambda piece: piece.text is not None)
    return [*pieces, _piece(source, _MODEL_INDEX, None)]


def _files(source: Path, component: str) -> Iterator[str]:
    """The regular files of a component that a model needs."""
    for folder, folders, names in os.walk(source / component):
        folders.sort()
        for name in sorted(names):
            file = Path(folder, name)
            path = file.relative_to(source).as_posix()
            if not is_needed(path):
                continue
            if file.is_file():
                yield path
            elif not file.exists():  # a link into a cache that has lost the file
                raise _incomplete(source, path)


def _piece(source: Path, path: str, kept: tuple[str, ...] | None) -> _Piece:
    real = regular_file(source / path)
    identity = _identity(real.stat())
    if path.endswith(".safetensors"):
        return _Piece(path, real, identity, kept, _result_of(real, source / path, kept))
    copied = path.endswith((_INDEX, _MODEL_INDEX)) or (path.endswith(".json") and identity[0] <= _SMALL)
    return _Piece(path, real, identity, text=real.read_bytes() if copied else None)


def _with_total(piece: _Piece, ours: list[_Piece]) -> _Piece:
    """An index of shards with the size that the shards of the result have; any other piece as it is."""
    if not piece.path.endswith(_INDEX):
        return piece
    table = read_json(piece.source)
    shards = {Path(one.path).name: one.result for one in ours if one.result and one.path.count("/") == 1}
    names, metadata = table.get("weight_map"), table.get("metadata") or {}
    if not isinstance(names, dict) or not names or not isinstance(metadata, dict):
        raise bad_weights(piece.path, "names no shards")
    total = 0
    for name in sorted(set(map(str, names.values()))):
        if name in ("", ".", "..") or Path(name).name != name or "\\" in name:
            raise bad_weights(piece.path, f"names the shard {name!r:.120}, which leaves its folder")
        if name not in shards:
            raise _incomplete(piece.path, name)
        total += shards[name].data_bytes
    table["metadata"] = {**metadata, "total_size": total}
    return _Piece(piece.path, piece.source, piece.identity, text=(json.dumps(table, indent=2) + "\n").encode())


def _result_of(file: Path, shown: Path, kept: tuple[str, ...] | None) -> _Result:
    """`kept` is None where nothing is converted."""
    shard = read_shard(file, shown)
    return _Result(shard, tuple(_result_dtype(tensor.name, tensor.dtype, kept) for tensor in shard.tensors))


def _result_dtype(name: str, dtype: str, kept: tuple[str, ...] | None) -> str:
    """A kept tensor is made no wider than it is: fp32 holds every value of it, and is what it is loaded as."""
    if kept is None or dtype not in _TORCH:
        return dtype
    if any(part in kept for part in name.split(".")):
        return "F32" if dtype == "F64" else dtype
    return "BF16"


def _check_target(source: Path, target: Path, components: Mapping[str, str]) -> None:
    """Nothing is written through a link, nor into a folder that is read."""
    read, written = ([(top / name).resolve() for name in components] for top in (source, target))
    same = source.resolve() == target.resolve()
    if same or any(one == other or one in other.parents or other in one.parents for one in read for other in written):
        raise ModelError("bad-target", f"{target} and {source} lie in one another: nothing can be made there.")
    for folder in (target, target / _RECORD.parent, *(target / name for name in components)):
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            raise ModelError("bad-target", f"{folder} is no plain folder: nothing is written there.")


# --- making ----------------------------------------------------------------------------------------------------------


def _make(piece: _Piece, target: Path, control: Control, tick: Tick, *, sealed: bool) -> str | None:
    if piece.text is not None:
        return _write(target, piece.text)
    if piece.is_converted:
        return _convert(piece, target, control, tick)
    return share(piece.source, target, control, sealed=sealed).sha256


def _write(target: Path, text: bytes) -> str:
    with part_of(target) as part, part.open("xb") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    return hashlib.sha256(text).hexdigest()


def _convert(piece: _Piece, target: Path, control: Control, tick: Tick) -> str:
    result = piece.result
    assert result is not None
    sha = hashlib.sha256()
    with part_of(target) as part:
        with piece.source.open("rb", buffering=0) as stream, part.open("xb", buffering=0) as out:
            for data in _converted(piece, result, stream, control, tick):
                sha.update(data)
                write_all(out.fileno(), data)
            os.fsync(out.fileno())
            if _identity(os.fstat(stream.fileno())) != piece.identity:
                raise bad_weights(piece.path, "changed while it was read")
        written = [(tensor.name, tensor.dtype, tensor.shape) for tensor in read_shard(part, part).tensors]
        if written != [(tensor.name, to, tensor.shape) for tensor, to in result]:
            raise bad_weights(part, "does not hold what was written to it")
    return sha.hexdigest()


def _converted(piece: _Piece, result: _Result, stream: BinaryIO, control: Control, tick: Tick) -> Iterator[memoryview]:
    """The bytes of the converted shard, in order; each is gone when the next is asked for."""
    import torch

    yield memoryview(result.header())
    # No more is touched than a slice needs: 8 bytes an element are for fp64 alone.
    wide, narrow = bytearray(_SLICE * 8), bytearray(_SLICE * 4)
    stream.seek(result.shard.data)
    for tensor, to in result:
        before, after = WIDTH[tensor.dtype], WIDTH[to]
        for first in range(0, tensor.count, _SLICE):
            control.check()
            count = min(_SLICE, tensor.count - first)
            data = memoryview(wide)[: count * before]
            _fill(stream, data, piece)
            if tensor.dtype != to:
                values = torch.frombuffer(data, dtype=getattr(torch, _TORCH[tensor.dtype]))
                data = memoryview(narrow)[: count * after]
                torch.frombuffer(data, dtype=getattr(torch, _TORCH[to])).copy_(values)
            yield data
            tick(piece.path, stream.tell(), piece.size)


def _fill(stream: BinaryIO, data: memoryview, piece: _Piece) -> None:
    while data:
        read = stream.readinto(data)  # type: ignore[attr-defined]
        if not read:
            raise bad_weights(piece.path, "became shorter while it was read")
        data = data[read:]


def _clear(target: Path, record: _Record, pieces: list[_Piece], folders: list[Path]) -> None:
    """Away with what a killed call left half-written, and with what was made of files the source has no more."""
    for folder in (target, target / _RECORD.parent, *folders):
        for part in folder.rglob(".*.part") if folder in folders else folder.glob(".*.part"):
            if stat.S_ISREG(part.lstat().st_mode):
                part.unlink()
    for path in record.paths - {piece.path for piece in pieces}:
        if target / path.partition("/")[0] in folders and ".." not in path.split("/"):
            (target / _MODEL_INDEX).unlink(missing_ok=True)
            with suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
                (target / path).unlink()
        record.forget(path)


class _Record:
    """What is finished, kept in the target: of which source, by which rule, and the very file that came of it."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self.rows: dict[str, Any] = {}
        with suppress(OSError, ValueError, RecursionError, KeyError, TypeError):
            self.rows = dict(json.loads((target / _RECORD).read_bytes())["files"])

    @property
    def paths(self) -> set[str]:
        return set(self.rows)

    def forget(self, path: str) -> None:
        del self.rows[path]

    def holds(self, piece: _Piece) -> bool:
        row = self.rows.get(piece.path)
        return isinstance(row, dict) and row == self._row(piece, row.get("sha256"))

    def sha256(self, piece: _Piece) -> str | None:
        value = self.rows[piece.path]["sha256"]
        return value if isinstance(value, str) else None

    def add(self, piece: _Piece, sha256: str | None) -> None:
        self.rows[piece.path] = self._row(piece, sha256)
        (self._target / _RECORD).parent.mkdir(exist_ok=True)
        write_atomic(self._target / _RECORD, json.dumps({"version": 1, "files": self.rows}, indent=1).encode())

    def _row(self, piece: _Piece, sha256: object) -> dict[str, Any] | None:
        try:
            info = (self._target / piece.path).lstat()
        except OSError:
            return None
        if not stat.S_ISREG(info.st_mode):
            return None
        rule = sorted(piece.kept) if piece.is_converted and piece.kept is not None else None
        text = hashlib.sha256(piece.text).hexdigest() if piece.text is not None else None
        return {
            "source": list(piece.identity),
            "kept": rule,
            "sha256": text or sha256,
            "output": [info.st_size, info.st_mtime_ns],
        }


def _identity(info: os.stat_result) -> tuple[int, int, int]:
    return info.st_size, info.st_mtime_ns, info.st_ino


def _incomplete(folder: Path | str, lacking: str) -> ModelError:
    return ModelError(
        "incomplete-model", f"{folder} lacks {lacking}.", suggestions=["Download the missing files again."]
    )


def _refused(component: Path, kind: object) -> ModelError:
    return ModelError("class-refused", f"{component} is of the class {kind!r:.80}, which this program does not load.")
