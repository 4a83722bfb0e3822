"""Asking for the path of a folder or a file."""

from __future__ import annotations

import os

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static


class AskPath(ModalScreen[str | None]):
    """Ends with the path as it is from anywhere, or None."""

    ABOUT = "Type the path of a folder or a file of weights; ~ is your home. Enter takes it, Esc leaves."
    BINDINGS = [Binding("escape", "leave", "Leave", priority=True)]
    DEFAULT_CSS = """
    AskPath { align: center top; background: $background 60%; }
    AskPath > Vertical {
        width: 90; max-width: 96%; height: auto; margin-top: 1; padding: 0 1; border: round $primary;
        background: $surface;
    }
    AskPath Input { border: none; height: 1; padding: 0; background: $surface; }
    AskPath Static { height: auto; }
    """

    def __init__(self, question: str) -> None:
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(Content(self._question).stylize("bold"))
            path = Input(placeholder="~/models/my-fine-tune", compact=True)
            path.cursor_blink = False
            yield path
            keys = Content.assemble(("Enter", "$accent bold"), " check it    ", ("Esc", "$accent bold"), " leave")
            yield Static(keys)

    @on(Input.Submitted)
    def _take(self, event: Input.Submitted) -> None:
        event.stop()
        if text := event.value.strip():
            self.dismiss(os.path.abspath(os.path.expanduser(text)))

    def action_leave(self) -> None:
        self.dismiss(None)
