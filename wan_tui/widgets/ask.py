"""A question before something is destroyed or lost."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from wan_tui.text import plain


class Ask(ModalScreen[bool]):
    """Ends with True when the user agrees. Enter does not: it is pressed too easily."""

    ABOUT = "A question. y agrees; n or Esc leaves all as it is."
    BINDINGS = [
        Binding("y", "answer(True)", "Yes"),
        Binding("n,escape,q", "answer(False)", "No"),
    ]
    DEFAULT_CSS = """
    Ask { align: center middle; background: $background 60%; }
    Ask > Vertical {
        width: 72; max-width: 95%; height: auto; max-height: 90%; padding: 1 2; border: round $warning;
        background: $surface;
    }
    Ask Static { height: auto; }
    Ask #ask-detail { margin: 1 0; color: $text-muted; max-height: 12; overflow-y: auto; }
    """

    def __init__(self, question: str, detail: str = "", *, yes: str = "yes", no: str = "no") -> None:
        super().__init__()
        self._question, self._detail, self._yes, self._no = question, detail, yes, no

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(Content(plain_lines(self._question)).stylize("bold"))
            yield Static(Content(plain_lines(self._detail)), id="ask-detail")
            keys = Content.assemble(("y", "$accent bold"), f" {self._yes}    ", ("n", "$accent bold"), f" {self._no}")
            yield Static(keys)

    def action_answer(self, agreed: bool) -> None:
        self.dismiss(agreed)


def plain_lines(text: str) -> str:
    """Harmless, with its line breaks."""
    return "\n".join(plain(line) for line in text.splitlines())
