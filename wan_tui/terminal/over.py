"""What is written over an update of the screen, in one stroke with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from textual._compositor import ChopsUpdate, CompositorUpdate

if TYPE_CHECKING:
    from rich.console import Console
    from textual.geometry import Region
    from textual.screen import Screen

# Of a screen and its update (None: there is nothing to paint) what comes after it.
Overlay = Callable[["Screen[Any]", CompositorUpdate | None], str]


class Over(CompositorUpdate):
    """An update and what comes after it, before the cursor goes to its place and the terminal shows any of it."""

    def __init__(self, update: CompositorUpdate, words: str) -> None:
        self._update = update
        self._words = words

    def render_segments(self, console: Console) -> str:
        return self._update.render_segments(console) + self._words


def paints(update: CompositorUpdate, region: Region) -> bool:
    """Whether it writes on cells of a widget that takes this region. Of a line it writes a widget's part whole."""
    if not isinstance(update, ChopsUpdate):
        return True
    return any(y in region.line_range and x < region.right and end > region.x for y, x, end in update.spans)
