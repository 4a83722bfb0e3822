"""Jumping: a sign with a letter over everything on the screen that can have the focus; its letter goes there."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.content import Content
from textual.errors import NoWidget
from textual.events import Click, Key, Paste, Resize
from textual.geometry import Region
from textual.screen import ModalScreen, Screen
from textual.widgets import Static

if TYPE_CHECKING:
    from textual.widget import Widget

    from wan_tui.app import WanApp

LETTERS = "asdfghjklqwertyuiopzxcvbnm"  # those under the fingers first
_WIDTH = 3  # of a sign: the letter between blanks
Targets = Mapping[str, tuple["Widget", Region]]


class Jump(ModalScreen[None]):
    """Paints only the signs; what is below stays as it is. Any key but theirs leaves, and so does a click."""

    TAKES_EVERY_KEY: ClassVar[bool] = True
    DEFAULT_CSS = """
    Jump { background: transparent; }
    Jump > Static {
        position: absolute; width: auto; height: 1; background: $accent; color: $background; text-style: bold;
        &:ansi { background: ansi_default; color: $accent; text-style: bold reverse; }
    }
    """

    def __init__(self, targets: Targets) -> None:
        super().__init__()
        self._targets = targets
        self._laid_out_for = self.app.size

    def compose(self) -> ComposeResult:
        for letter, (_, seen) in self._targets.items():
            sign = Static(Content(letter.center(_WIDTH)))
            sign.styles.offset = (max(0, min(seen.x, self._laid_out_for.width - _WIDTH)), seen.y)
            yield sign

    def on_key(self, event: Key) -> None:
        event.stop()
        event.prevent_default()
        target = self._targets.get((event.character or "").lower())
        self._leave()
        if target and target[0].focusable and target[0].display:  # it may have gone meanwhile
            target[0].focus()

    def on_click(self, event: Click) -> None:
        self._leave()

    def on_paste(self, event: Paste) -> None:
        self._leave()

    def on_resize(self, event: Resize) -> None:
        """Of the terminal: everything stands elsewhere then. The first one tells only how large it is."""
        if event.size != self._laid_out_for:
            self._leave()

    def _leave(self) -> None:
        if self.is_current:  # else it has been left
            self.dismiss()


def targets(screen: Screen[object]) -> Targets:
    """What can have the focus and is seen, in the order of Tab, by the letter of each."""
    found = []
    for widget in screen.focus_chain:
        with suppress(NoWidget):  # it has just come, and has no place yet
            if seen := screen.find_widget(widget).visible_region:
                found.append((widget, seen))
    return dict(zip(LETTERS, found, strict=False))


def jump(app: WanApp) -> None:
    """Show the signs, where there is anything to go to."""
    found = targets(app.screen)
    if all(widget is app.focused for widget, _ in found.values()):
        app.tell("There is nothing else to go to here.", "warning")
    else:
        app.push_screen(Jump(found))
