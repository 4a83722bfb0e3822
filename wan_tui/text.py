"""Text from files, the network or a user, made harmless for a terminal."""

from __future__ import annotations

import unicodedata

_UNSEEN = ("Cc", "Zl", "Zp", "Cs")
_TURNS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # the direction of text


def plain(text: str) -> str:
    """Text from files or the network, made harmless for a terminal: what controls it or turns text becomes visible."""
    return "".join(
        _escaped(char) if char != "\t" and (unicodedata.category(char) in _UNSEEN or char in _TURNS) else char
        for char in text
    )


def _escaped(char: str) -> str:
    """A character as Python writes it; half of a surrogate pair is how it holds a byte that is no UTF-8."""
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:
        code -= 0xDC00
    return f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}"


def one_line(text: str) -> str:
    """The same in one line: line breaks are shown as a sign."""
    return plain(" ⏎ ".join(text.splitlines()) if "\n" in text or "\r" in text else text)
