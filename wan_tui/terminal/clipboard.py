"""Copying through the terminal (OSC 52): it reaches the user's own clipboard over SSH, too."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping

MOST_BYTES = 74_994  # of base64; terminals drop longer ones without a word
_SCREEN_PIECE = 240  # bytes GNU screen passes on at once, with room to spare


def osc52(text: str, env: Mapping[str, str]) -> str | None:
    """The sequence that copies `text`; None where it is too long. A multiplexer is asked to pass it on."""
    coded = b64encode(text.encode("utf-8", "replace")).decode("ascii")
    if len(coded) > MOST_BYTES:
        return None
    sequence = f"\x1b]52;c;{coded}\x07"
    if env.get("TMUX"):
        return "\x1bPtmux;" + sequence.replace("\x1b", "\x1b\x1b") + "\x1b\\"
    if env.get("STY"):
        pieces = [sequence[at : at + _SCREEN_PIECE] for at in range(0, len(sequence), _SCREEN_PIECE)]
        return "".join(f"\x1bP{piece}\x1b\\" for piece in pieces)
    return sequence
