"""Pictures as terminal cells: two pixels a cell, above and below, with as few changes of colour as they allow."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import groupby
from typing import Literal

from rich.color import Color, ColorSystem
from rich.color_triplet import ColorTriplet
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

Colours = Literal["truecolor", "256", "16", "none"]
_Colour = tuple[int, int, int] | int  # in truecolor, or a number of the terminal's palette

_RAMP = " .:-=+*#%@"  # dark to light
_SYSTEMS = {"truecolor": ColorSystem.TRUECOLOR, "256": ColorSystem.EIGHT_BIT, "16": ColorSystem.STANDARD}
_CUBE = (0, 95, 135, 175, 215, 255)  # the levels of a channel among the 256 colours
# The 16 colours as most terminals show them; what a user's own theme makes of them is not known.
_SIXTEEN = (
    *((0, 0, 0), (170, 0, 0), (0, 170, 0), (170, 85, 0), (0, 0, 170), (170, 0, 170), (0, 170, 170), (170, 170, 170)),
    *((85, 85, 85), (255, 85, 85), (85, 255, 85), (255, 255, 85)),
    *((85, 85, 255), (255, 85, 255), (85, 255, 255), (255, 255, 255)),
)
_PALETTE_BITS = 5  # so many a channel are looked at to find the nearest colour of a palette


def colours_for(color_system: str | None, *, blocks: bool = True, no_color: bool = False) -> Colours:
    """What a terminal can show, by rich's name of its colours, and whether it has block characters."""
    if not blocks or no_color or color_system is None:
        return "none"
    return "truecolor" if color_system == "truecolor" else "256" if color_system == "256" else "16"


def half_blocks(rgb: bytes, width: int, height: int, colours: Colours, bits: int = 8) -> list[Strip]:
    """A picture as `(height + 1) // 2` lines of `width` cells; `rgb` holds three bytes a pixel, row after row.

    Without colours it is made of ASCII characters. `bits` a channel are kept in truecolor: with 5, neighbours are more
    often equal and fewer bytes go over the line. Any thread can do this.
    """
    if colours == "none":
        return [Strip([Segment(line)], width) for line in _ramped(rgb, width, height)]
    coarse = rgb.translate(_levels(bits if colours == "truecolor" else _PALETTE_BITS))
    rows = [[*_row(coarse, width, y, colours)] for y in range(height)]
    rows += rows[-1:] if height % 2 else []
    return [
        Strip([Segment(text, _style(front, back, colours)) for text, front, back in _runs(above, below)], width)
        for above, below in zip(rows[::2], rows[1::2], strict=True)
    ]


@lru_cache(8)
def _levels(bits: int) -> bytes:
    """Each value as its upper `bits` tell it, black and white kept."""
    return bytes(round((value >> (8 - bits)) * 255 / ((1 << bits) - 1)) for value in range(256))


def _row(rgb: bytes, width: int, y: int, colours: Colours) -> Iterator[_Colour]:
    pixels = _pixels(rgb[y * width * 3 : (y + 1) * width * 3])
    return pixels if colours == "truecolor" else map(_of_256 if colours == "256" else _of_16, pixels)


def _runs(above: list[_Colour], below: list[_Colour]) -> Iterator[tuple[str, _Colour | None, _Colour]]:
    """Texts with the colours of their front (None: it shows nowhere) and back.

    Cells stay in one run while two colours are enough for them: blocks may stand upside down, or fill their cell.
    """
    text = ""
    front: _Colour | None = None
    back = above[0]
    for (top, bottom), same in groupby(zip(above, below, strict=True)):
        fitting = _fit(top, bottom, front, back)
        if fitting is None:
            yield text, front, back
            text, front, back = "", None, bottom
            fitting = _fit(top, bottom, front, back)
            assert fitting
        sign, front = fitting
        text += sign * len([*same])
    yield text, front, back


def _fit(top: _Colour, bottom: _Colour, front: _Colour | None, back: _Colour) -> tuple[str, _Colour | None] | None:
    """The sign for a cell in a run of these colours, and its front then; None when they do not do."""
    if top == bottom:
        if top == back:
            return " ", front
        return ("█", top) if front in (None, top) else None
    if bottom == back and front in (None, top):
        return "▀", top
    if top == back and front in (None, bottom):
        return "▄", bottom
    return None


@lru_cache(1 << 13)
def _style(front: _Colour | None, back: _Colour, colours: Colours) -> Style:
    style = Style.from_color(None if front is None else _color(front), _color(back))
    style.render(" ", color_system=_SYSTEMS[colours])  # it keeps its codes: the screen's thread need not make them
    return style


def _color(colour: _Colour) -> Color:
    return Color.from_ansi(colour) if isinstance(colour, int) else Color.from_triplet(ColorTriplet(*colour))


@lru_cache(1 << 15)
def _of_256(pixel: tuple[int, int, int]) -> int:
    """The nearest of the colour cube and the greys; the first 16 differ from terminal to terminal."""
    levels = [min(range(6), key=lambda i: abs(_CUBE[i] - value)) for value in pixel]
    cube = 16 + 36 * levels[0] + 6 * levels[1] + levels[2]
    step = min(23, max(0, round((sum(pixel) / 3 - 8) / 10)))
    grey = (8 + 10 * step,) * 3
    nearer = _distance(pixel, grey) < _distance(pixel, tuple(_CUBE[level] for level in levels))
    return 232 + step if nearer else cube


@lru_cache(1 << 15)
def _of_16(pixel: tuple[int, int, int]) -> int:
    return min(range(16), key=lambda number: _distance(pixel, _SIXTEEN[number]))


def _distance(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """How different two colours look, roughly: the eye is keenest on green."""
    red, green, blue = (a - b for a, b in zip(one, other, strict=True))
    return 2 * red * red + 4 * green * green + 3 * blue * blue


def _ramped(rgb: bytes, width: int, height: int) -> Iterator[str]:
    """Lines of characters that cover more of their cell the lighter it is, for a dark screen."""
    signs = [_RAMP[value * len(_RAMP) // 256] for value in range(256)]
    light = [(2 * red + 5 * green + blue) >> 3 for red, green, blue in _pixels(rgb)]
    rows = [light[start : start + width] for start in range(0, width * height, width)]
    rows += rows[-1:] if height % 2 else []
    for above, below in zip(rows[::2], rows[1::2], strict=True):
        yield "".join(signs[(one + other) >> 1] for one, other in zip(above, below, strict=True))


def _pixels(rgb: bytes) -> Iterator[tuple[int, int, int]]:
    return zip(rgb[::3], rgb[1::3], rgb[2::3], strict=True)
