"""Two clips side by side, and what was asked for differently."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Static

from wan_tui.background import in_background
from wan_tui.screens.gallery_detail import Told, differences, from_difference, read_told
from wan_tui.screens.gallery_player import keys_line
from wan_tui.text import one_line
from wan_tui.widgets.listing import Column, Listing, Row
from wan_tui.widgets.picture import Picture

if TYPE_CHECKING:
    from engine.errors import WanError
    from engine.runtime.clips import Clip
    from wan_tui.app import WanApp

_PACE = 16.0


class Compare(Screen[None]):
    """Both play at once; `slow_line` begins with their first frames."""

    ABOUT = "Two clips at once, and the settings in which they differ. space stops and plays both, Esc goes back."
    AUTO_FOCUS = "Listing"
    BINDINGS = [
        Binding("space", "play", "Play, stop"),
        Binding("r", "again", "Again"),
        Binding("escape,q,equals_sign", "leave", "Back"),
    ]
    DEFAULT_CSS = """
    Compare { background: $background; }
    Compare #compare-pictures { height: 1fr; }
    Compare #compare-pictures Vertical { width: 1fr; }
    Compare #compare-pictures Vertical.first { margin-right: 1; }
    Compare #compare-pictures Static {
        height: 1; padding: 0 1; background: $panel; color: $primary; text-style: bold; text-wrap: nowrap;
        text-overflow: ellipsis;
    }
    Compare Listing { height: auto; max-height: 40%; background: $surface; }
    Compare #compare-line { height: 1; padding: 0 1; background: $panel; color: $text-muted; }
    """

    if TYPE_CHECKING:

        @property
        def app(self) -> WanApp:  # type: ignore[override]
            ...

    def __init__(self, one: Clip, other: Clip, *, slow_line: bool) -> None:
        super().__init__()
        self._clips, self._slow_line = (one, other), slow_line

    def compose(self) -> ComposeResult:
        with Horizontal(id="compare-pictures"):
            for number, clip in enumerate(self._clips):
                with Vertical(classes="first" if number == 0 else ""):
                    yield Static(Content(one_line(clip.path.name)))
                    yield Picture(slow_line=self._slow_line)
        columns = (Column("DIFFERENT", 15), Column("LEFT"), Column("RIGHT"))
        yield Listing(columns, empty="Looking…", id="compare-settings")
        yield Static(keys_line(""), id="compare-line")

    def on_mount(self) -> None:
        journal = self.app.session.journal
        one, other = self._clips

        def read() -> tuple[Told, Told]:
            return read_told(one, journal), read_told(other, journal)

        in_background(self, read, self._compare, self._failed)
        if self._slow_line:
            for picture, clip in self._pairs():
                picture.still(clip.path, clip.fps or _PACE)
        else:
            self.action_again()

    def _compare(self, both: tuple[Told, Told]) -> None:
        rows = [Row(name, ((name, "dim"), *from_difference(one, other))) for name, one, other in differences(*both)]
        self.query_one(Listing).show(rows, empty="Their settings are the same.")

    def _failed(self, error: WanError) -> None:
        self.query_one(Listing).show([], empty=error.message)

    def _pairs(self) -> list[tuple[Picture, Clip]]:
        return list(zip(self.query(Picture), self._clips, strict=True))

    def action_play(self) -> None:
        playing = [picture for picture, _ in self._pairs() if picture.playing]
        for picture in playing:
            picture.stop()
        if not playing:
            self.action_again()

    def action_again(self) -> None:
        for picture, clip in self._pairs():
            picture.play(clip.path, clip.fps or _PACE)

    def action_leave(self) -> None:
        self.dismiss(None)
