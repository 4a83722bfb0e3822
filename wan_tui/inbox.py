"""Events on their way to the screen: taken from the engine without waiting, handed over in batches.

A terminal that takes nothing (a stalled line) stops the screen, never the engine: what waits here is coalesced, so that
it holds at most the latest progress of each thing beside what changed a state.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.events import Event


class Inbox:
    """`wake` is called, from any thread and without waiting, when the first event after a `take` has come."""

    def __init__(self, wake: Callable[[], object]) -> None:
        self._wake = wake
        self._lock = threading.Lock()
        self._events: dict[object, Event] = {}
        self._asleep = True

    def __call__(self, event: Event) -> None:
        with self._lock:
            key = _subject(event)
            self._events.pop(key, None)  # the newest progress goes to the end
            self._events[key] = event
            first, self._asleep = self._asleep, False
        if first:
            self._wake()

    def take(self) -> list[Event]:
        """What came since the last time, in order."""
        with self._lock:
            events = list(self._events.values())
            self._events.clear()
            self._asleep = True
        return events


def _subject(event: Event) -> object:
    """What newer progress of the same thing replaces; a change of state is like no other."""
    from engine.events import LibraryProgress, Progress  # the first screen does without the classes of events

    match event:
        case Progress():
            return event.kind, event.job, event.stage
        case LibraryProgress():
            return event.kind, event.job, event.file
    return id(event)
