"""The sampler beside the screen: begun once the first screen is painted, awake only while somebody looks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from textual.message_pump import MessagePump

    from engine.sampling.sampler import Sampler


class Watch:
    """Nothing here waits. Whoever looks is told at most once of however many samples came meanwhile, and reads the
    latest from `sampler`, which is None until it has begun."""

    def __init__(self, pump: MessagePump) -> None:
        self._pump = pump
        self._tell: Callable[[], object] | None = None
        self._told = True
        self._over = False
        self._lock = threading.Lock()
        self.sampler: Sampler | None = None

    def start(self) -> None:
        """Begin, in a thread: what samples has yet to be imported."""
        threading.Thread(target=self._begin, name="watch", daemon=True).start()

    def look(self, tell: Callable[[], object]) -> None:
        """Have `tell` called on the screen's thread when there is a new sample, the first at once."""
        with self._lock:
            self._tell = tell
            if self.sampler:
                self.sampler.resume()

    def look_away(self) -> None:
        with self._lock:
            self._tell = None
            if self.sampler:
                self.sampler.pause()

    def stop(self) -> None:
        with self._lock:
            self._over = True
            if self.sampler:
                self.sampler.stop()

    def _begin(self) -> None:
        from engine.sampling.sampler import Sampler

        with self._lock:
            if self._over:
                return
            self.sampler = Sampler(lambda _: self._came(), paused=self._tell is None)
            self.sampler.start()

    def _came(self) -> None:
        """In the sampler's thread."""
        if self._told:
            self._told = False
            self._pump.call_later(self._hand_on)

    def _hand_on(self) -> None:
        self._told = True
        if self._tell:
            self._tell()
