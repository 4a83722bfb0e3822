"""The whole plan, where beside or below the form there is no room for it."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static


class PlanSheet(ModalScreen[None]):
    ABOUT: ClassVar[str] = "All that is known of the job before it runs. Esc closes this."
    BINDINGS = [Binding("escape,q,v,enter", "leave", "Close")]
    DEFAULT_CSS = """
    PlanSheet { align: center middle; background: $background 60%; }
    PlanSheet > Vertical {
        width: 90; max-width: 96%; height: auto; max-height: 90%; padding: 0 1; border: round $primary;
        background: $surface;
    }
    PlanSheet VerticalScroll { height: auto; max-height: 36; scrollbar-size-vertical: 1; }
    PlanSheet Static { height: auto; }
    """

    def __init__(self, text: Content) -> None:
        super().__init__()
        self._text = text

    def compose(self) -> ComposeResult:
        with Vertical():
            with VerticalScroll():
                yield Static(self._text)
            yield Static(Content.assemble(("\nEsc", "$accent bold"), " close"))

    def action_leave(self) -> None:
        self.dismiss(None)
