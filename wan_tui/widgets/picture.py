"""A picture or a clip in half-block cells, a still in the terminal's own pixels where it has them.

Decoding is done in a thread of its own; the newest frame wins.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from textual.content import Content
from textual.geometry import Region, Size
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from engine.control import Control
from engine.errors import Cancelled, WanError
from wan_tui.ascii import Ascii
from wan_tui.pictures import Colours, colours_for, half_blocks
from wan_tui.text import plain
from wan_tui.widgets.own_pixels import OwnPixels, middle

if TYPE_CHECKING:
    from engine.video.thumbnail import Frame
    from wan_tui.graphics import Drawing

_SETTLE_S = 0.05  # a list is scrolled faster than this: what is passed over is not decoded
_PLAYED_BITS = 5  # a channel: in motion nobody sees more


@dataclass(frozen=True)
class _Wish:
    path: Path
    moving: bool
    folder_fps: float


class _Showing:
    """One wish being fulfilled: written by its thread, read by the screen's."""

    def __init__(self, wish: _Wish) -> None:
        self.wish = wish
        self.control = Control()
        self.newest: deque[tuple[list[Strip], Drawing | None]] = deque(maxlen=1)
        self.error: WanError | None = None
        self.over = False
        self.told = False  # the screen has been told, and has not looked yet


class Picture(Widget):
    """Shows `still(path)` or `play(path)`, as large as fits, or a plain text: nothing chosen, loading, what failed.

    It takes neither border nor padding: put it into a container. `slow_line` spares bytes: fewer colours and frames.
    `own_pixels` lets the terminal draw stills that can; not on a slow line.
    """

    DEFAULT_CSS = "Picture { width: 1fr; height: 1fr; content-align: center middle; text-align: center; }"

    class News(Message, bubble=False):
        def __init__(self, showing: _Showing) -> None:
            super().__init__()
            self.showing = showing

    def __init__(
        self,
        empty: str = "Nothing to show.",
        *,
        colours: Colours | None = None,
        slow_line: bool = False,
        own_pixels: bool = False,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        """`colours` is what the terminal shows; found out when not given."""
        super().__init__(id=id, classes=classes)
        self._empty = empty
        self._text = empty
        self._colours = colours
        self._slow_line = slow_line
        self._own_pixels = OwnPixels(self) if own_pixels and not slow_line else None
        self._wish: _Wish | None = None
        self._showing: _Showing | None = None
        self._begun = Size(0, 0)  # the size the wish was begun for
        self._strips: list[Strip] = []  # the picture in half blocks; empty while there is a text
        self._seen: list[Strip] = []  # the cells that show it now
        self._lines: list[Strip] = []  # the same in the middle of the widget

    # What it is asked to do

    def still(self, path: Path, folder_fps: float = 16.0) -> None:
        """Show the first frame of a clip."""
        self._begin(_Wish(path, moving=False, folder_fps=folder_fps))

    def play(self, path: Path, folder_fps: float = 16.0) -> None:
        """Play a clip once, from the beginning; its last frame stays. `folder_fps` is the pace of a folder of PNGs."""
        self._begin(_Wish(path, moving=True, folder_fps=folder_fps))

    def stop(self) -> None:
        """End what is playing or loading; what is shown stays."""
        if self._showing:
            self._showing.control.cancel()
            self._over()
            if not self._strips:
                self._say(self._empty)

    def clear(self, empty: str | None = None) -> None:
        """Show nothing, and say so, with another sentence than before where one is given."""
        self._empty = self._empty if empty is None else empty
        self.stop()
        self._wish = None
        if self._strips or self._text != self._empty:
            self._say(self._empty)

    @property
    def playing(self) -> bool:
        return self._showing is not None and self._showing.wish.moving

    # What it looks like

    def render(self) -> Content:
        return Content(self._text)

    def render_lines(self, crop: Region) -> list[Strip]:
        # Not by way of the cache of styled lines: it would mix every colour of every frame with the background's.
        if not self._strips:
            return super().render_lines(crop)
        has = len(self._lines), self._lines[0].cell_length if self._lines else self.size.width
        if has != (self.size.height, self.size.width) or self._seen is not self._cells():
            self._lines = self._centred()
        rows, none = self._lines, Strip.blank(crop.width)  # one that leaves is asked for more than it still has
        return [rows[y].crop(crop.x, crop.right) if y < len(rows) else none for y in crop.line_range]

    def _cells(self) -> list[Strip]:
        return (self._own_pixels and self._own_pixels.cells) or self._strips

    def _centred(self) -> list[Strip]:
        self._seen = strips = self._cells()
        width, height = self.size
        style = self.visual_style.rich_style
        if strips is not self._strips:  # at the edges such a picture may leave a part of a cell free
            strips = [strip.apply_style(style.background_style) for strip in strips]
        above = middle(self.size, Size(0, len(strips))).y
        lines = [self._plainly(Strip.blank(width, style))] * height
        for y, strip in enumerate(strips[: height - above], above):
            left = middle(self.size, Size(strip.cell_length, 0)).x
            right = max(0, width - left - strip.cell_length)
            shown = self._plainly(strip.apply_style(style)) if self._seen_colours() == "none" else strip
            sides = [self._plainly(Strip.blank(side, style)) for side in (left, right)]
            lines[y] = Strip.join([sides[0], shown, sides[1]]).crop(0, width)
        return lines

    def _plainly(self, strip: Strip) -> Strip:
        """A strip in the app's own colours, as the app shows them on this terminal."""
        for one in self.app.get_line_filters():
            strip = strip.apply_filter(one, self.background_colors[1])
        return strip

    def _seen_colours(self) -> Colours:
        if self._colours:
            return self._colours
        blocks = not any(isinstance(one, Ascii) for one in self.app.get_line_filters())
        found = colours_for(self.app.console.color_system, blocks=blocks, no_color=self.app.no_color)
        return "256" if self._slow_line and found == "truecolor" else found

    def _say(self, text: str) -> None:
        self._take(None)
        self._text, self._strips, self._lines = text, [], []
        self.refresh()

    def _take(self, drawing: Drawing | None) -> None:
        if self._own_pixels:
            self._own_pixels.take(drawing)

    def _draw(self, strips: list[Strip]) -> None:
        before = self._lines
        self._strips = strips
        self._lines = self._centred()
        if len(before) != len(self._lines):
            self.refresh()
        elif changed := [y for y, line in enumerate(self._lines) if line != before[y]]:
            self.refresh(*(Region(0, y, self.size.width, 1) for y in changed))

    # How it comes about

    def _begin(self, wish: _Wish) -> None:
        if self._showing:
            self._showing.control.cancel()
        if not (self._strips and self._wish and self._wish.path == wish.path):
            self._say("Loading…")
        self._wish = wish
        self._showing = showing = _Showing(wish)
        self._begun = size = self.size
        if size.area:  # else it begins when there is room
            threading.Thread(
                target=self._work, args=(showing, size, self._seen_colours()), name="picture", daemon=True
            ).start()

    def on_mount(self) -> None:
        if self._own_pixels:
            self._own_pixels.begin(self._finer)

    def on_resize(self) -> None:
        if self._wish and self.size != self._begun:
            self._begin(self._wish)

    def _finer(self) -> None:
        """The terminal has said that it draws pictures: what was begun before is begun again."""
        if self._wish and not self._wish.moving:
            self._begin(self._wish)

    def on_hide(self) -> None:
        if self.playing:
            self.stop()

    def on_unmount(self) -> None:
        self.stop()
        if self._own_pixels:
            self._own_pixels.end()

    def on_picture_news(self, news: News) -> None:
        showing = news.showing
        showing.told = False  # first: whatever comes from now on is told again
        if showing is not self._showing:
            return
        if showing.wish.moving and not self.screen.is_active:  # another place is shown
            self.stop()
            return
        over = showing.over  # before the frame is taken: after it, another may come
        if showing.newest:
            strips, drawing = showing.newest.pop()
            self._take(drawing)
            self._draw(strips)
        if showing.error:
            self._say(plain(" ".join(filter(None, (showing.error.message, showing.error.cause)))))
        if over:
            self._over()

    def _over(self) -> None:
        self._showing = None
        if self._wish:  # in another size it is shown again, not played again
            self._wish = replace(self._wish, moving=False)

    # In a thread

    def _work(self, showing: _Showing, size: Size, colours: Colours) -> None:
        try:
            showing.control.wait(_SETTLE_S)
            bits = _PLAYED_BITS if showing.wish.moving else 8
            for frame in self._frames(showing, size):
                strips = half_blocks(frame.rgb, frame.width, frame.height, colours, bits)
                fine = None if showing.wish.moving else self._own_pixels
                drawing = fine.made(showing.wish.path, size, colours, showing.control) if fine else None
                showing.newest.append((strips, drawing))
                self._tell(showing)
        except Cancelled:
            return
        except Exception as error:  # noqa: BLE001  (named and told)
            from engine.runtime.failure import explain

            showing.error = explain(error)
        showing.over = True
        self._tell(showing)

    def _frames(self, showing: _Showing, size: Size) -> Iterator[Frame]:
        """Frames when they are due."""
        from engine.video.thumbnail import frames, still

        wish, control = showing.wish, showing.control
        if not wish.moving:
            yield still(wish.path, size.width, size.height * 2, control)
            return
        fps = 5 if self._slow_line else 10
        due = time.monotonic()
        for frame in frames(wish.path, size.width, size.height * 2, fps, control, wish.folder_fps):
            control.wait(due - time.monotonic())
            yield frame
            due = max(due, time.monotonic() - 1 / fps) + 1 / fps

    def _tell(self, showing: _Showing) -> None:
        """Have the screen look, once, however much comes before it does."""
        if not showing.told:
            showing.told = True
            if not self.post_message(self.News(showing)):  # the app is gone
                showing.control.cancel()
