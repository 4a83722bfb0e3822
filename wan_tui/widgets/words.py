"""Where the words of a filter are typed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from textual import on
from textual.binding import Binding
from textual.widgets import Input


class Leave(Protocol):
    def __call__(self, *, forget: bool) -> None: ...


class Words(Input):
    """Enter or Down goes back to the list, Esc forgets the words."""

    ABOUT = "Rows that hold all these words are shown. Enter keeps them and goes to the list, Esc shows all again."
    BINDINGS = [
        Binding("escape", "leave(True)", "Show all", priority=True),
        Binding("enter,down", "leave(False)", "To the list", priority=True),
    ]
    DEFAULT_CSS = "Words { height: 1; border: none; padding: 0 1; background: $panel; dock: bottom; }"

    def __init__(self, changed: Callable[[str], None], leave: Leave) -> None:
        super().__init__(placeholder="filter", compact=True)
        self.cursor_blink = False
        self._told, self._leave_to = changed, leave

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        self._told(event.value)

    def action_leave(self, forget: bool) -> None:
        self._leave_to(forget=forget)
