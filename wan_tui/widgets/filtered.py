"""A list with a line to filter it, which shows while it is used."""

from __future__ import annotations

from collections.abc import Sequence

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.widgets import Input

from wan_tui.widgets.listing import Column, Listing


class Words(Input):
    """Where the filter's words are typed. Enter or Down goes back to the list, Esc forgets the words."""

    ABOUT = "Rows that hold all these words are shown. Enter keeps them and goes to the list, Esc shows all again."
    BINDINGS = [
        Binding("escape", "leave(True)", "Show all", priority=True),
        Binding("enter,down", "leave(False)", "To the list", priority=True),
    ]

    def action_leave(self, forget: bool) -> None:
        holder = self.parent
        assert isinstance(holder, Filtered)
        holder.leave(forget=forget)


class Filtered(Vertical):
    """`listing` is the list in it."""

    DEFAULT_CSS = """
    Filtered { height: 1fr; }
    Filtered > Words { height: 1; border: none; padding: 0 1; background: $panel; display: none; }
    Filtered.-filtering > Words { display: block; }
    """

    def __init__(
        self, columns: Sequence[Column], *, empty: str = "Nothing here.", head: bool = True, id: str | None = None
    ) -> None:
        super().__init__(id=id)
        self.listing = Listing(columns, empty=empty, head=head, id=f"{id}-list" if id else None)
        self._words = Words(placeholder="filter", compact=True)
        self._words.cursor_blink = False

    def compose(self) -> ComposeResult:
        yield self.listing
        yield self._words

    @on(Listing.FilterAsked)
    def _ask(self, event: Listing.FilterAsked) -> None:
        event.stop()
        self.add_class("-filtering")
        self._words.focus()

    @on(Input.Changed)
    def _changed(self, event: Input.Changed) -> None:
        event.stop()
        self.listing.filter(event.value)

    def leave(self, *, forget: bool) -> None:
        """Back to the list."""
        if forget:
            self.clear()
        elif not self._words.value:
            self.remove_class("-filtering")
        self.listing.focus()

    def clear(self) -> bool:
        """Show all rows again; False where nothing was filtered."""
        used = self.has_class("-filtering")
        self._words.value = ""
        self.listing.filter("")
        self.remove_class("-filtering")
        return used
