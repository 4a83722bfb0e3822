"""Lines for people, as wide as the terminal: broken between words, what follows standing under the text.

Where nobody looks (a pipe, a file) they stay whole: a script gets one line a finding.
"""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import TextIO

from wan_tui.text import plain

MOST_ROWS = 8  # of one kind; a terminal has 24 lines
# What is copied, a command or a path: a line break of ours in it would be copied as well.
_WHOLE = re.compile(r" {2}do: {2}wan-tui |(?:do {7}wan-tui |(?:place {4}|output {3}|report {3}|sha256 {3})\S)")
_NARROWEST = 30


def width_of(stream: TextIO | None) -> int | None:
    """The columns of a terminal; None where lines are not to be broken."""
    with suppress(OSError, ValueError):  # closed
        if stream and stream.isatty():
            columns = shutil.get_terminal_size().columns
            return columns if columns >= _NARROWEST else None
    return None


def laid_out(lines: Iterable[str], width: int | None) -> str:
    """Lines made harmless, and broken where they are wider than the terminal."""
    return "\n".join(_fitted(plain(line), width) for line in lines)


def for_terminal(lines: Iterable[str], stream: TextIO | None = None) -> str:
    """Lines made harmless and broken to the terminal's width, in signs that its encoding has."""
    stream = stream or sys.stdout
    if not (getattr(stream, "encoding", None) or "").lower().startswith("utf"):
        lines = [line.replace("—", "-").replace("°", "") for line in lines]
    return laid_out(lines, width_of(stream))


def cut(rows: Sequence[str], label: str, more: str, most: int = MOST_ROWS) -> Iterator[str]:
    """The first rows, and how many `more` of them there are."""
    yield from rows[:most]
    if rows[most:]:
        yield f"{label:<8} and {len(rows) - most} more {more}".rstrip()


def _fitted(line: str, width: int | None) -> str:
    if width is None or len(line) <= width or _WHOLE.match(line):
        return line
    return "\n".join(
        textwrap.wrap(
            line,
            width,
            subsequent_indent=" " * _indent(line),
            break_long_words=False,
            break_on_hyphens=False,  # t2v-A14B is one word
        )
    )


def _indent(line: str) -> int:
    """Where the text of a line begins, behind its label."""
    if line.startswith("  "):
        return 7  # why: and do:
    return 9 if re.match(r"\w{1,8} {1,8}(?<=.{9})\S", line) else 2
