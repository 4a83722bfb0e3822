"""Whether the terminal shows pictures in its own pixels: it is asked, and its answers are kept from the keys."""

from __future__ import annotations

import fcntl
import re
import struct
import termios
from collections.abc import Callable, Mapping

from wan_tui.terminal.means import means

_NAMED = ("xterm-kitty", "xterm-ghostty")  # those that have placeholder cells; no other terminal is asked anything
_QUESTIONS = "\x1b[>q\x1b_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA\x1b\\"  # its name and version; a picture, only in theory
_ANSWER = re.compile(r"\x1bP>\|([^\x1b]*)\x1b\\|\x1b_G([^\x1b]*)\x1b\\")
_BEGUN = re.compile(r"\x1b(P(>(\|[^\x1b]{0,200}\x1b?)?)?|_(G[^\x1b]{0,200}\x1b?)?)?\Z")
_KITTY = re.compile(r"kitty\((\d+)\.(\d+)")
_FIRST_KITTY = (0, 28)  # the first that has placeholders
_USUAL_CELL = (10, 20)


class Answers:
    """Asked once, from the screen's thread; heard in the one that reads keys."""

    def __init__(self) -> None:
        self._asked = False
        self._named = self._draws = False
        self._begun = ""

    @property
    def draws(self) -> bool:
        """Whether it shows pictures. False until it has said so."""
        return self._named and self._draws

    def ask(self, environ: Mapping[str, str], write: Callable[[str], None]) -> None:
        if self._asked or environ.get("TERM") not in _NAMED or means(environ, "utf-8").multiplexer:
            return
        self._asked = True
        write(_QUESTIONS)

    def kept_from(self, text: str) -> str:
        """What was typed, without answers; the beginning of one waits for its end."""
        if not self._asked:
            return text
        text = _ANSWER.sub(self._heard, self._begun + text)
        begun = _BEGUN.search(text)
        self._begun = begun[0] if begun else ""
        return text[: begun.start()] if begun else text

    def rest(self) -> str:
        """What began like an answer and did not go on: it was typed."""
        rest, self._begun = self._begun, ""
        return rest

    def _heard(self, answer: re.Match[str]) -> str:
        name, result = answer.groups()
        if name is None:
            self._draws = self._draws or result == "i=31;OK"
        elif kitty := _KITTY.match(name):
            self._named = (int(kitty[1]), int(kitty[2])) >= _FIRST_KITTY
        else:
            self._named = name.startswith("ghostty ")
        return ""


def cell_pixels(terminal: int) -> tuple[int, int]:
    """Width and height of a cell, from the size in pixels a terminal tells with that in cells."""
    try:
        rows, columns, width, height = struct.unpack("HHHH", fcntl.ioctl(terminal, termios.TIOCGWINSZ, bytes(8)))
    except OSError:
        return _USUAL_CELL
    known = rows and columns and width >= columns and height >= rows
    return (width // columns, height // rows) if known else _USUAL_CELL
