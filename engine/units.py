"""Numbers for people."""

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
    """How many numbers a model holds, to three figures."""
    for word, step in (("billion", 10**9), ("million", 10**6), ("thousand", 10**3)):
        if count * 1000 >= step * 999.5:  # 999,999 is 1 million to three figures, and no 1e+03 thousand
            return f"{count / step:.3g} {word}"
    return str(count)


def counted(count: int, thing: str) -> str:
    """How many there are of something: 1 note, 2 notes."""
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"
