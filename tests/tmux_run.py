"""A program in tmux: a real terminal whose screen can be read, on a server of its own."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.journey import Hands
from tests.runs import environment

HERE = shutil.which("tmux")
_NAMES = {"escape": "Escape", "enter": "Enter", "tab": "Tab", "slash": "/", "space": "Space"}


class InTmux(Hands):
    def __init__(self, socket: Path, command: Sequence[str], size: tuple[int, int], env: dict[str, str]) -> None:
        self._base = [str(HERE), "-S", str(socket), "-f", os.devnull]
        self._env = {name: value for name, value in environment().items() if name not in ("TMUX", "NO_COLOR")} | env
        columns, rows = map(str, size)
        begin = ["new-session", "-d", "-s", "app", "-x", columns, "-y", rows, shlex.join(command)]
        self._tmux("start-server", ";", "set-option", "-g", "remain-on-exit", "on", ";", *begin)

    def _tmux(self, *arguments: str) -> str:
        done = subprocess.run(
            [*self._base, *arguments], env=self._env, capture_output=True, text=True, encoding="utf-8", check=True
        )
        return done.stdout

    async def press(self, *keys: str) -> None:
        for key in keys:
            name = _NAMES.get(key) or (key.upper() if key[0] == "f" and key[1:].isdigit() else key)
            name = name.replace("ctrl+", "C-")
            self._tmux("send-keys", "-t", "app", *(["-l", "--", name] if len(name) == 1 else [name]))
            await asyncio.sleep(0)

    def screen(self) -> str:
        return self._tmux("capture-pane", "-p", "-t", "app").rstrip("\n")

    def coloured(self) -> str:
        """The screen with the sequences of its colours."""
        return self._tmux("capture-pane", "-p", "-e", "-t", "app")

    def pictured(self) -> bool:
        """In half blocks, or in characters where there are no colours."""
        screen = self.screen()
        return sum(screen.count(sign) for sign in "▀▄█=+*#%@") > 40

    def keep(self, file: Path) -> None:
        file.with_suffix(".ansi").write_text(self.coloured(), encoding="utf-8")

    async def ends(self) -> str:
        """Wait until the program has ended; its status."""
        await self.until(lambda: self._state()[0] == "1")
        self._tmux("run-shell", "true")  # a tmux that misses the end of one child hears of it with that of another
        await self.until(lambda: len(self._state()) == 2)
        return self._state()[1]

    def _state(self) -> list[str]:
        return self._tmux("display-message", "-p", "-t", "app", "#{pane_dead} #{pane_dead_status}").split()

    def close(self) -> None:
        self._tmux("kill-server")


@contextmanager
def in_tmux(command: Sequence[str], size: tuple[int, int] = (80, 24), **env: str) -> Iterator[InTmux]:
    with tempfile.TemporaryDirectory(prefix="wan-tmux-") as folder:  # not below the test's: sockets have short names
        hands = InTmux(Path(folder) / "s", command, size, env)
        try:
            yield hands
        finally:
            hands.close()
