"""Events on their way to the screen: taken from the engine without waiting, handed over in batches.

A terminal that takes nothing (a stalled line) stops the screen, never the engine: what waits here is coalesced, so that
it holds at most the latest progress of each thing beside what changed a state.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from engine.events import Event, LibraryProgress, Progress


class Inbox:
    """`wake` is called, from any thread and without waiting, when the first event after a `take` has come."""

    def __init__(self, wake: Callable[[], object]) -> None:
        self._wake = wake
        self._lock = threading.Lock()
        self._events: dict[object, Event] = {}
        self._asleep = True

    def __call__(self, event: Event) -> None:
        with self._lock:
            key: object = _subject(event) if isinstance(event, Progress | LibraryProgress) else id(event)
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


def _subject(event: Progress | LibraryProgress) -> tuple[str, str, str]:
    return event.kind, event.job, event.stage if isinstance(event, Progress) else event.file
