"""What traces found, and where they are kept: in files of the user's cache, and for models of the catalog in one file
that ships.

A kept figure is named by a hash of all it follows from. One that cannot be read is as good as none: it is made again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from engine.paths import cache_dir, write_atomic

FORMAT = 1  # raised when the same trace gives other figures
_KNOWN = Path(__file__).with_name("known.json")
# Whose code the modules are, and how many numbers of a version say that its modules are the same.
_DECIDING = {"diffusers": 2, "transformers": 1}


@dataclass(frozen=True)
class Traced:
    """One run of a module. `activation_bytes` is the most that lived at once beside parameters and what was handed in,
    the output included; `kept_bytes` is what stays for the next call of the same kind."""

    parameter_bytes: int
    activation_bytes: int
    output_bytes: int
    flops: int
    kept_bytes: int = 0


@dataclass(frozen=True)
class Weights:
    """The weights of a component in bytes, in the precision they run in.

    `blocks` are those of its longest list of layers, one by one; `outside` is all the rest. `leaf` is the most that two
    layers with weights of their own have together, of those that follow one another. `pinned` is what the blocks take
    in pinned memory: torch rounds each of their tensors up to a power of two there (CachingHostAllocator).

    Where layers are stored narrower than they run, `casting` is what the largest takes as it runs, beside all of them,
    and `loading` what they are larger by while they are loaded.
    """

    parameters: int
    buffers: int
    blocks: tuple[int, ...]
    leaf: int
    pinned: int
    casting: int = 0
    loading: int = 0

    @property
    def outside(self) -> int:
        return self.parameters - sum(self.blocks)


@dataclass(frozen=True)
class Curve:
    """A sum of terms factor * s**a * n**b; where the same sum with the factors of `small` is more, that."""

    powers: tuple[tuple[int, int], ...]
    factors: tuple[float, ...]
    small: tuple[float, ...] = ()

    def __call__(self, s: float, n: float = 1) -> int:
        value = self._sum(self.factors, s, n)
        return round(max(value, self._sum(self.small, s, n)) if self.small else value)

    def _sum(self, factors: tuple[float, ...], s: float, n: float) -> float:
        return sum(factor * s**a * n**b for factor, (a, b) in zip(factors, self.powers, strict=True))


@dataclass(frozen=True)
class Fitted:
    """A stage for any size: its figures as in `Traced`, as curves over `s` and `n` (what these are, the stage says)."""

    activation: Curve
    output: Curve
    flops: Curve
    kept: Curve


@cache
def versions() -> dict[str, str]:
    """Of the libraries whose code is traced. Without importing them; asked once, for it takes milliseconds."""
    found = {}
    for name in ("torch", *_DECIDING):
        with suppress(PackageNotFoundError):
            found[name] = version(name).partition("+")[0]  # the build says where torch runs, not what
    return found


def key_of(what: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:32]


_collecting: dict[str, Any] | None = None


def begin_collecting(into: dict[str, Any]) -> None:
    """From now on figures that are asked for are kept in `into`, and of those kept before none is read but what ships:
    for making that file anew."""
    global _collecting
    _collecting = into


def kept(what: Mapping[str, Any]) -> Any:
    """What was kept of `what`; None where nothing usable is."""
    if _collecting is not None:
        key = key_of(what)
        if key in shipped():
            _collecting.setdefault(key, shipped()[key])
        return _collecting.get(key)
    if (value := shipped().get(key_of(what))) is not None:
        return value
    try:
        row = json.loads(_file(what).read_bytes())
        return row["value"] if row["of"] == _full(what) else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def keep(what: Mapping[str, Any], value: Any) -> None:
    """Keep a figure. A cache that cannot be written costs a trace later, nothing else."""
    if _collecting is not None:
        _collecting[key_of(what)] = value
        return
    with suppress(OSError):
        write_atomic(_file(what), json.dumps({"of": _full(what), "value": value}).encode())


@cache
def shipped() -> Mapping[str, Any]:
    """The figures that ship, by key; none where the libraries are others than those they were traced with."""
    try:
        table = json.loads(_KNOWN.read_bytes())
    except (OSError, ValueError):
        return {}
    here = versions()
    same = table["format"] == FORMAT and all(
        here.get(name, "").split(".")[:count] == table["versions"][name].split(".")[:count]
        for name, count in _DECIDING.items()
    )
    values: Mapping[str, Any] = table["values"]
    return values if same else {}


def _full(what: Mapping[str, Any]) -> dict[str, Any]:
    return {**what, "versions": versions(), "format": FORMAT}


def _file(what: Mapping[str, Any]) -> Path:
    folder = cache_dir() / "traces"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder / f"{key_of(_full(what))}.json"


# --- to JSON and back ------------------------------------------------------------------------------------------------


def as_json(value: Traced | Weights | Fitted) -> dict[str, Any]:
    return asdict(value)


def weights_from(table: Any) -> Weights | None:
    """None where the table is none of weights."""
    try:
        blocks = tuple(map(int, table["blocks"]))
        return Weights(blocks=blocks, **{key: int(table[key]) for key in ("parameters", "buffers", "leaf", "pinned")})
    except (KeyError, TypeError, ValueError):
        return None


def fitted_from(table: Any) -> Fitted | None:
    """None where the table is none of curves."""
    try:
        return Fitted(**{key: _curve(table[key]) for key in ("activation", "output", "flops", "kept")})
    except (KeyError, TypeError, ValueError):
        return None


def traced_from(table: Any) -> Traced | None:
    """None where the table is none of a trace."""
    names = ("parameter_bytes", "activation_bytes", "output_bytes", "flops", "kept_bytes")
    try:
        return Traced(**{key: int(table[key]) for key in names})
    except (KeyError, TypeError, ValueError):
        return None


def _curve(table: Any) -> Curve:
    powers = tuple((int(a), int(b)) for a, b in table["powers"])
    factors, small = tuple(map(float, table["factors"])), tuple(map(float, table["small"]))
    if len(powers) != len(factors) or len(small) not in (0, len(powers)):
        raise ValueError
    return Curve(powers, factors, small)
