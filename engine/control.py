"""How a running job is asked to stop: set from any thread, checked by the worker at its cancel points."""

from __future__ import annotations

import threading

from engine.errors import Cancelled


class Control:
    """One job's stop switch."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._reason = "user"

    def cancel(self, reason: str = "user") -> None:
        """Ask the job to stop; the first reason given is the one reported."""
        if not self._asked.is_set():
            self._reason = reason
            self._asked.set()

    @property
    def cancelled(self) -> bool:
        return self._asked.is_set()

    @property
    def reason(self) -> str:
        return self._reason

    def check(self) -> None:
        """Raise `Cancelled` when the job was asked to stop. Costs a fraction of a microsecond."""
        if self._asked.is_set():
            raise Cancelled(self._reason)

    def wait(self, seconds: float) -> None:
        """Sleep, but wake and raise `Cancelled` at once when asked to stop."""
        self._asked.wait(seconds)
        self.check()
