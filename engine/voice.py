"""One job's voice on the bus: its stages, its progress and how fast it goes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from engine.events import Bus, Event, Notice, Progress, Stage

E = TypeVar("E", bound=Event)
_RECENT = 8  # units whose pace counts: enough to be steady, few enough to follow a change of expert


class Voice:
    """Says what happens to one job. `figures` gives (VRAM bytes, RSS bytes), None where unknown.

    `seconds` holds the wall time of every stage that has ended, `loading` what of a stage's time went into loading.
    """

    def __init__(self, bus: Bus, job: str, figures: Callable[[], tuple[int | None, int | None]]) -> None:
        self._bus = bus
        self.job = job
        self._figures = figures
        self._open: tuple[str, float] | None = None
        self._loading = 0.0
        self._paces: deque[float] = deque(maxlen=_RECENT)
        self._last_tick, self._done = 0.0, 0
        self._notices: list[str] = []
        self.seconds: dict[str, float] = {}
        self.loading: dict[str, float] = {}

    def say(self, kind: type[E], **values: Any) -> None:
        self._bus.publish(kind(job=self.job, **values))

    def warn(self, code: str, message: str) -> None:
        self._notices.append(f"{code}: {message}")
        self.say(Notice, code=code, message=message)

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(self._notices)

    def enter(self, stage: str) -> None:
        """The job is now in `stage`: the one before ends. Entering the current stage again says nothing."""
        if self._open and self._open[0] == stage:
            return
        self.leave()
        self._open = (stage, time.monotonic())
        self._paces.clear()
        self._last_tick, self._done = self._clock(), 0
        self.say(Stage, name=stage, state="started")

    def leave(self) -> None:
        """End the current stage, if any."""
        if self._open:
            stage, since = self._open
            self._open = None
            self.seconds[stage] = round(time.monotonic() - since, 3)
            self.say(Stage, name=stage, state="finished", seconds=self.seconds[stage])

    @contextmanager
    def during(self, stage: str, component: str | None = None) -> Iterator[None]:
        """A stage that runs inside or beside the current one: `load` of a component, `write`."""
        since = time.monotonic()
        self.say(Stage, name=stage, state="started", component=component)
        yield
        seconds = time.monotonic() - since
        if stage == "load":
            self._loading += seconds
            within = self._open[0] if self._open else ""
            self.loading[within] = round(self.loading.get(within, 0.0) + seconds, 3)
        self.say(Stage, name=stage, state="finished", component=component, seconds=round(seconds, 3))

    def progress(self, done: int, total: int, window: int | None = None, windows: int | None = None) -> None:
        """`done` of `total` steps or frames of the current stage, in `window` of `windows`; loading is no part of the
        pace."""
        now = self._clock()
        if done > self._done:
            self._paces.append((now - self._last_tick) / (done - self._done))
        self._last_tick, self._done = now, done
        pace = sum(self._paces) / len(self._paces) if self._paces else None
        vram, rss = self._figures()
        self.say(
            Progress,
            stage=self._open[0] if self._open else "",
            done=done,
            total=total,
            seconds_per_unit=None if pace is None else round(pace, 4),
            eta_s=None if pace is None else round(pace * (total - done), 1),
            vram_bytes=vram,
            rss_bytes=rss,
            window=window,
            windows=windows,
        )

    def _clock(self) -> float:
        return time.monotonic() - self._loading
