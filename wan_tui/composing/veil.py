"""Text as it may stand in an input: what controls a terminal, ends a line or turns text takes one cell like any letter.

An input counts cells and characters, so such a character cannot be written out as `\\x1b`. It is kept as a character of
plane 16, which no font has, and drawn as a sign; nothing of the text is lost.
"""

from __future__ import annotations

import re
from functools import lru_cache

_PLANE = 0x100000
# What `text.plain` writes out, and the tab.
_UNFIT = "\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_TO_VEIL = re.compile(f"[{_UNFIT}]")
_TO_VEIL_IN_LINES = re.compile(f"(?![\n\t])[{_UNFIT}]")
_VEILED = re.compile(re.sub("[^-]", lambda found: chr(_PLANE + ord(found[0])), _UNFIT).join("[]"))


def veiled(text: str, *, lines: bool = False) -> str:
    """For an input; one of many `lines` has its line breaks and tabs."""
    return (_TO_VEIL_IN_LINES if lines else _TO_VEIL).sub(lambda found: chr(_PLANE + ord(found[0])), text)


def unveiled(text: str) -> str:
    """What was meant."""
    return _VEILED.sub(lambda found: chr(ord(found[0]) - _PLANE), text)


@lru_cache(4)  # a text area asks once a row for the whole of a line
def signs(text: str) -> str:
    """What is drawn: as many characters, a cell for each that was veiled."""
    return _VEILED.sub(lambda found: _sign(ord(found[0]) - _PLANE), text)


def _sign(code: int) -> str:
    if code in (0x0A, 0x0D):
        return "⏎"
    return chr(0x2400 + code) if code < 0x20 else "␡" if code == 0x7F else "�"
