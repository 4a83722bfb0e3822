"""What waits for a cursor to stand still: a list that is run through tells nothing of what is passed over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from textual.message_pump import MessagePump


class Resting:
    """Calls `look` of `pump` once nobody has said `soon` for so many seconds."""

    def __init__(self, pump: MessagePump, seconds: float, look: Callable[[], object]) -> None:
        self._pump, self._seconds, self._look = pump, seconds, look
        self._due: asyncio.TimerHandle | None = None

    def soon(self) -> None:
        self.no_more()  # the loop's own timer: one of Textual's is a task each
        self._due = asyncio.get_running_loop().call_later(self._seconds, self._pump.call_later, self._rests)

    def no_more(self) -> None:
        if self._due:
            self._due.cancel()

    def _rests(self) -> None:
        """On its way out the app takes its widgets away one by one: nobody looks at anything then."""
        if self._pump.app.is_running:
            self._look()
