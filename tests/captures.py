"""What a screen looks like as a text that people read in a diff: its characters, and below them how they are dressed.

A letter of the lower part stands for a style of the legend; a blank for the style most of the screen has. Set
`WAN_TUI_SNAPSHOTS=update` to write the files anew, and look at what changed.
"""

from __future__ import annotations

import difflib
import os
import re
import string
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.cells import cell_len
from rich.style import Style
from textual.app import App

from tests.app import painted

FOLDER = Path(__file__).parent / "snapshots"
UPDATE = os.environ.get("WAN_TUI_SNAPSHOTS") == "update"
_LETTERS = (
    string.ascii_letters
    + string.digits
    + "".join(map(chr, (*range(0x410, 0x450), *range(0x3B1, 0x3C9), *range(0x531, 0x557))))
)
_ATTRIBUTES = ("bold", "dim", "italic", "underline", "reverse", "strike")


def captured(app: App[Any], hide: Mapping[str, str]) -> str:
    """The screen. `hide` are patterns of what no test can fix, and what stands in their place, as wide."""
    lines = painted(app)
    if not lines:  # a screen that is on its way
        return ""
    text = "\n".join("".join(segment.text for segment in line).rstrip() for line in lines)
    for pattern, instead in hide.items():
        text = re.sub(pattern, instead, text)
    rows = [[(_named(segment.style), cell_len(segment.text)) for segment in line] for line in lines]
    seen: Counter[str] = Counter()
    for row in rows:
        for style, cells in row:
            seen[style] += cells
    usual = seen.most_common(1)[0][0]
    letters = {usual: " "}
    for style in seen:  # in the order they are met
        letters.setdefault(style, _LETTERS[len(letters) - 1])
    grid = "\n".join("".join(letters[style] * cells for style, cells in row).rstrip() for row in rows)
    legend = "\n".join(f"{letter}  {style}" for style, letter in letters.items())
    return f"{text}\n\n{'=' * 20} styles\n{grid}\n{'=' * 20}\n{legend}\n"


def _named(style: Style | None) -> str:
    style = style or Style()
    colours = [
        "default" if colour is None or colour.is_default else colour.triplet.hex if colour.triplet else colour.name
        for colour in (style.color, style.bgcolor)
    ]
    return " ".join([f"{colours[0]} on {colours[1]}", *(name for name in _ATTRIBUTES if getattr(style, name))])


class Album:
    """The pictures of one folder below `snapshots` whose names begin with `about`. `close` tells what differs."""

    def __init__(self, folder: str, about: str, hide: Mapping[str, str]) -> None:
        self._folder, self._about, self._hide = FOLDER / folder, about, dict(hide)
        self._taken: set[str] = set()
        self._problems: list[str] = []

    def take(self, app: App[Any], state: str) -> None:
        """Compare what is shown with the picture of that state."""
        name = f"{self._about}-{state}.txt" if state else f"{self._about}.txt"
        file, now = self._folder / name, captured(app, self._hide)
        assert name not in self._taken
        self._taken.add(name)
        before = file.read_text(encoding="utf-8") if file.exists() else ""
        if now == before:
            return
        if UPDATE:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(now, encoding="utf-8")
            return
        changes = list(difflib.unified_diff(before.splitlines(), now.splitlines(), "kept", "shown", lineterm="", n=1))
        self._problems.append("\n".join([f"--- {file.relative_to(FOLDER)}", *changes[2:42]]))

    def close(self) -> None:
        known = {file.name for file in self._folder.glob(f"{self._about}*.txt")}
        for name in sorted(known - self._taken):
            if UPDATE:
                (self._folder / name).unlink()
            else:
                self._problems.append(f"{name} is a picture of nothing")
        assert not self._problems, "\n\n".join(self._problems)
