"""A widget's picture in the terminal's own pixels, from when it is sent to when nobody sees it any more."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textual.errors import NoWidget
from textual.geometry import Offset, Region, Size
from textual.strip import Strip
from textual.widget import Widget

from wan_tui.graphics import Drawing, Room
from wan_tui.terminal import kitty, sixel
from wan_tui.terminal.answers import Way
from wan_tui.terminal.driver import SafeDriver
from wan_tui.terminal.over import paints

if TYPE_CHECKING:
    from textual._compositor import CompositorUpdate
    from textual.screen import Screen

    from engine.control import Control
    from engine.video.thumbnail import Frame
    from wan_tui.terminal.means import Colours

_WAYS: dict[Way, Callable[[Frame, Room], Drawing | None]] = {"kitty": kitty.drawing, "sixel": sixel.drawing}
_USUAL_CELL = (10, 20)


class OwnPixels:
    """Nothing happens where the terminal has none, or until `begin`."""

    def __init__(self, widget: Widget) -> None:
        self._widget = widget
        self._terminal: SafeDriver | None = None
        self._drawing: Drawing | None = None
        self._free = True  # the widget is seen whole, with nothing over it
        self._outworn: list[str] = []  # what takes pictures from the terminal's memory

    def begin(self, on_way: Callable[[], object]) -> None:
        """When the widget is mounted: ask the terminal. It has none until it has answered: then `on_way` is called."""
        driver = self._widget.app._driver
        if isinstance(driver, SafeDriver):
            self._terminal = driver
            driver.answers.on_way = lambda: self._widget.call_later(on_way)
            driver.answers.ask(os.environ, driver.write)
            driver.overlays.append(self._over)
            self._widget.app.app_resume_signal.subscribe(self._widget, lambda _: self._send_again())

    @property
    def cells(self) -> list[Strip] | None:
        """What shows the picture. Not below a dialog, which dims colours: these may be the numbers of pictures."""
        if not self._drawing or not self._widget.screen.is_active or (self._drawing.over and not self._free):
            return None
        return self._drawing.cells

    def made(self, path: Path, size: Size, colours: Colours, control: Control) -> Drawing | None:
        """The first frame of a clip, for so many cells; in a thread. Raises as `still` does."""
        from engine.video.thumbnail import still

        answers = self._terminal.answers if self._terminal else None
        if answers is None or not (way := answers.way(colours)):
            return None
        room = Room(size.width, size.height, answers.cell or _USUAL_CELL, answers.colours)
        return _WAYS[way](still(path, *room.pixels, control), room)

    def take(self, new: Drawing | None) -> None:
        """Send it, before its cells are painted; the one before goes when it is painted over, lest it flicker."""
        if self._drawing:
            self._outworn.append(self._drawing.forget)
            self._widget.call_after_refresh(self._forget)
        self._drawing = new
        self._send()
        if new:
            self._widget.refresh()  # all of it: its cells may look like those of the one before

    def end(self) -> None:
        """The widget goes."""
        self.take(None)
        self._forget()
        if self._terminal:
            self._terminal.overlays.remove(self._over)

    def _forget(self) -> None:
        while self._outworn and self._terminal:
            if (forget := self._outworn.pop()) in self._terminal.pictures:
                self._terminal.pictures.remove(forget)
                self._terminal.write(forget)

    def _send(self) -> None:
        if self._drawing and self._drawing.sequence and self._terminal:
            self._terminal.pictures.add(self._drawing.forget)
            self._terminal.write(self._drawing.sequence)

    def _send_again(self) -> None:
        """A screen that was left and is taken again has lost its pictures."""
        self._send()
        self._widget.refresh()

    # A picture the terminal does not keep

    def _over(self, screen: Screen[Any], update: CompositorUpdate | None) -> str:
        """It is laid over its cells by the update that paints them; where it cannot be, there are other cells."""
        if not (self._drawing and self._drawing.over and self._widget.is_attached):
            return ""
        if screen is not self._widget.screen:  # it lies over this one, or another place is shown
            return ""
        at = self._place(self._drawing)
        if self._free != (at is not None):
            self._free = at is not None
            self._widget.refresh()
            return ""
        if at is None or update is None or not paints(update, self._widget.region):
            return ""
        return f"\x1b[{at.y + 1};{at.x + 1}H{self._drawing.over}"

    def _place(self, drawing: Drawing) -> Offset | None:
        """Where the picture begins; None where it would be seen in part, or be left behind."""
        widget, screen = self._widget, self._widget.screen
        try:
            seen = screen.find_widget(widget)
        except NoWidget:
            return None
        taken = Size(drawing.cells[0].cell_length, len(drawing.cells))
        whole = seen.visible_region == seen.region and seen.region.reset_offset.contains_region(taken.region)
        if not whole or self._is_covered(seen.region) or widget.app.native_ansi_color:
            return None  # over cells without a background Konsole leaves pictures where they are
        at = seen.region.offset + middle(seen.region.size, taken)
        last = at.y + taken.height >= screen.size.height  # after a picture there, terminals scroll
        return None if last or drawing.cell != (self._terminal and self._terminal.answers.cell) else at

    def _is_covered(self, region: Region) -> bool:
        seen = self._widget.screen._compositor.visible_widgets.items()
        above = takewhile(lambda one: one[0] is not self._widget, seen)
        return any(region.overlaps(place.intersection(clip)) for _, (place, clip) in above)


def middle(of: Size, taken: Size) -> Offset:
    """Where what takes so much begins in the middle."""
    return Offset(max(0, (of.width - taken.width) // 2), max(0, (of.height - taken.height) // 2))
