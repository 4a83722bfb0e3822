"""A program on a terminal of its own: what it writes is kept, and the terminal can stall, change its size or go away."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

from tests.runs import environment

PATIENCE_S = 30.0
TAKEN = (b"\x1b[?1049h", b"\x1b[?1000h", b"\x1b[?2004h", b"\x1b[?25l", b"\x1b[>25u")
LEFT = (b"\x1b[?1049l", b"\x1b[?1000l", b"\x1b[?2004l", b"\x1b[?25h", b"\x1b[<u")


def until(holds: Callable[[], Any], what: str = "") -> Any:
    """Wait until it holds, and what it was then."""
    end = time.monotonic() + PATIENCE_S
    while not (found := holds()):
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.01)
    return found


class OnTerminal:
    """A process whose terminal is ours."""

    def __init__(
        self, command: Sequence[object], *, size: tuple[int, int] = (80, 24), files: dict[str, Any] | None = None, **env: str
    ) -> None:
        self.master, slave = pty.openpty()
        self.resize(*size)
        self.before = termios.tcgetattr(slave)
        given = {"TERM": "xterm-256color", "COLORTERM": "truecolor", "LANG": "C.UTF-8", **env}
        for name in ("NO_COLOR", "TMUX", "STY", "COLUMNS", "LINES", "LC_ALL"):
            os.environ.pop(name, None)
        self.process = subprocess.Popen(
            list(map(str, command)),
            **{"stdin": slave, "stdout": slave, "stderr": slave, **(files or {})},
            env={**environment(), **given},
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(slave, termios.TIOCSCTTY, 0),
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
            self._reads.wait()
            try:
                self.said += os.read(self.master, 65536)
            except OSError:
                return

    def settings(self) -> list[Any]:
        return termios.tcgetattr(self._slave)

    def release(self) -> None:
        """Hold the program's side no more: its end is seen, as a real terminal's is."""
        os.close(self._slave)
        self._slave = -1

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, keys: str | bytes) -> None:
        os.write(self.master, keys.encode() if isinstance(keys, str) else keys)

    def sees(self, what: bytes, since: int = 0) -> int:
        """Wait until it was written; where what follows begins."""
        until(lambda: what in self.said[since:] or self.process.poll() is not None, repr(what))
        at = self.said.find(what, since)
        assert at >= 0, (what, bytes(self.said[-3000:]))
        return at + len(what)

    def stall(self, *, still: bool) -> None:
        """Take nothing, or go on."""
        if still:
            self._reads.clear()
            self.type(" ")  # what is written for it ends the read that is under way
        else:
            self._reads.set()

    def hang_up(self) -> None:
        """The line breaks: nobody holds the other side any more."""
        self.release()
        self._over = True
        self._reads.clear()
        master, self.master = self.master, -1
        os.close(master)

    def end(self) -> int:
        return self.process.wait(PATIENCE_S)

    def clean(self) -> None:
        """For the end of a test, whatever it found."""
        self._over = True
        self._reads.set()
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        for descriptor in (self.master, self._slave):
            if descriptor >= 0:
                os.close(descriptor)


def family(process: subprocess.Popen[Any]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def app(steps: Path, total: int) -> list[object]:
    return [sys.executable, "-m", "tests.pty_app", steps, total]
