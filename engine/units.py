"""Large numbers for people."""

from __future__ import annotations


def size(count: int | None) -> str:
    """Bytes in the units files are sold in; `?` where unknown."""
    if count is None:
        return "?"
    for unit, step in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= step:
            return f"{count / step:.1f} {unit}"
    return f"{max(count, 0)} B"


def parameters(count: int) -> str:
    """How many numbers a model holds."""
    return f"{count / 1e9:.3g} billion" if count >= 1e9 else f"{count / 1e6:.3g} million"
