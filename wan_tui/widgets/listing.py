"""A list of rows in columns: the one behind every list of the app.

It draws only the rows that are seen, so that thousands scroll as fast as ten; its cells are text, never markup.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from wan_tui.actions import bindings
from wan_tui.text import one_line

TONES = ("dim", "good", "bad", "warn", "accent")
Cell = str | tuple[str, str]  # text, or text and its tone


@dataclass(frozen=True)
class Column:
    """`width` in cells; None takes what is left, `share` of it. One with `drop` goes when the list gets narrow: the
    highest first. `keep` is the end of a text that stays when it is cut: paths are told by their ends."""

    title: str
    width: int | None = None
    right: bool = False
    drop: int = 0
    share: int = 1
    least: int = 8
    keep: str = "start"


@dataclass(frozen=True)
class Row:
    """`key` tells rows apart and never shows; `words` are found by the filter beside the cells. A `heading` cannot be
    chosen."""

    key: str
    cells: tuple[Cell, ...]
    words: str = ""
    heading: bool = False
    haystack: str = field(init=False, default="")

    def __post_init__(self) -> None:
        texts = (cell if isinstance(cell, str) else cell[0] for cell in self.cells)
        object.__setattr__(self, "haystack", " ".join((*texts, self.words)).casefold())


class Listing(ScrollView, can_focus=True):
    """Rows with a cursor. Says `Moved` when another row is under the cursor, `Chosen` when one is opened."""

    ABOUT = "A list. j and k or the arrows move, g and G go to its ends, / filters, Enter opens."
    COMPONENT_CLASSES = {"listing--head", "listing--cursor", "listing--heading", *(f"listing--{t}" for t in TONES)}
    DEFAULT_CSS = """
    Listing {
        height: 1fr; overflow-x: hidden; overflow-y: auto; scrollbar-size-vertical: 1; background: $background;
        & .listing--head { color: $foreground-muted; }
        & .listing--heading { color: $primary; text-style: bold; }
        & .listing--cursor { background: $panel; }
        & .listing--dim { color: $foreground-muted; }
        & .listing--good { color: $success; }
        & .listing--bad { color: $error; }
        & .listing--warn { color: $warning; }
        & .listing--accent { color: $accent; }
        &:focus .listing--cursor { background: $primary-muted; text-style: bold; }
        &:ansi:focus .listing--cursor { text-style: bold reverse; }
    }
    """
    BINDINGS = bindings("list")

    cursor: reactive[int] = reactive(0, init=False, repaint=False)

    class Moved(Message):
        def __init__(self, listing: Listing, row: Row | None) -> None:
            super().__init__()
            self.set_sender(listing)  # whoever made it move, else it goes no further up than to that one
            self.listing, self.row = listing, row

        @property
        def control(self) -> Listing:
            return self.listing

    class Chosen(Moved):
        pass

    class FilterAsked(Message):
        """`/` was pressed: whoever holds the list shows where to type."""

        def __init__(self, listing: Listing) -> None:
            super().__init__()
            self.listing = listing

        @property
        def control(self) -> Listing:
            return self.listing

    def __init__(
        self,
        columns: Sequence[Column],
        *,
        empty: str = "Nothing here.",
        head: bool = True,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        super().__init__(id=id, classes=classes)
        self._columns = tuple(columns)
        self._head = head and any(column.title for column in columns)
        self._empty = empty
        self._all: tuple[Row, ...] = ()
        self._rows: tuple[Row, ...] = ()
        self._words: tuple[str, ...] = ()

    # What it holds

    def show(self, rows: Sequence[Row], *, empty: str | None = None) -> None:
        """Show other rows; the cursor stays on its row where that is still there. Rows alike cost no repaint."""
        if empty is not None and empty != self._empty:
            self._empty = empty
            self.refresh()
        before, self._all = self._all, tuple(rows)
        if self._all == before:
            return
        if self._words or not _same_places(before, self._all):
            self._select()
            return
        self._rows = self._all  # only those that say something else are painted again: a line may be slow
        for index, (old, new) in enumerate(zip(before, self._all, strict=True)):
            if old is not new and old != new:
                self._refresh_row(index)
                if index == self.cursor:
                    self.post_message(self.Moved(self, self.row))

    def filter(self, text: str) -> None:
        """Show only rows that hold all words of `text`."""
        words = tuple(text.casefold().split())
        if words != self._words:
            self._words = words
            self._select()

    @property
    def filtered(self) -> bool:
        """Whether a filter is at work."""
        return bool(self._words)

    @property
    def row(self) -> Row | None:
        """The row under the cursor."""
        found = self._rows[self.cursor] if 0 <= self.cursor < len(self._rows) else None
        return None if found is None or found.heading else found

    @property
    def rows(self) -> tuple[Row, ...]:
        """Those the filter leaves."""
        return self._rows

    def go_to(self, key: str) -> bool:
        """Put the cursor on the row of that key; False where there is none."""
        for index, row in enumerate(self._rows):
            if row.key == key:
                self.cursor = index
                return True
        return False

    def _select(self) -> None:
        before = self.row
        old_place = self.cursor
        words = self._words
        self._rows = tuple(r for r in self._all if all(word in r.haystack for word in words)) if words else self._all
        self.virtual_size = Size(self.size.width, len(self._rows) + self._head)
        if not (before and self.go_to(before.key)):
            self.set_reactive(Listing.cursor, self._nearest(min(old_place, max(0, len(self._rows) - 1)), 1))
            self._into_view()
        self.refresh()
        if self.row != before:
            self.post_message(self.Moved(self, self.row))

    # Moving

    def watch_cursor(self, before: int, now: int) -> None:
        for index in (before, now):
            self._refresh_row(index)
        self._into_view()
        self.post_message(self.Moved(self, self.row))

    def _refresh_row(self, index: int) -> None:
        self.refresh(Region(0, index - self.scroll_offset.y + self._head, self.size.width, 1))

    def _into_view(self) -> None:
        height = max(1, self.size.height - self._head)
        top = self.scroll_offset.y
        if self.cursor < top:
            self.scroll_to(y=self.cursor, animate=False, immediate=True)
        elif self.cursor >= top + height:
            self.scroll_to(y=self.cursor - height + 1, animate=False, immediate=True)

    def _nearest(self, index: int, step: int) -> int:
        """The row to stand on when going to `index` in the direction of `step`: never a heading."""
        index = max(0, min(index, len(self._rows) - 1))
        for way in (step, -step):
            at = index
            while 0 <= at < len(self._rows):
                if not self._rows[at].heading:
                    return at
                at += way
        return index

    def move_to(self, to: int) -> None:
        """Put the cursor there, or as near as a row can be."""
        if self._rows:
            self.cursor = self._nearest(to, 1 if to >= self.cursor else -1)

    def action_down(self) -> None:
        self.move_to(self.cursor + 1)

    def action_up(self) -> None:
        self.move_to(self.cursor - 1)

    def action_page_down(self) -> None:
        self.move_to(self.cursor + max(1, self.size.height - 2))

    def action_page_up(self) -> None:
        self.move_to(self.cursor - max(1, self.size.height - 2))

    def action_first(self) -> None:
        self.move_to(0)

    def action_last(self) -> None:
        self.move_to(len(self._rows) - 1)

    def action_choose(self) -> None:
        if self.row:
            self.post_message(self.Chosen(self, self.row))

    def action_filter(self) -> None:
        self.post_message(self.FilterAsked(self))

    def on_click(self, event: events.Click) -> None:
        index = event.y - self._head + self.scroll_offset.y
        if 0 <= index < len(self._rows) and not self._rows[index].heading:
            if index == self.cursor and event.chain > 1:
                self.action_choose()
            self.cursor = index

    # Drawing

    def on_resize(self) -> None:
        self.virtual_size = Size(self.size.width, len(self._rows) + self._head)
        self._into_view()

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        base = self.rich_style
        if self._head and y == 0:
            style = base + self.get_component_rich_style("listing--head", partial=True)
            cells = tuple(column.title for column in self._columns)
            return self._strip(Row("", cells), width, style, base)
        if not self._rows:
            if y != self._head:
                return Strip.blank(width, base)
            text = "Nothing matches." if self._all else self._empty
            dim = base + self.get_component_rich_style("listing--dim", partial=True)
            return Strip([Segment(set_cell_size(" " + one_line(text), width), dim)], width)
        index = y - self._head + self.scroll_offset.y
        if not 0 <= index < len(self._rows):
            return Strip.blank(width, base)
        row = self._rows[index]
        if row.heading:
            style = base + self.get_component_rich_style("listing--heading", partial=True)
            return self._strip(row, width, style, base)
        at = index == self.cursor
        style = base + self.get_component_rich_style("listing--cursor", partial=True) if at else base
        return self._strip(row, width, style, base, mark="▸" if at else " ")

    def _strip(self, row: Row, width: int, style: Style, base: Style, mark: str = " ") -> Strip:
        widths = self._widths(max(0, width - 1))
        segments = [Segment(mark, style)]
        for index, (column, cells) in enumerate(zip(self._columns, widths, strict=True)):
            if not cells:
                continue
            cell = row.cells[index] if index < len(row.cells) else ""
            text, tone = cell if isinstance(cell, tuple) else (cell, "")
            look = style + self.get_component_rich_style(f"listing--{tone}", partial=True) if tone else style
            segments += [Segment(fitted(text, cells, right=column.right, keep=column.keep), look), Segment(" ", style)]
        used = sum(cell_len(segment.text) for segment in segments)
        if used < width:
            segments.append(Segment(" " * (width - used), style))
        return Strip(segments).simplify().crop(0, width)

    def _widths(self, width: int) -> list[int]:
        """Cells a column gets; 0 for those that have to go. Every column is followed by a blank."""
        shown = list(range(len(self._columns)))

        def least(index: int) -> int:
            column = self._columns[index]
            return column.least if column.width is None else column.width

        while sum(least(index) + 1 for index in shown) > width:
            droppable = [index for index in shown if self._columns[index].drop]
            if not droppable:
                break
            shown.remove(max(droppable, key=lambda index: self._columns[index].drop))
        fixed = sum((self._columns[index].width or 0) + 1 for index in shown)
        shares = sum(self._columns[index].share for index in shown if self._columns[index].width is None)
        left = max(0, width - fixed)
        return [
            0
            if index not in shown
            else column.width
            if column.width is not None
            else max(1, left * column.share // max(1, shares))
            for index, column in enumerate(self._columns)
        ]


def _same_places(before: Sequence[Row], now: Sequence[Row]) -> bool:
    """Whether the same things stand in the same order, whatever is said of them."""
    return len(before) == len(now) and all(
        old is new or (old.key == new.key and old.heading == new.heading) for old, new in zip(before, now, strict=True)
    )


def fitted(text: str, cells: int, *, right: bool = False, keep: str = "start") -> str:
    """Foreign text made harmless and exactly `cells` wide, cut with a sign where it is longer."""
    text = one_line(text[: cells * 4 + 8] if keep == "start" else text[-(cells * 4 + 8) :])
    length = cell_len(text)
    if length > cells:
        if keep == "start":
            return set_cell_size(text, cells - 1) + "…" if cells > 1 else set_cell_size(text, cells)
        while length > cells - 1 and text:
            length -= cell_len(text[0])
            text = text[1:]
        text = "…" + text
        return text + " " * (cells - cell_len(text))
    return " " * (cells - length) + text if right else text + " " * (cells - length)
