"""Figures as text: known or not, bars of shares, and curves of the last two minutes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from engine.units import size
from wan_tui.drawing import UNKNOWN
from wan_tui.screens.monitor_lines import Line, Piece

_LEVELS = "▁▂▃▄▅▆▇█"
_OURS, _OTHERS, _FREE = "█", "▌", "░"


def known(count: int | None) -> str:
    """Bytes."""
    return UNKNOWN if count is None else size(count)


def measure(figure: float | None, unit: str, width: int = 0) -> str:
    """`97 %`, right-aligned."""
    return (UNKNOWN if figure is None else f"{figure:.0f} {unit}").rjust(width)


def age(seconds: float) -> str:
    whole = int(seconds)
    return f"{whole} s" if whole < 120 else f"{whole // 60} min" if whole < 7200 else f"{whole // 3600} h"


def shares(width: int, total: int | None, used: int | None, ours: int | None) -> Line:
    """A bar: what is ours solid, what others hold striped, the rest light; dots where nothing is known."""
    if not total or used is None:
        return (("·" * width, "dim"),)
    taken = _cells(used, total, width)
    mine = min(taken, _cells(ours or 0, total, width))
    return (_OURS * mine, "ours"), (_OTHERS * (taken - mine), "others"), (_FREE * (width - taken), "dim")


def _cells(part: int, total: int, width: int) -> int:
    """Something is at least one cell."""
    return min(width, max(round(part / total * width), 1 if part > 0 else 0))


def memory(total: int | None, used: int | None, free: int | None, ours: int | None, *, short: bool) -> Line:
    """`ours 2.1 GB  others 6.5 GB  free 17.2 GB of 25.8 GB`; where our part is not known, what is used in all."""
    parts: list[Piece] = [(f"ours {known(ours):>8}", "ours" if ours else "")]
    if not short:
        others = used if ours is None or used is None else max(0, used - ours)
        parts.append((f"  {'used' if ours is None else 'others':>6} {known(others):>8}", "others"))
    parts.append(f"  free {known(free):>8} of {known(total):>8}")
    return tuple(parts)


def curve(
    values: Sequence[float | None], width: int, top: float | None, *, rows: int = 1, phase: int = 0
) -> tuple[str, ...]:
    """The figures as `rows` lines of blocks from 0 to `top`, the newest at the right; a gap where one is not known.

    Several seconds share a cell, which shows the most of them. `phase` is the second of the newest: with it the curve
    moves on only when a cell is full.
    """
    if not top or top <= 0 or width <= 0 or all(value is None for value in values):
        return ((UNKNOWN if width > 0 else "").rjust(width), *(" " * max(0, width),) * (rows - 1))
    each = max(1, math.ceil(len(values) / width))
    take = phase % each + 1  # the newest cell is not full yet
    parts: list[float | None] = []
    end = len(values)
    while end > 0:
        found = [value for value in values[max(0, end - take) : end] if value is not None]
        parts.append(max(found) / top if found else None)
        end, take = end - take, each
    heights = [None if share is None else max(1, min(rows * 8, round(share * rows * 8))) for share in reversed(parts)]
    return tuple(
        "".join(_block(height, rows - 1 - row) for height in heights)[-width:].rjust(width) for row in range(rows)
    )


def _block(height: int | None, floor: int) -> str:
    """The piece of a column that stands on this floor of eight levels."""
    level = 0 if height is None else min(8, height - floor * 8)
    return _LEVELS[level - 1] if level > 0 else " "
