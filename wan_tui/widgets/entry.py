"""Inputs for foreign text: what controls a terminal shows as a sign and is not lost, Up and Down go on to the next."""

from __future__ import annotations

from rich.text import Text
from textual import events
from textual.binding import Binding
from textual.message import Message
from textual.widgets import Input, TextArea

from wan_tui.composing.veil import signs, unveiled, veiled


class Entry(Input):
    """One line. `several` keeps the line breaks of what is pasted; `choices` are gone through with Left and Right."""

    BINDINGS = [
        Binding("up", "app.focus_previous", "The field above", show=False),
        Binding("down", "app.focus_next", "The field below", show=False),
        Binding("enter", "submit", "Choose, or the next field", show=False),
    ]
    DEFAULT_CSS = """
    Entry { border: none; height: 1; padding: 0; background: $surface; }
    Entry:focus { background: $panel; }
    """

    class Entered(Message):
        """Enter was pressed."""

        def __init__(self, entry: Entry) -> None:
            super().__init__()
            self.entry = entry

        @property
        def control(self) -> Entry:
            return self.entry

    def __init__(self, text: str = "", *, placeholder: str = "", id: str | None = None) -> None:
        super().__init__(veiled(text), compact=True, select_on_focus=False, placeholder=placeholder, id=id)
        self.cursor_blink = False
        self.several = False
        self.choices: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """What was typed."""
        return unveiled(self.value)

    def put(self, text: str) -> None:
        """Show another text, which nobody typed."""
        if text != self.text:
            with self.prevent(Input.Changed):
                self.value = veiled(text)
            self.cursor_position = len(self.value)

    @property
    def _value(self) -> Text:
        return Text(signs(self.value), no_wrap=True, overflow="ignore", end="")

    def _on_paste(self, event: events.Paste) -> None:
        event.prevent_default()
        event.stop()
        text = _lines(event.text).strip("\n")
        text = text if self.several else text.partition("\n")[0]
        start, end = sorted(self.selection)
        self.replace(veiled(text), start, end)

    async def action_submit(self) -> None:
        self.post_message(self.Entered(self))

    def action_cursor_left(self, select: bool = False) -> None:
        self._turn(-1) if self.choices else super().action_cursor_left(select)

    def action_cursor_right(self, select: bool = False) -> None:
        self._turn(1) if self.choices else super().action_cursor_right(select)

    def _turn(self, by: int) -> None:
        at = self.choices.index(self.text) if self.text in self.choices else 0
        self.value = self.choices[(at + by) % len(self.choices)]


class LongText(TextArea):
    """Many lines."""

    DEFAULT_CSS = """
    LongText { border: none; padding: 0; background: $surface; scrollbar-size-vertical: 1; }
    LongText:focus { background: $panel; border: none; }
    """

    def __init__(self, *, placeholder: str = "", id: str | None = None) -> None:
        super().__init__(soft_wrap=True, compact=True, highlight_cursor_line=False, placeholder=placeholder, id=id)
        self.cursor_blink = False
        self.match_cursor_bracket = False

    @property
    def typed(self) -> str:
        return unveiled(self.text)

    def put(self, text: str) -> None:
        """Show another text, which nobody typed; what stood there can be had back with undo."""
        if text != self.typed:
            with self.prevent(TextArea.Changed):
                self.replace(veiled(text, lines=True), self.document.start, self.document.end)
            self.move_cursor(self.document.end)

    def get_line(self, line_index: int) -> Text:
        return Text(signs(self.document.get_line(line_index)), end="", no_wrap=True)

    async def _on_paste(self, event: events.Paste) -> None:
        event.prevent_default()
        event.stop()
        start, end = sorted(self.selection)
        self.replace(veiled(_lines(event.text), lines=True), start, end, maintain_selection_offset=False)

    def action_cursor_up(self, select: bool = False) -> None:
        if not select and self.navigator.is_first_wrapped_line(self.cursor_location):
            self.app.action_focus_previous()
        else:
            super().action_cursor_up(select)

    def action_cursor_down(self, select: bool = False) -> None:
        if not select and self.navigator.is_last_wrapped_line(self.cursor_location):
            self.app.action_focus_next()
        else:
            super().action_cursor_down(select)


def _lines(text: str) -> str:
    """Terminals end the lines of what is pasted as the Enter key does."""
    return text.replace("\r\n", "\n").replace("\r", "\n")
