"""Timers that are late, not lost.

Textual leaves out a timer that is late when it first looks at the clock, as it may be beside an engine that lets no
other thread run for a moment. One that fires once is lost then.
"""

from __future__ import annotations

from textual.message_pump import MessagePump
from textual.timer import Timer, TimerCallback


class Punctual(MessagePump):
    """Its `set_timer` fires, however late."""

    def set_timer(
        self, delay: float, callback: TimerCallback | None = None, *, name: str | None = None, pause: bool = False
    ) -> Timer:
        timer = super().set_timer(delay, callback, name=name, pause=pause)
        timer._skip = False
        return timer
