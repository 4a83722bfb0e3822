"""What is kept of what the engine said, however long the app is open."""

from __future__ import annotations

from engine.events import JobCancelled, JobQueued, Notice
from wan_tui.folding import fold
from wan_tui.live import Live


def queued(number: int) -> JobQueued:
    return JobQueued(job=f"job{number}", file=None, model="demo", seed=0)


def test_of_jobs_that_are_over_the_latest_are_kept() -> None:
    live = Live()
    for number in range(1000):
        fold(live, queued(number))
    for number in range(1, 1000):
        fold(live, JobCancelled(job=f"job{number}", reason="user", time=float(number)))
        fold(live, Notice(job="job1", code="late", message="said after it was forgotten"))
    assert [*live.jobs] == ["job0", *(f"job{number}" for number in range(500, 1000))]
    assert live.jobs["job0"].state == "queued"
