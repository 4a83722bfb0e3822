"""The terminal, opened for the screen alone: file descriptors 1 and 2 are free to lead elsewhere meanwhile."""

from __future__ import annotations

import codecs
import io
import os
import select
import sys
import termios
import time
import unicodedata
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import NoReturn

from engine.errors import JobError
from wan_tui.terminal import janitor
from wan_tui.terminal.means import is_dumb

_SLICE_MS = 100  # how soon a writer that waits for the terminal sees that it need not
_HURRY_S = 0.5  # what a terminal that takes nothing is given to take the last bytes


def find_terminal(environ: Mapping[str, str]) -> int:
    """The descriptor of the terminal: standard error, else standard output. Raises `JobError` where there is none."""
    found = next((number for number in (2, 1) if os.isatty(number)), None)
    if found is not None and not is_dumb(environ):
        return found
    dumb = f"This one cannot place the cursor (TERM={environ.get('TERM')})."
    raise JobError(
        "no-terminal",
        "The app needs a terminal.",
        cause=dumb if found is not None else "Neither standard output nor standard error is one.",
        suggestions=["Run jobs without one: wan-tui --run job.toml", "See every command: wan-tui --help"],
    )


class Tty(io.TextIOBase):
    """The terminal as a file the screen is written to. It never raises: one that has gone takes everything.

    It is opened anew, so that waiting for it without blocking is not forced on the shell, which shares its own. While
    it is open `sys.__stdin__`, `__stdout__` and `__stderr__` are this terminal: that is where Textual looks for it.
    """

    encoding = "utf-8"

    def __init__(self, shared: int, encoding: str, farewell: Callable[[], str]) -> None:
        super().__init__()
        self.encoding = encoding
        self.shared = os.dup(shared)  # for other programs: it blocks as they expect
        self._fd = _opened(shared)
        self._janitor = janitor.start(self._fd, termios.tcgetattr(self._fd), farewell)
        self._lost: Callable[[], None] = lambda: None
        self._waiting: list[str] = []
        self._until: float | None = None
        self.gone = False
        self.missed = False
        self._taken = False

    def __enter__(self) -> Tty:
        self._standard = (sys.__stdin__, sys.__stdout__, sys.__stderr__)
        self._input = open(self._fd, closefd=False)
        sys.__stdin__, sys.__stdout__, sys.__stderr__ = self._input, self, self  # type: ignore[misc, assignment]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        sys.__stdin__, sys.__stdout__, sys.__stderr__ = self._standard  # type: ignore[misc]
        self._input.close()
        self.over()
        os.close(self._fd)
        os.close(self.shared)

    def fileno(self) -> int:
        return self._fd

    def isatty(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if not self.gone:
            self._waiting.append(text)
        return len(text)

    def flush(self) -> None:
        text, self._waiting = "".join(self._waiting), []
        self._send(text.encode(self.encoding, "as-wide"))

    def _send(self, data: bytes) -> None:
        waiting = select.poll()
        waiting.register(self._fd, select.POLLOUT)
        while data and not self.gone:
            try:
                if waiting.poll(_SLICE_MS):
                    data = data[os.write(self._fd, data) :]
                elif self._until is not None and time.monotonic() > self._until:
                    self.missed = True
                    return
            except BlockingIOError:
                continue
            except OSError:
                self.lose()

    def on_lost(self, call: Callable[[], None]) -> None:
        """What is called once the terminal has gone, from any thread."""
        self._lost = call
        if self.gone:
            call()

    def lose(self) -> None:
        """The terminal has gone."""
        if not self.gone:
            self.gone = True
            self._lost()

    def hurry(self) -> None:
        """Wait for the terminal no longer than a moment from now on. Safe in a signal handler."""
        self._until = time.monotonic() + _HURRY_S

    def take(self) -> None:
        """The screen is about to be taken."""
        self._taken = True
        self._janitor.note(janitor.SCREEN_TAKEN)

    def leave(self) -> None:
        """The screen has been left; where the terminal did not take the words for that, they are said again."""
        self._taken = False
        self._janitor.note(janitor.RESTORE_QUIETLY if self.missed and not self.gone else janitor.SCREEN_LEFT)

    def say(self, line: str) -> None:
        """Say something when the screen has been left."""
        if self.gone or self.missed:
            return
        with suppress(OSError):  # nobody is there any more
            os.write(self.shared, f"{line}\n".encode(self.encoding, "replace"))

    def over(self) -> None:
        """The screen will not be taken again."""
        self._janitor.dismiss()

    def end(self, status: int) -> NoReturn:
        """End the process at once, the terminal put back."""
        if self._taken:
            self._janitor.note(janitor.RESTORE_QUIETLY)
        os._exit(status)


def _as_wide(error: UnicodeError) -> tuple[str, int]:
    """What the terminal's encoding lacks, as question marks that take the same number of cells."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    return "".join("?" * _cells(char) for char in missing), error.end


def _cells(char: str) -> int:
    return 0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1


codecs.register_error("as-wide", _as_wide)


def _opened(shared: int) -> int:
    """The same terminal by its name. Without a name here, or a right to it (`su`), a copy of the descriptor will do."""
    flags = os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        return os.open(os.ttyname(shared), flags)
    except OSError:
        try:
            return os.open("/dev/tty", flags)
        except OSError:
            return os.dup(shared)
