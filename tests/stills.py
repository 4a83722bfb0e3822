"""The gallery on a terminal that draws pictures itself: what such a terminal makes of what was written."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.cells import cell_len

from engine.video.write import open_writer
from tests.pty_run import OnTerminal
from tests.runs import PROGRAM

F6, F7, CTRL_Q = "\x1b[17~", "\x1b[18~", "\x11"
_TOKEN = re.compile(
    r"\x1b([_P])([^\x1b]*)\x1b\\|\x1b\[([<=>?]?)([\d;:]*)[ -/]*([@-~])"
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[^\[_P\]]|.",
    re.DOTALL,
)
At = tuple[int, int]


class Cells:
    """Text and front colour of the cells by row and column. What it does with pictures is told by a subclass."""

    def __init__(self, said: str, columns: int = 1000) -> None:
        self.cells: dict[At, tuple[str, int]] = {}
        self.at, self._colour = (0, 0), 0
        for token in _TOKEN.finditer(said):
            kind, data, private, numbers, letter = token.groups()
            if kind:
                self.draw(kind, data)
            elif letter:
                self._control(private, numbers, letter)
            elif not token[0].startswith("\x1b"):
                self._print(token[0])
        self.cells = {at: cell for at, cell in self.cells.items() if at[1] < columns}

    def draw(self, kind: str, data: str) -> None:
        """What came as an application's command (`_`) or as a device's (`P`)."""

    def printed(self, at: At) -> None:
        """A cell has been written on."""

    def cleared(self) -> None:
        """The whole screen has been."""

    def _control(self, private: str, numbers: str, letter: str) -> None:
        if letter == "H":
            row, column = map(int, (numbers or "1;1").split(";"))
            self.at = (row - 1, column - 1)
        elif letter == "m" and not private:
            if (front := re.search(r"38;2;(\d+);(\d+);(\d+)", numbers)) is not None:
                red, green, blue = map(int, front.groups())
                self._colour = red << 16 | green << 8 | blue
        elif (private, numbers, letter) in (("?", "1049", "h"), ("?", "1049", "l")):
            self.cells.clear()
            self.cleared()

    def _print(self, sign: str) -> None:
        row, column = self.at
        if sign == "\r":
            self.at = (row, 0)
        elif sign == "\n":
            self.at = (row + 1, column)
        elif unicodedata.combining(sign):
            text, colour = self.cells[row, column - 1]
            self.cells[row, column - 1] = (text + sign, colour)
        else:
            self.cells[self.at] = (sign, self._colour)
            for across in range(column, column + cell_len(sign)):
                self.printed((row, across))
            self.at = (row, column + cell_len(sign))

    @property
    def text(self) -> str:
        return "".join(sign for _, (sign, _) in sorted(self.cells.items()))

    @property
    def blocks(self) -> int:
        return sum(text[0] in "▀▄█" for text, _ in self.cells.values())


def clip(path: Path, channel: int) -> None:
    with open_writer(path, width=64, height=32, fps=8) as writer:
        frames = np.zeros((60, 32, 64, 3), np.uint8)
        across, down = np.meshgrid(range(64), range(32))
        frames[..., channel] = np.where(across > 2 * down + 8, 120, 250)  # its edge takes half blocks
        writer.write(frames)
        writer.finish(lambda _: "")


@contextmanager
def gallery(
    own_home: Path, here: Path, monkeypatch: pytest.MonkeyPatch, **env: Any
) -> Iterator[Callable[..., OnTerminal]]:
    """`open(config, …)` is the app at its gallery, where a red clip is the newest and a blue one the next."""
    (here / "outputs").mkdir(parents=True)
    monkeypatch.chdir(here)
    for number, name in enumerate(("blue.mp4", "red.mp4")):
        clip(Path("outputs") / name, 2 - 2 * number)
        os.utime(Path("outputs") / name, (1_700_000_000 + number,) * 2)
    (own_home / "state" / "wan-tui").mkdir()
    (own_home / "state" / "wan-tui" / "welcome").touch()
    ours: list[OnTerminal] = []

    def open_(config: str = "", **more: Any) -> OnTerminal:
        (own_home / "config" / "wan-tui").mkdir(exist_ok=True)
        (own_home / "config" / "wan-tui" / "config.toml").write_text(config + "\n", encoding="utf-8")
        ours.append(run := OnTerminal(PROGRAM, **{"size": (120, 40), **env, **more}))
        run.sees(b"Library")
        run.rests()
        run.type(F7)
        return run

    try:
        yield open_
    finally:
        for one in ours:
            one.clean()
