"""A failure, told in full: what, why, what to do; and what the program itself can do about it, at a key."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from engine.errors import WanError
from wan_tui.widgets.ask import plain_lines


@dataclass(frozen=True)
class Way:
    """Something to do about it: `key` is what the screen ends with."""

    key: str
    label: str


_REST_S = 0.7  # without a key, before a digit means what stands beside it to somebody who was typing


class Trouble(ModalScreen[str | None]):
    """Ends with the key of the way chosen, or None. It may come over somebody who is `typing`: the digits of a prompt
    are no answer to it."""

    ABOUT = "Something failed. A digit does what stands beside it; Esc closes this."
    BINDINGS = [
        Binding("escape", "leave", "Close"),
        Binding("enter,q", "close", "Close", show=False),
        *(Binding(str(n), f"take({n})", f"Way {n}", show=False, priority=True) for n in range(1, 10)),
    ]
    DEFAULT_CSS = """
    Trouble { align: center middle; background: $background 60%; }
    Trouble > Vertical {
        width: 76; max-width: 96%; height: auto; max-height: 90%; padding: 0 2; border: round $error;
        background: $surface;
    }
    Trouble VerticalScroll { height: auto; max-height: 16; }
    Trouble Static { height: auto; }
    """

    def __init__(self, error: WanError, ways: Sequence[Way] = (), *, title: str = "", typing: bool = False) -> None:
        super().__init__()
        self._error, self._ways, self._title = error, tuple(ways)[:9], title
        self._typed = time.monotonic() if typing else float("-inf")

    def compose(self) -> ComposeResult:
        with Vertical():
            with VerticalScroll():
                yield Static(trouble_text(self._error, self._title))
            yield Static(self._keys())

    def _keys(self) -> Content:
        parts: list[tuple[str, str] | str] = ["\n"]
        for number, way in enumerate(self._ways, 1):
            parts += [(f"{number}", "$accent bold"), f" {plain_lines(way.label)}\n"]
        return Content.assemble(*parts, ("Esc", "$accent bold"), " close")

    def _still_typing(self) -> bool:
        still = time.monotonic() - self._typed < _REST_S
        self._typed = time.monotonic() if still else self._typed
        return still

    def action_take(self, number: int) -> None:
        if number <= len(self._ways) and not self._still_typing():
            self.dismiss(self._ways[number - 1].key)

    def action_close(self) -> None:
        if not self._still_typing():
            self.dismiss(None)

    def action_leave(self) -> None:
        self.dismiss(None)


def trouble_text(error: WanError, title: str = "") -> Content:
    """What, why, what to do."""
    parts: list[tuple[str, str] | str] = []
    if title:
        parts.append((plain_lines(title) + "\n", "$foreground-muted"))
    parts.append((plain_lines(error.message), "bold $error"))
    if error.cause:
        parts += [("\n\nwhy  ", "$foreground-muted"), plain_lines(error.cause)]
    for suggestion in error.suggestions:
        parts += [("\n\ndo   ", "$foreground-muted"), plain_lines(suggestion)]
    if error.code:
        parts += [(f"\n\n[{error.code}]", "$foreground-muted")]
    return Content.assemble(*parts)
