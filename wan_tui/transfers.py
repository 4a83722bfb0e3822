"""How the library's events are shown without a screen: a line now and then, or a block of bars on a terminal."""

from __future__ import annotations

import os
import sys
import time

from engine.errors import WanError
from engine.events import Convert, Downloaded, Event, Failed, Import, LibraryProgress, Notice, Verify
from engine.units import size
from wan_tui.cli.errors import described
from wan_tui.printing import Outlet, clock
from wan_tui.text import plain

_PLAIN_EVERY_S = 10.0
_DRAW_EVERY_S = 0.2
_SHOWN = 4  # files below the line of the whole
_VERBS = {Verify: "verify", Import: "import", Convert: "convert"}


class TransferLines:
    """What happens, a line each, on standard error; with `paths`, where a downloaded model lies on standard output."""

    def __init__(self, *, quiet: bool = False, paths: bool = True) -> None:
        self._paths = paths
        self._out, self._err = Outlet(1), Outlet(2)
        self._quiet = quiet
        self._last = time.monotonic()

    def __call__(self, event: Event) -> None:
        match event:
            case LibraryProgress():
                self.progress(event)
            case Downloaded():
                took = f"{size(event.fetched_bytes)} fetched in {clock(event.seconds)}"
                self.tell(f"done     {event.id}, {size(event.bytes)}, verified; {took}", minor=True)
                if self._paths:
                    self._out.write(plain(event.path) + "\n")
            case Failed():
                self.tell(
                    described(WanError(event.code, event.message, cause=event.cause, suggestions=event.suggestions))
                )
            case Notice():
                self.tell(plain(f"warning: {event.message}"), minor=event.code == "waiting")

    def tell(self, text: str, *, minor: bool = False) -> None:
        if not (minor and self._quiet):
            self._err.write(text + "\n")

    def progress(self, event: LibraryProgress) -> None:
        now = time.monotonic()
        if now - self._last >= _PLAIN_EVERY_S:
            self._last = now
            self.tell(_whole(event), minor=True)


class TransferBar(TransferLines):
    """As lines, with the whole and the files under way drawn over a block at the bottom."""

    def __init__(self, *, paths: bool = True) -> None:
        super().__init__(paths=paths)
        full = (getattr(sys.stderr, "encoding", None) or "").lower().replace("-", "") == "utf8"
        self._cells = ("━", "─") if full else ("=", "-")
        self._files: dict[str, LibraryProgress] = {}
        self._drawn = 0
        self._last = 0.0

    def __call__(self, event: Event) -> None:
        if isinstance(event, Downloaded | Failed):
            self._files.clear()
        super().__call__(event)

    def tell(self, text: str, *, minor: bool = False) -> None:
        self._err.write(self._clear())
        super().tell(text, minor=minor)

    def progress(self, event: LibraryProgress) -> None:
        if event.done < event.total:
            self._files[event.file] = event
        else:
            self._files.pop(event.file, None)
        now = time.monotonic()
        finished = event.all_done >= event.all_total
        if now - self._last < _DRAW_EVERY_S and not finished:
            return
        self._last = now
        width, height = _terminal_size()
        shown = list(self._files.values())[: max(0, min(_SHOWN, height - 2))]
        lines = [_whole(event, width - 1), *(self._line(one, width - 1) for one in shown)]
        text = self._clear() + "\n".join(lines) + "\n"
        self._drawn = len(lines)
        self._err.write(text)

    def _clear(self) -> str:
        up = f"\x1b[{self._drawn}A\r\x1b[J" if self._drawn else ""
        self._drawn = 0
        return up

    def _line(self, event: LibraryProgress, width: int) -> str:
        figures = f"{size(event.done)} of {size(event.total)}"
        room = width - len(figures) - 4
        cells = max(5, min(30, room // 3))
        name = plain(event.file)
        fits = max(8, room - cells - 1)
        name = name if len(name) <= fits else "…" + name[-(fits - 1) :] if self._cells[0] == "━" else name[-fits:]
        filled = cells * event.done // max(1, event.total)
        bar = self._cells[0] * filled + self._cells[1] * (cells - filled)
        return f"  {name:<{fits}} {bar} {figures}"[:width]


def _terminal_size() -> tuple[int, int]:
    """Columns and lines of the terminal the block is drawn on, whatever standard output is."""
    try:
        width, height = os.get_terminal_size(2)
    except OSError:
        width = height = 0
    return width or 80, height or 24


def _whole(event: LibraryProgress, width: int | None = None) -> str:
    """How far all of it is, in one line; where that is narrow the least needed goes first."""
    verb = next((word for kind, word in _VERBS.items() if isinstance(event, kind)), "fetch")
    left = event.eta_s is not None and event.all_done < event.all_total
    parts = {
        "name": f"{verb:<8} {event.id}",
        "size": f"{size(event.all_done)} of {size(event.all_total)}",
        "share": f"{100 * event.all_done // max(1, event.all_total)} %",
        "rate": f"{size(round(event.all_rate))}/s" if event.all_rate else "",
        "left": f"{clock(event.eta_s or 0)} left" if left else "",
    }
    for dropped in ("size", "rate", "name"):
        text = "  ".join(filter(None, parts.values()))
        if width is None or len(text) <= width:
            return text
        del parts[dropped]
    return "  ".join(filter(None, parts.values()))[:width]
