"""Lines of figures that change every second: only the cells that are others are sent to the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest

from rich.cells import cell_len
from rich.segment import Segment
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from wan_tui.text import one_line

TONES = ("dim", "good", "bad", "warn", "accent", "title", "ours", "others")
Piece = str | tuple[str, str]  # text, or text and its tone
Line = tuple[Piece, ...]
_NEAR = 8  # cells: to jump over fewer costs more bytes than to write them again


class Lines(ScrollView, can_focus=False):
    """Text in tones, one row a line; what is longer than the widget is wide is cut, what is more is scrolled to."""

    COMPONENT_CLASSES = {f"lines--{tone}" for tone in TONES}
    DEFAULT_CSS = """
    Lines {
        height: 1; overflow-x: hidden; overflow-y: hidden; scrollbar-size-vertical: 1; background: $background;
        & .lines--dim { color: $foreground-muted; }
        & .lines--good { color: $success; }
        & .lines--bad { color: $error; }
        & .lines--warn { color: $warning; }
        & .lines--accent { color: $accent; }
        & .lines--title { color: $primary; text-style: bold; }
        & .lines--ours { color: $accent; }
        & .lines--others { color: $secondary; }
    }
    """

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._lines: tuple[Line, ...] = ()

    def show(self, lines: Sequence[Line]) -> None:
        """Show other lines; what stays as it is costs nothing."""
        before, self._lines = self._lines, tuple(_harmless(line) for line in lines)
        if len(before) != len(self._lines):
            self.virtual_size = Size(self.size.width, len(self._lines))
        if not self.size:
            if before != self._lines:
                self.refresh()  # hidden: else what was painted before would be shown again
            return
        top, height, width = self.scroll_offset.y, self.size.height, self.size.width
        pairs = list(zip_longest(before, self._lines, fillvalue=()))[top : top + height]
        regions = [
            Region(start, y, end - start, 1)
            for y, (old, new) in enumerate(pairs)
            if old != new
            for start, end in changed(old, new, width)
        ]
        if regions:
            self.refresh(*regions)

    @property
    def count(self) -> int:
        return len(self._lines)

    def on_resize(self) -> None:
        self.virtual_size = Size(self.size.width, len(self._lines))

    def render_line(self, y: int) -> Strip:
        width, base = self.size.width, self.rich_style
        index = y + self.scroll_offset.y
        line = self._lines[index] if index < len(self._lines) else ()
        segments = []
        for piece in line:
            text, tone = piece if isinstance(piece, tuple) else (piece, "")
            look = base + self.get_component_rich_style(f"lines--{tone}", partial=True) if tone else base
            segments.append(Segment(text, look))
        return Strip(segments).adjust_cell_length(width, base)


def changed(before: Line, now: Line, width: int) -> Iterator[tuple[int, int]]:
    """From where to where a row is another; the whole of it where characters are not one cell wide."""
    if any(cell_len(text) != len(text) for text, _ in (*_pieces(before), *_pieces(now))):
        yield 0, width
        return
    old, new = _cells(before)[:width], _cells(now)[:width]
    start, end = None, 0
    for at, (one, other) in enumerate(zip_longest(old, new, fillvalue=(" ", ""))):
        if one == other:
            continue
        if start is not None and at - end > _NEAR:
            yield start, end
            start = None
        start, end = at if start is None else start, at + 1
    if start is not None:
        yield start, end


def _pieces(line: Line) -> list[tuple[str, str]]:
    return [piece if isinstance(piece, tuple) else (piece, "") for piece in line]


def _cells(line: Line) -> list[tuple[str, str]]:
    """A blank looks the same in every tone."""
    return [(char, "" if char == " " else tone) for text, tone in _pieces(line) for char in text]


def _harmless(line: Line) -> Line:
    return tuple((_clean(text), tone) for text, tone in _pieces(line) if text)


def _clean(text: str) -> str:
    return text if text.isascii() and text.isprintable() else one_line(text.replace("\t", " "))
