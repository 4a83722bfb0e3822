"""A picture in a terminal's own pixels: where it is to fit, and what the terminal is told."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, sqrt

from textual.strip import Strip

MOST_PIXELS = 640 * 360  # of a picture that is asked for; larger ones are scaled up


@dataclass(frozen=True)
class Room:
    """Where a picture is to fit: cells, how many pixels one of them has, and how many colours there may be."""

    columns: int
    rows: int
    cell: tuple[int, int]
    colours: int = 256

    @property
    def pixels(self) -> tuple[int, int]:
        """The size a picture is wanted in: that of the room, or of its shape and no more than `MOST_PIXELS`."""
        width, height = self._whole
        scale = min(1.0, sqrt(MOST_PIXELS / (width * height)))
        return max(1, int(width * scale)), max(1, int(height * scale))

    @property
    def _whole(self) -> tuple[int, int]:
        return self.columns * self.cell[0], self.rows * self.cell[1]

    def within(self, columns: int, rows: int) -> Room:
        """With no more of them."""
        return replace(self, columns=max(1, min(self.columns, columns)), rows=max(1, min(self.rows, rows)))

    def filled(self, width: int, height: int) -> tuple[float, float]:
        """Pixels of a picture of that shape, as large as fits."""
        scale = min(self._whole[0] / width, self._whole[1] / height)
        return width * scale, height * scale

    def taken(self, width: int, height: int) -> tuple[int, int]:
        """Columns and rows of such a picture."""
        columns, rows = (
            ceil(round(side / cell, 6)) for side, cell in zip(self.filled(width, height), self.cell, strict=True)
        )
        return max(1, columns), max(1, rows)


@dataclass(frozen=True)
class Drawing:
    """A picture for the terminal, and the cells that show it.

    A terminal keeps it, or it does not. One that does is told `sequence` once, and `forget` when it may let go of it.
    One that does not is told `over` where the first of the cells is, each time they have been painted, as long as they
    are of the size `cell`.
    """

    cells: list[Strip]
    sequence: str = ""
    forget: str = ""
    over: str = ""
    cell: tuple[int, int] | None = None
