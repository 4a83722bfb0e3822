"""The first start: what this box can run, and one key to a first video."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from engine.errors import WanError
from wan_tui.background import in_background
from wan_tui.greeting import Prospect, greeted, may_be_cut_off, prospect
from wan_tui.screens.diagnostics_pane import GAP, Line, laid_out

if TYPE_CHECKING:
    from wan_tui.app import WanApp

_KEYS = (
    ("Enter", "a first video, with the built-in model: no download"),
    ("F2", "the library: get a model"),
    ("F1", "help, here and everywhere"),
    ("Esc", "close this; F9 makes the video later"),
)
_STAYS = "A lost connection does not stop a run: the engine finishes it. tmux or screen keep this screen, too."


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
    Welcome Static { height: auto; }
    """

    if TYPE_CHECKING:

        @property
        def app(self) -> WanApp:  # type: ignore[override]
            ...

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[Line] = [Line("Looking at this box…", head=True)]

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(Content("Welcome to wan-tui: Wan video, on this box").stylize("bold $primary"))
            with VerticalScroll(can_focus=False):
                yield Static(id="welcome-box")
            yield Static(id="welcome-keys")

    def on_mount(self) -> None:
        in_background(self, greeted, lambda _: None, self.app.show_error)
        in_background(self, prospect, self._show, self._without)

    def on_resize(self) -> None:
        self.call_after_refresh(self._lay_out)

    def _show(self, found: Prospect) -> None:
        self._lines = box_lines(found)
        self._lay_out()

    def _without(self, error: WanError) -> None:
        self._lines = [Line(error.message, "models", "$warning"), *(Line(do, "  do") for do in error.suggestions)]
        self._lay_out()

    def _lay_out(self) -> None:
        width = min(76, self.size.width) - 6
        if width < 20:
            return
        self.query_one("#welcome-box", Static).update(laid_out([GAP, *self._lines], width))
        keys = [GAP, *(Line(text, key, mark="bold $accent") for key, text in _KEYS)]
        if may_be_cut_off(os.environ):
            keys += [GAP, Line(_STAYS, tone="$text-muted", head=True)]
        self.query_one("#welcome-keys", Static).update(laid_out(keys, width))

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
    basis = "By the parameters of the largest component alone; activations come on top."
    return [*lines, Line(basis, tone="$text-muted")]
