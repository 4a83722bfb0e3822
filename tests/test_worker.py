"""The worker's queue, with real jobs: their order changed, those that wait cancelled, the last word about each said."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.catalog import load_catalog
from engine.errors import Exit
from engine.events import Bus, Event, JobCancelled, JobFinished, JobQueued, JobStarted
from engine.jobfile import read_job
from engine.runtime.journal import Journal, State
from engine.runtime.prepare import Checked, prepare
from engine.runtime.worker import Worker
from tests.runs import job_file

TinyModel = Callable[[str], Path]
LONG = {"steps": 900, "frames": 49}  # it runs until it is cancelled
OVER = (JobFinished, JobCancelled)


class Desk:
    """A worker with its journal, and all it said."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.journal, self.bus = folder, Journal(), Bus()
        self.said: list[Event] = []
        self.heard = self.bus.subscribe(self.said.append)
        self.worker = Worker(self.journal, self.bus)

    def checked(self, model: Path, seed: int, **values: object) -> Checked:
        file = job_file(self.folder, model, f"{seed}.toml", seed=seed, **values)
        return prepare(read_job(file), file, load_catalog())

    def submit(self, model: Path, seed: int, **values: object) -> str:
        return self.worker.submit(self.checked(model, seed, **values))

    def until(self, there: Callable[[], object]) -> None:
        end = time.monotonic() + 60
        while not there():
            assert time.monotonic() < end, self.said[-5:]
            time.sleep(0.005)

    def of(self, *kinds: type[Event]) -> list[str]:
        """The jobs that events of these kinds were about, in order."""
        self.heard.drain(10)
        return [event.job for event in self.said if isinstance(event, kinds)]

    def close(self) -> None:
        self.worker.close()
        assert self.worker.join(60)
        self.heard.drain(10)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.worker.cancel_all()
    made.worker.close()
    if made.worker._thread.ident:
        assert made.worker.join(60)


def test_jobs_run_in_the_order_they_were_moved_to(desk: Desk, tiny_model: TinyModel) -> None:
    model = tiny_model("t2v")
    a, b, c = (desk.submit(model, seed) for seed in (1, 2, 3))
    assert desk.worker.waiting == (a, b, c)
    assert desk.worker.busy
    assert desk.worker.move(c, -1)
    assert desk.worker.waiting == (a, c, b)
    assert desk.worker.move(a, 99)
    assert desk.worker.waiting == (c, b, a)
    assert desk.worker.move(a, -99)
    assert desk.worker.waiting == (a, c, b)
    assert not desk.worker.move("unknown", 1)
    desk.worker.start()
    desk.close()
    assert desk.of(JobStarted) == desk.of(JobFinished) == [a, c, b]
    assert not desk.worker.busy
    assert desk.worker.waiting == ()
    assert not desk.worker.move(a, 1), "it is over"


def test_a_waiting_job_that_is_cancelled_is_over_before_its_turn(desk: Desk, tiny_model: TinyModel) -> None:
    model = tiny_model("t2v")
    desk.worker.start()
    first = desk.submit(model, 1, **LONG)
    second, third = desk.submit(model, 2), desk.submit(model, 3)
    desk.until(lambda: desk.of(JobStarted) == [first])
    desk.worker.cancel(second)
    desk.until(lambda: second in desk.of(JobCancelled))
    assert desk.worker.waiting == (third,)
    assert desk.journal.row(second).state is State.CANCELLED
    assert desk.journal.row(first).state is State.RUNNING
    desk.worker.cancel(first)
    desk.close()
    assert desk.worker.ends == {first: Exit.CANCELLED, second: Exit.CANCELLED, third: Exit.DONE}
    assert second not in desk.of(JobStarted)
    assert desk.of(*OVER) == [second, first, third]


def test_a_cancel_that_another_process_asks_for_reaches_a_waiting_job(desk: Desk, tiny_model: TinyModel) -> None:
    desk.worker.start()
    first, second = desk.submit(tiny_model("t2v"), 1, **LONG), desk.submit(tiny_model("t2v"), 2)
    assert "was asked to stop" in Journal().request_cancel(second, "somebody")
    desk.until(lambda: desk.worker.waiting == ())
    desk.worker.cancel(first)
    desk.close()
    assert [event.reason for event in desk.said if isinstance(event, JobCancelled)] == ["somebody", "user"]


def test_whoever_hears_of_a_job_can_cancel_it(desk: Desk, tiny_model: TinyModel) -> None:
    """The event comes on another thread, while `submit` is still at work."""

    class AtOnce(Bus):
        def publish(self, event: Event) -> None:
            if isinstance(event, JobQueued):
                desk.worker.cancel(event.job)
            desk.bus.publish(event)

    desk.worker = Worker(desk.journal, AtOnce())
    job = desk.submit(tiny_model("t2v"), 1)
    desk.worker.start()
    desk.close()
    assert desk.worker.ends == {job: Exit.CANCELLED}
    assert desk.journal.row(job).state is State.CANCELLED


def test_code_that_would_end_the_program_ends_its_job_alone(desk: Desk, tiny_model: TinyModel) -> None:
    """A model that is trusted brings code of its own."""

    class Leaves(Bus):
        def publish(self, event: Event) -> None:
            desk.bus.publish(event)
            if isinstance(event, JobStarted) and event.job == first:
                raise SystemExit(3)

    desk.worker = Worker(desk.journal, Leaves())
    first, second = desk.submit(tiny_model("t2v"), 1), desk.submit(tiny_model("t2v"), 2)
    desk.worker.start()
    desk.close()
    assert desk.worker.ends == {first: Exit.FAILED, second: Exit.DONE}
    assert desk.journal.row(first).state is State.FAILED


def test_the_last_word_about_every_job_is_said_before_the_worker_ends(desk: Desk, tiny_model: TinyModel) -> None:
    """Many that wait are let go by one thread while the other ends: `join` waits for both."""
    model = tiny_model("t2v")
    asked = desk.checked(model, 1)
    ids = [desk.worker.submit(asked) for _ in range(150)]
    desk.worker.start()
    desk.worker.cancel_all("terminated")
    desk.close()
    assert desk.worker.ends == dict.fromkeys(ids, Exit.TERMINATED)
    assert {row.state for row in desk.journal.rows()} == {State.CANCELLED}
    assert sorted(desk.of(JobCancelled)) == ids
