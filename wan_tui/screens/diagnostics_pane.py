"""Lines with a label before them, laid out as wide as the pane, and the pane that is scrolled through."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len, chop_cells, set_cell_size
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from wan_tui.actions import bindings
from wan_tui.text import one_line
from wan_tui.widgets.listing import fitted

_LABEL = 9  # cells


@dataclass(frozen=True)
class Line:
    """`text` in `tone`, behind a label where it has one; both are styles of the theme. A `head` is not set in, a `row`
    of a table is cut and not broken."""

    text: str
    label: str = ""
    tone: str = ""
    mark: str = "$foreground-muted"
    head: bool = False
    row: bool = False


GAP = Line("", head=True)


def laid_out(lines: Iterable[Line], width: int) -> Content:
    """The lines as one text, broken between words; what follows stands under the text, not under the label."""
    parts: list[tuple[str, str] | str] = []
    for number, line in enumerate(lines):
        parts.append("\n" if number else "")
        margin = 0 if line.head else _LABEL
        text = one_line(line.text)
        rows = [text] if line.row else wrapped(text, max(10, width - margin))
        label = set_cell_size(one_line(line.label), margin) if margin else ""
        for place, row in enumerate(rows):
            parts.append("\n" if place else "")
            parts.append((label if not place else " " * margin, line.mark))
            parts.append((fitted(row, width - margin).rstrip() if line.row else row, line.tone))
    return Content.assemble(*parts)


def wrapped(text: str, cells: int) -> list[str]:
    """The text in rows of at most that many cells, broken between words where that can be."""
    return list(_rows(text, cells)) or [""]


def _rows(text: str, cells: int) -> Iterator[str]:
    row = ""
    for word in text.split(" "):
        both = f"{row} {word}" if row else word
        if cell_len(both) <= cells:
            row = both
            continue
        if row:
            yield row
        *full, row = chop_cells(word, cells) or [""]
        yield from full
    if row:
        yield row


class Lines(Static):
    """Lines laid out anew whenever the room for them changes."""

    DEFAULT_CSS = "Lines { height: auto; }"

    def __init__(self, *lines: Line, id: str | None = None) -> None:
        super().__init__(id=id)
        self._lines = lines
        self._laid: tuple[tuple[Line, ...], int] | None = None

    def show(self, lines: Sequence[Line]) -> None:
        """Show other lines; the same cost no repaint."""
        self._lines = tuple(lines)
        self._lay_out()

    def on_resize(self) -> None:
        self._lay_out()

    def _lay_out(self) -> None:
        width = self.size.width
        if width and self._laid != (self._lines, width):
            self._laid = (self._lines, width)
            self.update(laid_out(self._lines, width))


class Reading(VerticalScroll, can_focus=True):
    """Lines to read. The keys of lists scroll it; Enter says `Chosen`."""

    ABOUT = "A report. j and k or the arrows scroll; Enter or m does what the numbered lines say; Esc goes back."
    BINDINGS = bindings("list")
    DEFAULT_CSS = """
    Reading { padding: 0 1; scrollbar-size-vertical: 1; scrollbar-gutter: stable; overflow-x: hidden; }
    """

    class Chosen(Message):
        """Enter was pressed."""

    def compose(self) -> ComposeResult:
        yield Lines()

    def show(self, lines: Sequence[Line]) -> None:
        self.query_one(Lines).show(lines)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return action != "filter"

    def _go(self, to: float) -> None:
        self.scroll_to(y=to, animate=False)

    def action_down(self) -> None:
        self._go(self.scroll_y + 1)

    def action_up(self) -> None:
        self._go(self.scroll_y - 1)

    def action_page_down(self) -> None:
        self._go(self.scroll_y + max(1, self.size.height - 2))

    def action_page_up(self) -> None:
        self._go(self.scroll_y - max(1, self.size.height - 2))

    def action_first(self) -> None:
        self._go(0)

    def action_last(self) -> None:
        self._go(self.max_scroll_y)

    def action_choose(self) -> None:
        self.post_message(self.Chosen())
