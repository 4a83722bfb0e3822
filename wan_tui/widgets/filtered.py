"""A list with a line to filter it, which shows while it is used."""

from __future__ import annotations

from collections.abc import Sequence

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical

from wan_tui.widgets.listing import Column, Listing


class Filtered(Vertical):
    """`listing` is the list in it."""

    DEFAULT_CSS = "Filtered { height: 1fr; }"

    def __init__(
        self, columns: Sequence[Column], *, empty: str = "Nothing here.", head: bool = True, id: str | None = None
    ) -> None:
        super().__init__(id=id)
        self.listing = Listing(columns, empty=empty, head=head, id=f"{id}-list" if id else None)

    def compose(self) -> ComposeResult:
        yield self.listing

    @on(Listing.FilterAsked)
    async def _ask(self, event: Listing.FilterAsked) -> None:
        from wan_tui.widgets.words import Words  # with Textual's input, which the first screen does without

        event.stop()
        if not self.query(Words):
            await self.mount(Words(self.listing.filter, self.leave))
        self.query_one(Words).focus()

    def leave(self, *, forget: bool) -> None:
        """Back to the list; what was typed stays where it is not to be forgotten."""
        if forget or not self.listing.filtered:
            self.clear()
        self.listing.focus()

    def clear(self) -> bool:
        """Show all rows again; False where nothing was filtered."""
        from wan_tui.widgets.words import Words

        used = bool(self.query(Words))
        self.query(Words).remove()
        self.listing.filter("")
        return used
