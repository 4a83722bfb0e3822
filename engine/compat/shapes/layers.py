"""The tensors of layers that several classes have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

Shapes: TypeAlias = dict[str, tuple[int, ...]]
Config: TypeAlias = Mapping[str, Any]


class Conflict(Exception):
    """Values that cannot be together."""


def show(value: object) -> str:
    try:
        return f"{value!r:.80}"
    except (ValueError, RecursionError):  # numbers of thousands of digits, lists a thousand deep
        return f"a {type(value).__name__} too large to show"


def linear(name: str, into: int, out: int, *kernel: int) -> Shapes:
    """A convolution, or a linear layer when it has no kernel."""
    return {f"{name}.weight": (out, into, *kernel), f"{name}.bias": (out,)}


def norm(name: str, dim: int) -> Shapes:
    return {f"{name}.weight": (dim,), f"{name}.bias": (dim,)}


def under(name: str, shapes: Shapes) -> Shapes:
    return {f"{name}.{key}": shape for key, shape in shapes.items()}


def numbered(name: str, parts: Iterable[Shapes]) -> Shapes:
    return {f"{name}.{at}.{key}": shape for at, part in enumerate(parts) for key, shape in part.items()}
