"""A picture in kitty's graphics protocol, with its placeholder cells.

The picture is sent once and has no place of its own: cells that hold a placeholder show a part of it, told by the marks
of row and column over it, of the picture whose number is the cell's colour. So what is painted over those cells hides
it, and it moves and goes as text does. <https://sw.kovidgoyal.net/kitty/graphics-protocol/#unicode-placeholders>
"""

from __future__ import annotations

import random
import zlib
from base64 import b64encode
from collections.abc import Iterator
from itertools import chain, count
from typing import TYPE_CHECKING

from rich.color import Color
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from wan_tui.graphics import Drawing, Room

if TYPE_CHECKING:
    from engine.video.thumbnail import Frame

_MOST_CHUNK = 4096  # bytes of one command, by the protocol
_PLACEHOLDER = "\U0010eeee"
# The marks for 0, 1, 2 … in the protocol's order (its rowcolumn-diacritics.txt), as ranges of code points.
_MARK_RANGES = (
    "305 30d-30e 310 312 33d-33f 346 34a-34c 350-352 357 35b 363-36f 483-487 592-595 597-599 59c-5a1 5a8-5a9 5ab-5ac "
    "5af 5c4 610-617 657-65b 65d-65e 6d6-6dc 6df-6e2 6e4 6e7-6e8 6eb-6ec 730 732-733 735-736 73a 73d 73f-741 743 745 "
    "747 749-74a 7eb-7f1 7f3 816-819 81b-823 825-827 829-82d 951 953-954 f82-f83 f86-f87 135d-135f 17dd 193a 1a17 "
    "1a75-1a7c 1b6b 1b6d-1b73 1cd0-1cd2 1cda-1cdb 1ce0 1dc0-1dc1 1dc3-1dc9 1dcb-1dcc 1dd1-1de6 1dfe 20d0-20d1 "
    "20d4-20d7 20db-20dc 20e1 20e7 20e9 20f0 2cef-2cf1 2de0-2dff a66f a67c-a67d a6f0-a6f1 a8e0-a8f1 aab0 aab2-aab3 "
    "aab7-aab8 aabe-aabf aac1 fe20-fe26 10a0f 10a38 1d185-1d189 1d1aa-1d1ad 1d242-1d244"
)
_numbers = count(random.randrange(1 << 20, 1 << 23))  # others draw in this terminal, too


def _marks() -> Iterator[str]:
    for part in _MARK_RANGES.split():
        first, _, last = part.partition("-")
        yield from map(chr, range(int(first, 16), int(last or first, 16) + 1))


MARKS = "".join(_marks())


def drawing(frame: Frame, room: Room) -> Drawing:
    """In a thread: it compresses. The terminal scales it up to its cells."""
    number = next(_numbers) & 0xFFFFFF
    columns, rows = room.within(len(MARKS), len(MARKS)).taken(frame.width, frame.height)
    head = f"a=T,U=1,i={number},c={columns},r={rows},f=24,s={frame.width},v={frame.height},o=z,q=2"
    data = b64encode(zlib.compress(frame.rgb)).decode()
    forget = f"\x1b_Ga=d,d=I,i={number},q=2\x1b\\"
    return Drawing(_cells(number, columns, rows), sequence=_sent(head, data), forget=forget)


def _sent(head: str, data: str) -> str:
    chunks = [data[start : start + _MOST_CHUNK] for start in range(0, len(data), _MOST_CHUNK)]
    heads = chain([f"{head},m"], ["q=2,m"] * (len(chunks) - 1))
    more = [1] * (len(chunks) - 1) + [0]
    return "".join(f"\x1b_G{keys}={left};{chunk}\x1b\\" for keys, left, chunk in zip(heads, more, chunks, strict=True))


def _cells(number: int, columns: int, rows: int) -> list[Strip]:
    """Every cell names its row and column: any of them may be painted without its neighbours."""
    style = Style.from_color(Color.from_rgb(number >> 16, number >> 8 & 255, number & 255))
    return [
        Strip(
            [Segment("".join(f"{_PLACEHOLDER}{MARKS[row]}{MARKS[column]}" for column in range(columns)), style)],
            columns,
        )
        for row in range(rows)
    ]
