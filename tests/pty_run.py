"""A program on a terminal of its own: what it writes is kept; the terminal can stall, change its size or go away."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from tests.runs import environment

PATIENCE_S = 90.0
_OF_A_TERMINAL = ("NO_COLOR", "TMUX", "STY", "COLUMNS", "LINES", "LC_ALL", "LC_CTYPE", "SSH_CONNECTION", "SSH_TTY")
TAKEN = (b"\x1b[?1049h", b"\x1b[?1000h", b"\x1b[?2004h", b"\x1b[?25l", b"\x1b[>25u")
LEFT = (b"\x1b[?1049l", b"\x1b[?1000l", b"\x1b[?2004l", b"\x1b[?25h", b"\x1b[<u")


def until(holds: Callable[[], Any], what: str | Callable[[], str] = "") -> Any:
    """Wait until it holds, and what it was then."""
    end = time.monotonic() + PATIENCE_S
    while not (found := holds()):
        assert time.monotonic() < end, f"waited in vain for {what() if callable(what) else what}"
        time.sleep(0.01)
    return found


class OnTerminal:
    """A process whose terminal is ours."""

    def __init__(
        self,
        command: Sequence[object],
        *,
        size: tuple[int, int] = (80, 24),
        files: dict[str, Any] | None = None,
        controlling: bool = True,
        **env: str,
    ) -> None:
        self.master, slave = pty.openpty()
        self.resize(*size)
        self.before = termios.tcgetattr(slave)
        ours = {name: value for name, value in environment().items() if name not in _OF_A_TERMINAL}
        given = {"TERM": "xterm-256color", "COLORTERM": "truecolor", "LANG": "C.UTF-8", **env}
        self.process = subprocess.Popen(
            list(map(str, command)),
            **{"stdin": slave, "stdout": slave, "stderr": slave, **(files or {})},
            env={**ours, **given},
            start_new_session=True,
            preexec_fn=(lambda: fcntl.ioctl(slave, termios.TIOCSCTTY, 0)) if controlling else None,
        )
        self._slave = slave  # kept: the settings can be read when the program has ended
        self.said = bytearray()
        self._reads = threading.Event()
        self._reads.set()
        self._over = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while not self._over:
            if not select.select([self.master], [], [], 0.02)[0]:
                continue
            if self._reads.is_set():
                self.said += os.read(self.master, 65536)
            else:
                time.sleep(0.02)

    def settings(self) -> list[Any]:
        return termios.tcgetattr(self._slave)

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, keys: str | bytes) -> None:
        os.write(self.master, keys.encode() if isinstance(keys, str) else keys)

    def sees(self, what: bytes, since: int = 0) -> int:
        """Wait until it was written; where what follows begins."""
        until(lambda: self.said.find(what, since) >= 0, lambda: f"{what!r} in {bytes(self.said[-300:])!r}")
        return self.said.find(what, since) + len(what)

    def rests(self) -> None:
        """Wait until nothing more is written."""

        def nothing_comes() -> bool:
            before = len(self.said)
            time.sleep(0.3)
            return len(self.said) == before

        until(nothing_comes, "rest")

    def stall(self, *, still: bool) -> None:
        """Take nothing, or go on."""
        if still:
            self._reads.clear()
        else:
            self._reads.set()

    def hang_up(self) -> None:
        """The line breaks: nobody holds the other side any more."""
        self._over = True
        self._reader.join()
        os.close(self._slave)
        os.close(self.master)
        self.master = self._slave = -1

    def end(self) -> int:
        return self.process.wait(PATIENCE_S)

    def clean(self) -> None:
        """For the end of a test, whatever it found."""
        self._over = True
        self._reader.join()
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        for descriptor in (self.master, self._slave):
            if descriptor >= 0:
                os.close(descriptor)


def app(*arguments: object) -> list[object]:
    return [sys.executable, "-m", "tests.pty_app", *arguments]
