"""What was said before, and the end of the log."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.screen import ModalScreen

from engine import paths
from wan_tui.background import in_background
from wan_tui.widgets.listing import Column, Listing, Row

if TYPE_CHECKING:
    from wan_tui.app import Said

_TONES = {"error": "bad", "warning": "warn"}
_LOG_BYTES = 20_000


class Messages(ModalScreen[None]):
    ABOUT = "What was said before, the newest first; below it the last lines of the log. Esc closes this."
    IN_PASSING = True
    BINDINGS = [Binding("escape,q", "leave", "Close", priority=True)]
    DEFAULT_CSS = """
    Messages { align: center middle; background: $background 60%; }
    Messages > Vertical { width: 98%; height: 94%; border: round $primary; background: $surface; }
    Messages Listing { background: $surface; }
    """

    def __init__(self, said: Iterable[Said]) -> None:
        super().__init__()
        self._said = tuple(reversed(list(said)))

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Listing([Column("", 8), Column("")], empty="Nothing was said yet.", head=False)

    def on_mount(self) -> None:
        self._show([])
        in_background(self, _log_tail, self._show, lambda error: self._show([error.message]))

    def _show(self, log: list[str]) -> None:
        rows = [
            Row(f"{index}", (_at(one.time), (one.text, _TONES.get(one.severity, ""))))
            for index, one in enumerate(self._said)
        ]
        if log:
            rows.append(Row("log", ("Log", str(paths.state_place() / "wan-tui.log")), heading=True))
            rows += [Row(f"log{index}", ("", (line, "dim"))) for index, line in enumerate(log)]
        self.query_one(Listing).show(rows)

    def action_leave(self) -> None:
        self.dismiss(None)


def _at(moment: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(moment))


def _log_tail() -> list[str]:
    """The last lines of the log; none where there is no log."""
    try:
        with (paths.state_place() / "wan-tui.log").open("rb") as log:
            log.seek(max(0, log.seek(0, 2) - _LOG_BYTES))
            return log.read().decode(errors="replace").splitlines()[-200:]
    except FileNotFoundError:
        return []
