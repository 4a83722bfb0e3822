"""A widget's picture in the terminal's own pixels, from when it is sent to when nobody sees it any more."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from textual.geometry import Size
from textual.strip import Strip
from textual.widget import Widget

from wan_tui.graphics import Drawing, Room, drawing
from wan_tui.terminal.driver import SafeDriver

if TYPE_CHECKING:
    from engine.control import Control


class OwnPixels:
    """Nothing happens where the terminal has none, or until `begin`."""

    def __init__(self, widget: Widget) -> None:
        self._widget = widget
        self._terminal: SafeDriver | None = None
        self._drawing: Drawing | None = None
        self._outworn: list[str] = []  # what takes pictures from the terminal's memory

    def begin(self) -> None:
        """When the widget is mounted: ask the terminal. Until it answers it has none."""
        driver = self._widget.app._driver
        if isinstance(driver, SafeDriver):
            self._terminal = driver
            driver.answers.ask(os.environ, driver.write)
            self._widget.app.app_resume_signal.subscribe(self._widget, lambda _: self._send_again())

    @property
    def cells(self) -> list[Strip] | None:
        """What shows the picture. Not below a dialog, which dims colours: these are the numbers of pictures."""
        return self._drawing.cells if self._drawing and self._widget.screen.is_active else None

    def made(self, path: Path, size: Size, control: Control) -> Drawing | None:
        """The first frame of a clip, for so many cells; in a thread. Raises as `still` does."""
        from engine.video.thumbnail import still

        if self._terminal is None or not self._terminal.answers.draws:
            return None
        room = Room(size.width, size.height, self._terminal.cell_pixels)
        return drawing(still(path, *room.pixels, control), room)

    def take(self, new: Drawing | None) -> None:
        """Send it, before its cells are painted; the one before goes when it is painted over, lest it flicker."""
        if self._drawing:
            self._outworn.append(self._drawing.forget)
            self._widget.call_after_refresh(self._forget)
        self._drawing = new
        self._send()

    def end(self) -> None:
        """The widget goes."""
        self.take(None)
        self._forget()

    def _forget(self) -> None:
        while self._outworn and self._terminal:
            if (forget := self._outworn.pop()) in self._terminal.pictures:
                self._terminal.pictures.remove(forget)
                self._terminal.write(forget)

    def _send(self) -> None:
        if self._drawing and self._terminal:
            self._terminal.pictures.add(self._drawing.forget)
            self._terminal.write(self._drawing.sequence)

    def _send_again(self) -> None:
        """A screen that was left and is taken again has lost its pictures."""
        self._send()
        self._widget.refresh()
