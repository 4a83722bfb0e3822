"""How far the work on many files is: told by many threads, said a few times a second."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping

from engine.events import Bus, LibraryProgress, Notice

_WINDOW_S = 5.0  # what a rate is taken over: steady enough to read, short enough to show a link that slows down


class Tally:
    """Counts the bytes of `files` (path to size) of the model `id`, and says on the bus what changed."""

    def __init__(self, bus: Bus, id: str, kind: type[LibraryProgress], files: Mapping[str, int]) -> None:
        self._bus, self._id, self._kind = bus, id, kind
        self._total = dict(files)
        self._done = dict.fromkeys(files, 0)
        self._worked = dict.fromkeys(files, 0)  # what was done now, not carried over: rates count this
        self._samples: deque[tuple[float, int, dict[str, int]]] = deque()
        self._changed: set[str] = set()
        self._lock = threading.Lock()

    def reach(self, file: str, done: int) -> None:
        """`done` bytes of a file are there; those beyond the last call are work of now."""
        with self._lock:
            self._worked[file] += max(0, done - self._done[file])
            self._done[file] = done
            self._changed.add(file)

    def carry(self, file: str, done: int) -> None:
        """`done` bytes of a file are there from before."""
        with self._lock:
            self._done[file] = done
            self._changed.add(file)

    def add(self, file: str, count: int) -> None:
        self.reach(file, self._done[file] + count)

    def say(self) -> None:
        """An event for each file that changed since the last call."""
        with self._lock:
            now = time.monotonic()
            self._samples.append((now, sum(self._worked.values()), dict(self._worked)))
            while now - self._samples[0][0] > _WINDOW_S and len(self._samples) > 2:
                self._samples.popleft()
            since, worked, each = self._samples[0]
            span = now - since
            done, total = sum(self._done.values()), sum(self._total.values())
            rate = (sum(self._worked.values()) - worked) / span if span > 0 else None
            events = [
                self._kind(
                    job=self._id,
                    id=self._id,
                    file=file,
                    done=self._done[file],
                    total=self._total[file],
                    rate=round((self._worked[file] - each[file]) / span) if span > 0 else None,
                    all_done=done,
                    all_total=total,
                    all_rate=None if rate is None else round(rate),
                    eta_s=round((total - done) / rate, 1) if rate else None,
                )
                for file in sorted(self._changed)
            ]
            self._changed.clear()
        for event in events:
            self._bus.publish(event)

    def warn(self, code: str, message: str) -> None:
        self._bus.publish(Notice(job=self._id, code=code, message=message))
