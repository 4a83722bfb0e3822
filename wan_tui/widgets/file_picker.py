"""Choosing a file or a folder by walking there. The disk is read in a thread."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from engine.units import size
from wan_tui.background import in_background
from wan_tui.composing.entries import SUFFIXES, Contents, Entry, Kind, entries
from wan_tui.drawing import UNKNOWN
from wan_tui.text import one_line
from wan_tui.widgets.filtered import Filtered
from wan_tui.widgets.listing import Column, Listing, Row, fitted

_HERE = "."  # no entry of a folder has that name


class FilePicker(ModalScreen[Path | None]):
    """Ends with the path chosen, or None. `kind` folder takes folders; else folders are walked through to a file."""

    ABOUT: ClassVar[str] = (
        "Files. Enter opens a folder or takes a file, h goes up, / filters, . shows hidden ones, Esc leaves."
    )
    BINDINGS = [
        Binding("escape,q", "leave", "Leave"),
        Binding("h,backspace,left", "up", "Up"),
        Binding("l,right", "open", "Open", show=False),
        Binding("full_stop", "hidden", "Hidden"),
        Binding("tilde", "home", "Home", show=False),
        Binding("a", "all", "All kinds"),
    ]
    DEFAULT_CSS = """
    FilePicker { align: center middle; background: $background 60%; }
    FilePicker > Vertical {
        width: 110; max-width: 98%; height: 94%; max-height: 44; border: round $primary; background: $surface;
    }
    FilePicker Static { height: 1; padding: 0 1; }
    FilePicker Listing { background: $surface; }
    FilePicker #picker-problem { color: $error; height: auto; display: none; }
    FilePicker #picker-keys { color: $text-muted; }
    """

    def __init__(self, title: str, start: Path, kind: Kind = "any") -> None:
        super().__init__()
        self._title, self._kind, self._hidden, self._all = title, kind, False, False
        self._folder = start
        self._came_from: str | None = None
        self._found: dict[str, Entry] = {}
        self._asked = 0

    def compose(self) -> ComposeResult:
        columns = [
            Column("NAME", least=16),
            Column("SIZE", 9, right=True, drop=1),
            Column("CHANGED", 16, drop=2),
        ]
        with Vertical():
            yield Static(id="picker-where")
            yield Static(id="picker-problem")
            yield Filtered(columns, empty="Looking…", id="picker")
            yield Static(id="picker-keys")

    def on_mount(self) -> None:
        self.query_one(Listing).focus()
        keys = [("Enter", "open or take"), ("h", "up"), ("/", "filter"), (".", "hidden")]
        keys += [("a", "all files")] if self._kind in SUFFIXES else []
        parts = [part for key, does in (*keys, ("Esc", "leave")) for part in ((key, "$accent bold"), f" {does}  ")]
        self.query_one("#picker-keys", Static).update(Content.assemble(*parts))
        self._look(self._folder)

    # Looking

    def _look(self, folder: Path) -> None:
        self._asked += 1
        asked, kind, hidden = self._asked, "any" if self._all else self._kind, self._hidden
        title = f"{one_line(self._title)}: "
        room = max(8, self.size.width - len(title) - 8)
        where = Content.assemble((title, "bold"), fitted(str(folder), room, keep="end").rstrip())
        self.query_one("#picker-where", Static).update(where)

        def work() -> tuple[Contents, list[Row]]:
            found = entries(folder, kind, hidden=hidden)
            return found, _rows(found, choose_folder=self._kind == "folder")

        def then(answer: tuple[Contents, list[Row]]) -> None:
            if asked == self._asked and self.is_mounted:
                self._show(*answer)

        in_background(self, work, then, self.app.show_error)  # type: ignore[attr-defined]

    def _show(self, found: Contents, rows: list[Row]) -> None:
        self._folder = found.folder
        self._found = {entry.name: entry for entry in found.entries}
        told = self.query_one("#picker-problem", Static)
        told.display = found.problem is not None
        told.update(Content(one_line(found.problem or "")))
        what = "files" if self._kind in ("any", "folder") or self._all else f"{self._kind} files"
        filtered = self.query_one(Filtered)
        filtered.clear()
        filtered.listing.show(rows, empty=f"No folders and no {what} here.")
        if not (self._came_from and filtered.listing.go_to(self._came_from)):
            filtered.listing.move_to(0)
        self._came_from = None

    # Going

    @on(Listing.Chosen)
    def _chosen(self, event: Listing.Chosen) -> None:
        event.stop()
        self.action_open()

    def action_open(self) -> None:
        row = self.query_one(Listing).row
        if row is None:
            return
        if row.key == _HERE:
            self.dismiss(self._folder)
        elif self._found[row.key].is_folder:
            self._look(self._found[row.key].path)
        else:
            self.dismiss(self._found[row.key].path)

    def action_up(self) -> None:
        self._came_from = self._folder.name
        self._look(self._folder.parent)

    def action_home(self) -> None:
        self._look(Path(os.path.expanduser("~")))

    def action_hidden(self) -> None:
        self._hidden = not self._hidden
        self._again()

    def action_all(self) -> None:
        self._all = not self._all
        self._again()

    def _again(self) -> None:
        row = self.query_one(Listing).row
        self._came_from = row.key if row else None
        self._look(self._folder)

    def action_leave(self) -> None:
        if not self.query_one(Filtered).clear():
            self.dismiss(None)


def _rows(found: Contents, *, choose_folder: bool) -> list[Row]:
    here = [Row(_HERE, (("take this folder", "accent"),))] if choose_folder and not found.problem else []
    return here + [
        Row(
            entry.name,
            (
                (f"{entry.name}/", "accent") if entry.is_folder else entry.name,
                "" if entry.is_folder else UNKNOWN if entry.bytes is None else size(entry.bytes),
                (_when(entry.modified), "dim"),
            ),
        )
        for entry in found.entries
        if entry.is_folder or not choose_folder
    ]


def _when(seconds: float | None) -> str:
    try:
        return UNKNOWN if seconds is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
    except (OverflowError, ValueError, OSError):  # a file from beyond the calendar
        return UNKNOWN
