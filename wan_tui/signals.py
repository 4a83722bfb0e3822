"""How a command without a screen is stopped."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType

from engine.errors import Exit


class Signals:
    """SIGINT and SIGTERM cancel, a second one ends at once; SIGHUP (a lost connection) changes nothing."""

    def __init__(self) -> None:
        self._stop: Callable[[str], None] | None = None
        self._asked: str | None = None
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._heard)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def on_stop(self, stop: Callable[[str], None]) -> None:
        self._stop = stop

    def repeat(self) -> None:
        """Tell once more what was heard meanwhile: work may have begun since."""
        if self._asked and self._stop:
            self._stop(self._asked)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        status = Exit.TERMINATED if number == signal.SIGTERM else Exit.CANCELLED
        if self._asked or not self._stop:
            os._exit(status)
        self._asked = "terminated" if number == signal.SIGTERM else "user"
        self._stop(self._asked)
