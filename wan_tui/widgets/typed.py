"""Asking for one line: the name of a file, of a preset."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from wan_tui.text import one_line
from wan_tui.widgets.entry import Entry


class AskLine(ModalScreen[str | None]):
    """Ends with what was typed, or None. `problem` says what is wrong with a line; such a one is not taken."""

    ABOUT: ClassVar[str] = "Type one line; Enter takes it, Esc leaves."
    BINDINGS = [Binding("escape", "leave", "Leave", priority=True)]
    DEFAULT_CSS = """
    AskLine { align: center middle; background: $background 60%; }
    AskLine > Vertical {
        width: 76; max-width: 96%; height: auto; padding: 0 1; border: round $primary; background: $surface;
    }
    AskLine Static { height: auto; }
    AskLine Entry { margin: 1 0; background: $panel; }
    AskLine #line-told { color: $text-muted; }
    AskLine #line-told.-bad { color: $error; }
    """

    def __init__(self, title: str, about: str, text: str, problem: Callable[[str], str | None]) -> None:
        super().__init__()
        self._title, self._about, self._text, self._problem = title, about, text, problem

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(Content(one_line(self._title)).stylize("bold"))
            yield Entry(self._text)
            yield Static(Content(one_line(self._about)), id="line-told")
            yield Static(Content.assemble(("Enter", "$accent bold"), " take   ", ("Esc", "$accent bold"), " leave"))

    @on(Input.Changed)
    def _changed(self) -> None:
        self._tell(None)

    @on(Entry.Entered)
    def _entered(self, event: Entry.Entered) -> None:
        if problem := self._problem(event.entry.text):
            self._tell(problem)
        else:
            self.dismiss(event.entry.text)

    def _tell(self, problem: str | None) -> None:
        told = self.query_one("#line-told", Static)
        told.set_class(problem is not None, "-bad")
        told.update(Content(one_line(problem or self._about)))

    def action_leave(self) -> None:
        self.dismiss(None)
