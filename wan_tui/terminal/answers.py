"""How the terminal shows pictures in its own pixels: it is asked, and its answers are kept from the keys."""

from __future__ import annotations

import fcntl
import re
import struct
import termios
from collections.abc import Callable, Mapping
from typing import Literal

from wan_tui.terminal.means import Colours, means

Way = Literal["kitty", "sixel"]
Cell = tuple[int, int]

_PLACED = ("xterm-kitty", "xterm-ghostty")  # those that have placeholder cells
_OF_KITTY = "\x1b[>q\x1b_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA\x1b\\"  # its name and version; a picture, only in theory
_OF_SIXEL = "\x1b[16t\x1b[?1;1;0S\x1b[c"  # the size of a cell; how many colours; what it has: all terminals answer that
_ANSWER = re.compile(
    r"\x1bP>\|(?P<name>[^\x1b]*)\x1b\\"
    r"|\x1b_G(?P<drawn>[^\x1b]*)\x1b\\"
    r"|\x1b\[6;(?P<cell>\d+;\d+)t"
    r"|\x1b\[\?1;(?P<colours>[\d;]+)S"
    r"|\x1b\[\?(?P<has>[\d;]*)c"
)
_BEGUN = re.compile(r"\x1b(P(>(\|[^\x1b]{0,200}\x1b?)?)?|_(G[^\x1b]{0,200}\x1b?)?|\[(6[\d;]{0,20}|\?[\d;]{0,80})?)?\Z")
_KITTY = re.compile(r"kitty\((\d+)\.(\d+)")
_FIRST_KITTY = (0, 28)  # the first that has placeholders
_ENOUGH: tuple[Colours, ...] = ("truecolor", "256")
_SIXEL = "4"  # among what a terminal has, after its class
_MOST_COLOURS, _LEAST_COLOURS = 256, 16  # of a picture
_PATIENCE = 20  # so often nothing comes before an Esc is taken for a key at once


class Answers:
    """Asked once, from the screen's thread; heard in the one that reads keys. `window` tells a cell by its size."""

    def __init__(self, window: Callable[[], Cell | None] = lambda: None) -> None:
        self._window = window
        self._asked = self._all_said = False
        self._named = self._draws = self._has_sixel = False
        self._told: tuple[Cell, Cell | None] | None = None  # a cell, and what the window told of it then
        self._colours: int | None = None
        self._begun = ""
        self._patience = _PATIENCE
        self.on_way: Callable[[], object] = lambda: None  # called in that thread once there is one

    def way(self, colours: Colours) -> Way | None:
        """How pictures are drawn where there are those colours. None until the terminal has said so."""
        if self._named and self._draws:
            return "kitty" if colours == "truecolor" else None
        able = self._has_sixel and self.cell and self.colours >= _LEAST_COLOURS
        return "sixel" if able and colours in _ENOUGH else None

    @property
    def cell(self) -> Cell | None:
        """Width and height of a cell in pixels, as it was told, unless it has changed since."""
        now = self._window()
        return self._told[0] if self._told and self._told[1] == now else now

    @property
    def colours(self) -> int:
        """How many a picture may have."""
        return min(self._colours or _MOST_COLOURS, _MOST_COLOURS)

    def ask(self, environ: Mapping[str, str], write: Callable[[str], None]) -> None:
        found = means(environ, "utf-8")
        if self._asked or found.multiplexer or found.colours not in _ENOUGH:  # tmux forgets pictures when it repaints
            return
        self._asked = True
        write(_OF_KITTY if environ.get("TERM") in _PLACED else _OF_SIXEL)

    def kept_from(self, text: str) -> str:
        """What was typed, without answers; the beginning of one waits for its end."""
        text, self._begun = self._begun + text, ""
        if not self._asked or self._all_said:
            return text
        text = _ANSWER.sub(self._heard, text)
        begun = _BEGUN.search(text)
        if begun is None or self._all_said or (begun[0] == "\x1b" and not self._patience):
            return text
        self._begun = begun[0]
        return text[: begun.start()]

    def rest(self) -> str:
        """What began like an answer and did not go on: it was typed."""
        self._patience = max(0, self._patience - 1)
        rest, self._begun = self._begun, ""
        return rest

    def _heard(self, answer: re.Match[str]) -> str:
        said = answer[answer.lastgroup or 0]
        match answer.lastgroup:
            case "name":
                self._named = self._places(said)
            case "drawn":
                self._draws = self._draws or said == "i=31;OK"
            case "cell":
                height, width = map(int, said.split(";"))
                self._told = ((width, height), self._window()) if width and height else None
            case "colours":
                failed, *count = map(int, filter(None, said.split(";")))
                self._colours = None if failed or not count else count[0]
            case _:
                self._has_sixel = _SIXEL in said.split(";")[1:]
                self._all_said = True
        if (self._named and self._draws) or self._has_sixel:
            self.on_way()
        return ""

    def _places(self, name: str) -> bool:
        """Whether it has placeholder cells."""
        if kitty := _KITTY.match(name):
            return (int(kitty[1]), int(kitty[2])) >= _FIRST_KITTY
        return name.startswith("ghostty ")


def cell_pixels(terminal: int) -> Cell | None:
    """Width and height of a cell, from the size in pixels a terminal tells with that in cells, if it does."""
    try:
        rows, columns, width, height = struct.unpack("HHHH", fcntl.ioctl(terminal, termios.TIOCGWINSZ, bytes(8)))
    except OSError:
        return None
    known = rows and columns and width >= columns and height >= rows
    return (width // columns, height // rows) if known else None
