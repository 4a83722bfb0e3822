"""The first start: what this box can run, and one key to a first video."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen

from engine.errors import WanError
from wan_tui.background import in_background
from wan_tui.greeting import Prospect, greeted, may_be_cut_off, prospect
from wan_tui.screens.diagnostics_pane import GAP, Line, Lines

if TYPE_CHECKING:
    from wan_tui.app import WanApp

_KEYS = (
    ("Enter", "a first video, with the built-in model: no download"),
    ("F2", "the library: get a model"),
    ("F1", "help, here and everywhere"),
    ("Esc", "close this; F9 makes the video later"),
)
_STAYS = "A lost connection does not stop a run."


class Welcome(ModalScreen[None]):
    ABOUT = "Shown at the first start. Enter makes a first video with the built-in model; Esc closes this."
    BINDINGS = [
        Binding("enter", "demo", "A first video", priority=True),
        Binding("f2,2", "library", "Library", priority=True),
        Binding("escape,q", "leave", "Close", priority=True),
    ]
    DEFAULT_CSS = """
    Welcome { align: center middle; background: $background 60%; }
    Welcome > Vertical {
        width: 78; max-width: 98%; height: auto; max-height: 100%; padding: 0 1; border: round $primary;
        background: $surface;
    }
    Welcome VerticalScroll { height: auto; max-height: 12; scrollbar-size-vertical: 1; }
    """

    if TYPE_CHECKING:

        @property
        def app(self) -> WanApp:  # type: ignore[override]
            ...

    def compose(self) -> ComposeResult:
        keys = [GAP, *(Line(text, key, mark="bold $accent") for key, text in _KEYS)]
        if may_be_cut_off(os.environ):
            keys += [GAP, Line(_STAYS, tone="$foreground-muted", head=True)]
        with Vertical():
            yield Lines(Line("Welcome to wan-tui: Wan video, on this box", tone="bold $primary", head=True), GAP)
            with VerticalScroll(can_focus=False):
                yield Lines(Line("Looking at this box…", head=True), id="welcome-box")
            yield Lines(*keys)

    def on_mount(self) -> None:
        in_background(self, greeted, lambda _: None, self.app.show_error)
        in_background(self, prospect, self._show, self._without)

    def _show(self, found: Prospect) -> None:
        self.query_one("#welcome-box", Lines).show(box_lines(found))

    def _without(self, error: WanError) -> None:
        lines = [Line(error.message, "models", "$warning"), *(Line(do, "  do") for do in error.suggestions)]
        self.query_one("#welcome-box", Lines).show(lines)

    def action_demo(self) -> None:
        self.dismiss()
        self.app.call_later(self.app.action_demo)

    def action_library(self) -> None:
        self.dismiss()
        self.app.call_later(self.app.action_library)

    def action_leave(self) -> None:
        self.dismiss()


def box_lines(found: Prospect) -> list[Line]:
    """The devices, the memory, and which models go into it."""
    from wan_tui.screens.diagnostics_box import brief

    lines = brief(found.machine, 2)
    lines = [line for line in lines if line.label not in ("torch", "disk")]
    lines.append(Line(", ".join(found.fitting) or "none that this box is known to hold", "fits", "$success"))
    if found.too_large:
        lines.append(Line(", ".join(found.too_large), "too big"))
    basis = "Predicted for each model's own clip, with the device to itself."
    return [*lines, Line(basis, tone="$foreground-muted")]
