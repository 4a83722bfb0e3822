"""A clip in the whole terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.binding import Binding
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Static

from wan_tui.screens.gallery_book import picture_size, shown
from wan_tui.text import one_line
from wan_tui.widgets.picture import Picture

if TYPE_CHECKING:
    from engine.runtime.clips import Clip

_PACE = 16.0


class Player(Screen[None]):
    """Plays it once; `slow_line` begins with its first frame."""

    ABOUT = "The clip in the whole terminal, once. space stops and plays, r plays it again, Esc goes back."
    BINDINGS = [
        Binding("space", "play", "Play, stop"),
        Binding("r", "again", "Again"),
        Binding("escape,q,enter,w", "leave", "Back"),
    ]
    DEFAULT_CSS = """
    Player { background: $background; }
    Player #player-line {
        height: 1; padding: 0 1; background: $surface; color: $text-muted; text-wrap: nowrap; text-overflow: ellipsis;
    }
    """

    def __init__(self, clip: Clip, *, slow_line: bool) -> None:
        super().__init__()
        self._clip, self._slow_line = clip, slow_line

    def compose(self) -> ComposeResult:
        yield Picture(slow_line=self._slow_line)
        yield Static(keys_line(f"{self._clip.path.name}  {_figures(self._clip)}"), id="player-line")

    def on_mount(self) -> None:
        if self._slow_line:
            self.query_one(Picture).still(self._clip.path, self._clip.fps or _PACE)
        else:
            self.action_again()

    def action_play(self) -> None:
        picture = self.query_one(Picture)
        if picture.playing:
            picture.stop()
        else:
            self.action_again()

    def action_again(self) -> None:
        self.query_one(Picture).play(self._clip.path, self._clip.fps or _PACE)

    def action_leave(self) -> None:
        self.dismiss(None)


def keys_line(about: str) -> Content:
    """The keys of a screen that plays, and what it shows."""
    return Content.assemble(
        ("space", "$primary"),
        " play, stop  ",
        ("r", "$primary"),
        " again  ",
        ("Esc", "$primary"),
        f" back   {one_line(about)}",
    )


def _figures(clip: Clip) -> str:
    return f"{picture_size(clip.width, clip.height)}, {shown(clip.frames)} frames, {shown(clip.fps)} fps"
