"""Buses that keep what is said, and that stop a run where it has come so far."""

from __future__ import annotations

from engine.control import Control
from engine.events import Bus, Event, Progress


class Ears(Bus):
    """`heard` is all that was said."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[Event] = []

    def publish(self, event: Event) -> None:
        self.heard.append(event)


class Stops(Ears):
    """Cancels the run once so many of its steps are done."""

    def __init__(self, control: Control, after: int) -> None:
        super().__init__()
        self._control, self._after = control, after

    def publish(self, event: Event) -> None:
        super().publish(event)
        if isinstance(event, Progress) and event.done == self._after:
            self._control.cancel()
