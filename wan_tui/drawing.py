"""Bars and curves made of cells, as plain text. ASCII terminals get their own signs from `ascii.py`."""

from __future__ import annotations

import math
from collections.abc import Sequence

UNKNOWN = "—"
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_LEVELS = "▁▂▃▄▅▆▇█"


def bar(fraction: float | None, width: int, mark: float | None = None) -> str:
    """A bar of `width` cells filled to `fraction` (0 … 1); `mark` (0 … 1) is a line across it. None: not known."""
    if fraction is None or not math.isfinite(fraction):
        return "·" * width
    eighths = round(min(1.0, max(0.0, fraction)) * width * 8)
    full, rest = divmod(eighths, 8)
    cells = list(("█" * full + (_EIGHTHS[rest] if rest else "")).ljust(width, "░"))[:width]
    if mark is not None and 0 <= mark <= 1 and width:
        cells[min(width - 1, int(mark * width))] = "│"
    return "".join(cells)


def spark(values: Sequence[float | None], width: int, top: float) -> str:
    """The last `width` values as a curve from 0 to `top`; a gap where one is not known."""
    shown = list(values)[-width:]
    cells = [
        " " if value is None else _LEVELS[min(7, max(0, int(value / top * 8)))] if top > 0 else _LEVELS[0]
        for value in shown
    ]
    return "".join(cells).rjust(width)


def clock(seconds: float | None) -> str:
    """`3:07`, `1:02:03`."""
    if seconds is None or not math.isfinite(seconds):
        return UNKNOWN
    whole = max(0, round(seconds))
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"
