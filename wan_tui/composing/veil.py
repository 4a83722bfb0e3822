"""Text as it may stand in an input: what controls a terminal, ends a line or turns text takes one cell like any letter.

An input counts cells and characters, so such a character cannot be written out as `\\x1b`. It is kept as a character of
plane 16, which no font has, and drawn as a sign; nothing of the text is lost.
"""

from __future__ import annotations

from wan_tui.text import plain

_PLANE = 0x100000


def veiled(text: str, *, keep: str = "") -> str:
    """For an input. Characters in `keep`, such as the line breaks of a text area, stay as they are."""
    if text.isprintable() and text.isascii():
        return text
    return "".join(
        chr(_PLANE + ord(char)) if char not in keep and (char == "\t" or plain(char) != char) else char for char in text
    )


def unveiled(text: str) -> str:
    """What was meant."""
    if text.isascii():
        return text
    return "".join(_meant(char) or char for char in text)


def signs(text: str) -> str:
    """What is drawn: as many characters, a cell for each that was veiled."""
    if text.isascii():
        return text
    return "".join(_sign(meant) if (meant := _meant(char)) else char for char in text)


def _meant(char: str) -> str | None:
    """The character behind a veil; None where there is none."""
    code = ord(char) - _PLANE
    if not 0 <= code < 0xFFFE:
        return None
    found = chr(code)
    return found if found == "\t" or plain(found) != found else None


def _sign(char: str) -> str:
    code = ord(char)
    if char in "\n\r":
        return "⏎"
    return chr(0x2400 + code) if code < 0x20 else "␡" if code == 0x7F else "�"
