"""Signals for a program with a screen: nothing is lost between its phases, and each phase says what they mean."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType, TracebackType

_OURS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
_OF_THE_SCREEN = (signal.SIGTSTP, signal.SIGCONT, signal.SIGWINCH)  # Textual sets them, and leaves them

Listener = Callable[[int], None]


class Signals:
    """From the moment it is entered. A listener is called in the main thread, also while that waits for a lock: it may
    only set flags, start threads, and call into a loop with `call_soon_threadsafe`."""

    def __init__(self) -> None:
        self._listener: Listener | None = None
        self._unheard: list[int] = []

    def __enter__(self) -> Signals:
        self._before = [(number, signal.signal(number, self._heard)) for number in _OURS]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before:
            signal.signal(number, handler)

    def listen(self, listener: Listener) -> None:
        """From now on this one hears them, first those nobody has heard."""
        self._listener = listener
        while self._unheard:
            listener(self._unheard.pop(0))

    def pause(self) -> None:
        """Until the next listener comes they are kept."""
        self._listener = None

    def without_screen(self) -> None:
        """The handlers of the screen have nothing to act on any more."""
        for number in _OF_THE_SCREEN:
            signal.signal(number, signal.SIG_DFL)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        if self._listener is None:
            self._unheard.append(number)
        else:
            self._listener(number)
