"""Asking for the folder to take a model's files from."""

from __future__ import annotations

import os
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from engine.errors import WanError
from wan_tui.background import in_background
from wan_tui.text import one_line, plain

_SHOWN = 8  # folders that would go on from what is typed
_MOST = 2000  # entries of a folder that are looked at


class AskFolder(ModalScreen[str | None]):
    """Ends with a folder that is there, or None."""

    ABOUT: ClassVar[str] = "Type a folder; Tab completes it, Enter takes the model's files from it, Esc leaves."
    BINDINGS = [
        Binding("escape", "leave", "Leave", priority=True),
        Binding("tab", "complete", "Complete", priority=True),
        Binding("enter", "take", "Import", priority=True),
    ]
    DEFAULT_CSS = """
    AskFolder { align: center middle; background: $background 60%; }
    AskFolder > Vertical {
        width: 76; max-width: 96%; height: auto; padding: 0 1; border: round $primary; background: $surface;
    }
    AskFolder Static { height: auto; }
    AskFolder Input { border: none; height: 1; padding: 0; margin: 1 0; background: $panel; }
    AskFolder #folder-offers { height: 9; color: $text-muted; }
    """

    def __init__(self, id: str) -> None:
        super().__init__()
        self._of = id
        self._refused = ""  # what was typed and is no folder

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(Content.assemble("Take the files of ", (one_line(self._of), "bold"), " from which folder?"))
            typed = Input(placeholder="/folder", compact=True, id="folder")
            typed.cursor_blink = False
            yield typed
            yield Static(id="folder-offers")
            about = "Files are known by their size and digest, whatever their names; yours stay where they are."
            yield Static(Content.styled(about, "$foreground-muted"))
            keys = Content.assemble(("Tab", "$accent bold"), " complete   ", ("Enter", "$accent bold"), " import   ")
            yield Static(keys + Content.assemble(("Esc", "$accent bold"), " leave"))

    def on_mount(self) -> None:
        self._look()

    @on(Input.Changed)
    def _look(self) -> None:
        """Show the folders that go on from what is typed."""
        typed = self._typed
        in_background(self, lambda: folders(typed), lambda found: self._offer(typed, found), self._say)

    @property
    def _typed(self) -> str:
        return self.query_one(Input).value

    def _offer(self, typed: str, found: list[str]) -> None:
        if typed == self._typed != self._refused:
            lines = [one_line(name.rstrip("/").rpartition("/")[2]) + "/" for name in found[:_SHOWN]]
            lines += [f"and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
            self._show(Content("\n".join(lines) if lines else "No folder goes on from that."))

    def action_complete(self) -> None:
        typed = self._typed
        in_background(self, lambda: folders(typed), lambda found: self._complete(typed, found), self._say)

    def _complete(self, typed: str, found: list[str]) -> None:
        if typed == self._typed and found:
            field = self.query_one(Input)
            field.value = _shared(found)
            field.cursor_position = len(field.value)

    def action_take(self) -> None:
        self._refused = self._typed
        folder = os.path.abspath(os.path.expanduser(self._typed.strip() or "."))
        in_background(self, lambda: os.path.isdir(folder), lambda there: self._taken(folder, there), self._say)

    def _taken(self, folder: str, there: bool) -> None:
        if there:
            self.dismiss(folder)
        else:
            self._show(Content.styled(f"✗ {one_line(folder)} is not a folder.", "$error"))

    def _say(self, error: WanError) -> None:
        self._show(Content.styled(one_line(error.message), "$error"))

    def _show(self, text: Content) -> None:
        if self.is_mounted:
            self.query_one("#folder-offers", Static).update(text)

    def action_leave(self) -> None:
        self.dismiss(None)


def _shared(names: list[str]) -> str:
    """What all of the names begin with."""
    least, most = min(names), max(names)
    same = next((at for at, (one, other) in enumerate(zip(least, most, strict=False)) if one != other), len(least))
    return least[:same]


def folders(typed: str) -> list[str]:
    """The folders whose path goes on from `typed`, as one would type them; none where that cannot be read."""
    _, _, begun = typed.rpartition("/")
    shown = typed[: len(typed) - len(begun)]
    found = []
    try:
        with os.scandir(os.path.expanduser(shown) or ".") as entries:
            for _, entry in zip(range(_MOST), entries, strict=False):
                hidden = entry.name.startswith(".") and not begun.startswith(".")
                typable = plain(entry.name) == entry.name  # what controls a terminal does not come into a field
                if entry.name.startswith(begun) and typable and not hidden and entry.is_dir():
                    found.append(f"{shown}{entry.name}/")
    except OSError:  # said when it is to be taken
        return []
    return sorted(found)
