"""Choosing one of a list by typing some of its words: the palette, the models, the themes, the presets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from wan_tui.text import one_line
from wan_tui.widgets.listing import Column, Listing, Row

_ROWS = 24  # of the list, on a high screen


@dataclass(frozen=True)
class Option:
    """`key` is what choosing it answers."""

    key: str
    label: str
    detail: str = ""
    note: str = ""


class Choose(ModalScreen[str | None]):
    """Ends with the key of the option chosen, or None. Without options they are still looked for: `offer` has them."""

    ABOUT = "Type some words of what you look for; the arrows move, Enter chooses, Esc leaves."
    BINDINGS = [
        Binding("escape", "leave", "Leave", priority=True),
        Binding("enter", "take", "Choose", priority=True),
        Binding("down,ctrl+n", "go(1)", "Down", priority=True),
        Binding("up", "go(-1)", "Up", priority=True),
        Binding("pagedown", "go(8)", "Page down", priority=True),
        Binding("pageup", "go(-8)", "Page up", priority=True),
    ]
    DEFAULT_CSS = """
    Choose { align: center top; background: $background 60%; }
    Choose > Vertical {
        width: 90; max-width: 96%; height: auto; max-height: 90%; margin-top: 1; border: round $primary;
        background: $surface;
    }
    Choose Input { border: none; height: 1; padding: 0 1; background: $surface; }
    Choose Listing { height: auto; background: $surface; }
    Choose #choose-detail { padding: 0 1; color: $text-muted; height: auto; max-height: 2; }
    """

    def __init__(self, title: str, options: Sequence[Option], *, current: str | None = None) -> None:
        super().__init__()
        self._title = title
        self._options = {option.key: option for option in options}
        self._current = current

    def compose(self) -> ComposeResult:
        with Vertical():
            words = Input(placeholder=one_line(self._title), compact=True)
            words.cursor_blink = False
            yield words
            notes = min(24, max((len(option.note) for option in self._options.values()), default=16))
            yield Listing([Column(""), Column("", notes, right=True, drop=1)], empty="Looking…")
            yield Static(id="choose-detail", markup=False)

    def on_mount(self) -> None:
        self.query_one(Listing).can_focus = False
        if self._options:
            self._show()

    def on_resize(self) -> None:
        """The list takes what the box has beside its borders, the words and the detail: what is below is cut off."""
        self.query_one(Listing).styles.max_height = max(3, min(_ROWS, self.size.height * 90 // 100 - 5))

    def offer(self, options: Sequence[Option]) -> None:
        """What there is to choose from; what was typed meanwhile holds."""
        self._options = {option.key: option for option in options}
        if self.query(Listing):  # else it is on its way to the screen
            self._show()

    def _show(self) -> None:
        listing = self.query_one(Listing)
        listing.show(
            [Row(o.key, (o.label, (o.note, "dim")), words=f"{o.key} {o.detail}") for o in self._options.values()],
            empty="Nothing matches.",
        )
        if typed := self.query_one(Input).value:
            listing.move_to(self._likeliest(typed))
        elif self._current:
            listing.go_to(self._current)
        self._tell()

    @on(Input.Changed)
    def _narrow(self, event: Input.Changed) -> None:
        listing = self.query_one(Listing)
        listing.filter(event.value)
        listing.move_to(self._likeliest(event.value))  # Enter takes it, wherever the cursor was
        self._tell()

    def _likeliest(self, typed: str) -> int:
        """The first that is called what was typed, else the first that begins so, else the first."""
        sought = typed.strip().casefold()
        labels = [self._options[row.key].label.casefold() for row in self.query_one(Listing).rows]
        exact = (at for at, label in enumerate(labels) if label == sought)
        begun = (at for at, label in enumerate(labels) if label.startswith(sought))
        return next(exact, next(begun, 0))

    @on(Listing.Moved)
    def _tell(self) -> None:
        row = self.query_one(Listing).row
        detail = self._options[row.key].detail if row else ""
        self.query_one("#choose-detail", Static).update(Content(one_line(detail)))

    @on(Listing.Chosen)
    def _chosen(self, event: Listing.Chosen) -> None:
        self.action_take()

    def action_go(self, by: int) -> None:
        listing = self.query_one(Listing)
        listing.move_to(listing.cursor + by)

    def action_take(self) -> None:
        row = self.query_one(Listing).row
        if row:
            self.dismiss(row.key)

    def action_leave(self) -> None:
        self.dismiss(None)
