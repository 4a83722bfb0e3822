"""A picture as sixels: bands of six rows of pixels, colour by colour, a character for six pixels of a column.

The terminal lays them over its cells and keeps them nowhere: what is written on a cell later takes its part of the
picture away. <https://vt100.net/docs/vt3xx-gp/chapter14.html>
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from textual.strip import Strip

from wan_tui.graphics import Drawing, Room

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    from engine.video.thumbnail import Frame

MOST_BYTES = 256 * 1024  # of a picture, which is sent again whenever its cells were painted
MOST_SIDE = 1000  # pixels: xterm cuts off what is beyond (its `maxGraphicSize`)
BAND = 6
_FEWER = (256, 128, 64, 32, 16)  # colours: of half as many there are about a quarter fewer bytes
_REPEATED = re.compile(rb"(.)\1{3,}")  # from four on the count is shorter


def drawing(frame: Frame, room: Room) -> Drawing | None:
    """In a thread: it takes about a tenth of a second. None where it would be more bytes than a picture is worth."""
    room = room.within(MOST_SIDE // room.cell[0], MOST_SIDE // room.cell[1])
    sides = zip(room.filled(frame.width, frame.height), room.cell, strict=True)
    columns, rows = (max(1, round(side / cell)) for side, cell in sides)  # whole ones: mlterm leaves the rest white
    picture = _scaled(frame, columns * room.cell[0], rows * room.cell[1])
    for colours in sorted({min(few, room.colours) for few in _FEWER}, reverse=True):
        over = _encoded(picture, colours)
        if len(over) <= MOST_BYTES:
            return Drawing([Strip.blank(columns)] * rows, over=over, cell=room.cell)
    return None


def _scaled(frame: Frame, width: int, height: int) -> Image:
    """In whole bands: one that is begun might reach into the line of cells below."""
    from PIL import Image

    size = width, max(BAND, height - height % BAND)
    picture = Image.frombytes("RGB", (frame.width, frame.height), frame.rgb)
    return picture if picture.size == size else picture.resize(size, Image.Resampling.BICUBIC)


def _encoded(picture: Image, colours: int) -> str:
    import numpy as np
    from PIL import Image

    reduced = picture.quantize(colours, dither=Image.Dither.NONE)  # dithered, it would be runs no more
    palette = reduced.getpalette() or []
    percents = [round(value * 100 / 255) for value in palette]
    told = "".join(f"#{at // 3};2;{';'.join(map(str, percents[at : at + 3]))}" for at in range(0, len(percents), 3))
    numbers = np.asarray(reduced)
    bands = b"-".join(_band(numbers[top : top + BAND]) for top in range(0, reduced.height, BAND))
    return f'\x1bP0;1;0q"1;1;{reduced.width};{reduced.height}{told}{bands.decode()}\x1b\\'


def _band(numbers: NDArray[np.uint8]) -> bytes:
    """Six rows, as the numbers of their colours."""
    import numpy as np

    used, found = np.unique(numbers, return_inverse=True)
    across = np.arange(numbers.shape[1])
    signs = np.zeros((len(used), len(across)), np.uint8)
    for row, which in enumerate(found.reshape(numbers.shape)):
        signs[which, across] |= 1 << row
    return b"$".join(_line(number, line.tobytes()) for number, line in zip(used, signs + 63, strict=True))


def _line(number: int, signs: bytes) -> bytes:
    """Of one colour: what is left of the band once it has no more of it needs no sign."""
    shorter = _REPEATED.sub(lambda run: b"!%d%c" % (len(run[0]), run[0][0]), signs.rstrip(b"?"))
    return b"#%d%b" % (number, shorter)
