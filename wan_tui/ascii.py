"""Terminals without UTF-8: every sign of the screen as ASCII, at the very end, so that nothing else has to know."""

from __future__ import annotations

from functools import lru_cache

from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

_SIGNS = {
    **dict.fromkeys("─━═╌┄▔▁▂", "-"),
    **dict.fromkeys("│┃║▏▎▕", "|"),
    **dict.fromkeys("┌┐└┘├┤┬┴┼╭╮╰╯┏┓┗┛╔╗╚╝", "+"),
    **dict.fromkeys("█▉▊▋▇▆▀▄■", "#"),
    **dict.fromkeys("▌▐▍▅", "="),
    **dict.fromkeys("▃", "_"),
    **dict.fromkeys("░▒▓·•", "."),
    **dict.fromkeys("—–", "-"),
    **dict.fromkeys("▶▸›→", ">"),
    **dict.fromkeys("◀◂‹←", "<"),
    **dict.fromkeys("✓✔", "v"),
    **dict.fromkeys("✗✘×", "x"),
    **dict.fromkeys("●◉", "*"),
    **dict.fromkeys("○◌", "o"),
    **dict.fromkeys("↑▲▴▵", "^"),
    **dict.fromkeys("↓▼▾▿", "v"),
    **dict.fromkeys("…⏎", "~"),
    **dict.fromkeys("“”", '"'),
    **dict.fromkeys("‘’", "'"),
    "◐": "%",
    "°": "'",
}


@lru_cache(4096)
def in_ascii(text: str) -> str:
    """The text in as many cells: signs of ours by their likes, other characters as question marks."""
    if text.isascii():
        return text
    from rich.cells import cell_len

    return "".join(char if char.isascii() else _SIGNS.get(char, "?" * cell_len(char)) for char in text)


class Ascii(LineFilter):
    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        return [Segment(in_ascii(text), style, control) for text, style, control in segments]
