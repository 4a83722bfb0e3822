"""A second process that puts the terminal back when this one cannot: after SIGKILL, SIGSEGV, out of memory.

It is forked before Textual is imported, holds the terminal and its settings, and waits on a pipe. What is written there
says whether the screen is taken; the end of the pipe is the end of the app. It is in a session of its own: what the
terminal sends to its foreground processes does not reach it.
"""

from __future__ import annotations

import os
import select
import signal
import termios
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

SCREEN_TAKEN = b"+"
SCREEN_LEFT = b"-"
RESTORE_QUIETLY = b"q"

# Ends a sequence cut in the middle; then, in the order they must go: the keyboard protocol while the other screen is
# still shown, mouse, paste, focus, resize reports, synchronised output, wrapping; the screen; cursor and colours.
RESET = (
    "\x1b\\\x1b[<u"
    "\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?1015l\x1b[?1016l"
    "\x1b[?2004l\x1b[?1004l\x1b[?2048l\x1b[?2026l\x1b[?7h"
    "\x1b[m\x1b[?1049l\x1b[?25h\x1b[m"
)
_PATIENCE_S = 60.0  # with a terminal that takes nothing
_FILES = 65_536
_DEAF_TO = ("SIGINT", "SIGHUP", "SIGTERM", "SIGQUIT", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGPIPE", "SIGUSR1", "SIGUSR2")


class Janitor:
    """The app's end of the pipe."""

    def __init__(self, pid: int, pipe: int) -> None:
        self._pid = pid
        self._pipe: int | None = pipe
        self._said = SCREEN_LEFT

    def note(self, what: bytes) -> None:
        """Tell it of the screen. That it has died is no reason to fail."""
        if self._pipe is not None:
            self._said = what
            with suppress(OSError):
                os.write(self._pipe, what)

    def dismiss(self) -> None:
        """Let it go: it acts on what it was told last. Where that is nothing, wait until it is gone."""
        if self._pipe is None:
            return
        os.close(self._pipe)
        self._pipe = None
        if self._said == SCREEN_LEFT:
            with suppress(ChildProcessError):
                os.waitpid(self._pid, 0)


def start(tty: int, before: list[Any], farewell: Callable[[], str]) -> Janitor:
    """Fork it. `before` are the settings to go back to, `farewell` makes the line it prints."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(reading)
        return Janitor(pid, writing)
    try:
        _alone(reading, tty)
        _wait(reading, tty, before, farewell)
    finally:
        os._exit(0)  # nothing of the app's may run twice, whatever happens here


def _alone(reading: int, tty: int) -> None:
    """Hear no signal, hold no file but the two."""
    for name in _DEAF_TO:
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    os.setsid()
    low, high = sorted((reading, tty))
    for first, beyond in ((0, low), (low + 1, high), (high + 1, _FILES)):
        os.closerange(first, beyond)
    os.chdir("/")


def _wait(reading: int, tty: int, before: list[Any], farewell: Callable[[], str]) -> None:
    last = SCREEN_LEFT
    while said := os.read(reading, 64):
        last = said[-1:]
    if last == SCREEN_LEFT:
        return
    _settings_back(tty, before)
    line = farewell() if last == SCREEN_TAKEN else ""
    _say(tty, (RESET + line).encode("utf-8", "backslashreplace"))
    with suppress(termios.error):
        termios.tcflush(tty, termios.TCIFLUSH)  # reports of a mouse that moved meanwhile


def _settings_back(tty: int, before: list[Any]) -> None:
    """Before anything else, for a shell takes the terminal over in the same moment. Where keys send signals again it
    has been quicker, and has settings of its own."""
    with suppress(termios.error):
        if not termios.tcgetattr(tty)[3] & termios.ISIG:
            termios.tcsetattr(tty, termios.TCSANOW, before)


def _say(tty: int, data: bytes) -> None:
    """Write to a terminal that may take nothing for a while, or be gone."""
    os.set_blocking(tty, False)
    waiting = select.poll()
    waiting.register(tty, select.POLLOUT)
    until = time.monotonic() + _PATIENCE_S
    with suppress(OSError):  # it is gone: nobody is left to be told
        while data and (left := until - time.monotonic()) > 0:
            if waiting.poll(left * 1000):
                with suppress(BlockingIOError):
                    data = data[os.write(tty, data) :]
