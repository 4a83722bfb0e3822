"""What the engine is doing now, as the screens show it: folded from its events, read by whichever place is shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.events import Event
    from wan_tui.now import JobNow, TransferNow


class Live:
    """`jobs` and `transfers` by id, in the order they came."""

    def __init__(self) -> None:
        self.jobs: dict[str, JobNow] = {}
        self.transfers: dict[str, TransferNow] = {}

    @property
    def running(self) -> JobNow | None:
        return next((job for job in self.jobs.values() if job.state == "running"), None)

    def at_work(self, waiting: Sequence[str]) -> JobNow | None:
        """The job that runs, or is about to: it starts, or another process holds its device. `waiting` is the queue."""
        asked = (job for job in self.jobs.values() if job.state == "queued" and job.id not in waiting)
        return self.running or next(asked, None)

    def fold(self, event: Event) -> None:
        """Take an event in."""
        from wan_tui.folding import fold  # with the classes of all events; the first screen does without

        fold(self, event)
