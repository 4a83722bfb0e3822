"""The engine beside the screen at its end: what was asked for is not lost, and nothing begins that nobody would end."""

from __future__ import annotations

import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from queue import Queue

import pytest

from engine import paths
from engine.catalog import load_catalog
from engine.errors import RunError
from engine.events import Event
from engine.jobfile import read_job
from engine.runtime.journal import State
from engine.runtime.prepare import Checked, prepare
from tests.runs import job_file
from wan_tui.folding import TransferBegun, TransferOver
from wan_tui.session import Session

TinyModel = Callable[[str], Path]
SOON = 30  # seconds after which a test has failed


@pytest.fixture
def session() -> Iterator[Session]:
    made = Session()
    yield made
    made.stop("user")


def checked(model: Path, folder: Path) -> list[Checked]:
    file = job_file(folder, model, "job.toml")
    return [prepare(read_job(file), file, load_catalog())]


class Submission:
    """Jobs whose check takes until it is told to end, submitted in a thread."""

    def __init__(self, session: Session, jobs: Sequence[Checked]) -> None:
        self._checks, self._go_on = threading.Event(), threading.Event()
        self.ids: list[str] = []
        self.refused = ""

        def check() -> Sequence[Checked]:
            self._checks.set()
            assert self._go_on.wait(SOON)
            return jobs

        def submit() -> None:
            try:
                self.ids = session.submit(check)
            except RunError as error:
                self.refused = error.code

        self._thread = threading.Thread(target=submit, daemon=True)
        self._thread.start()
        assert self._checks.wait(SOON)

    def end(self) -> None:
        self._go_on.set()
        self._thread.join(SOON)
        assert not self._thread.is_alive()


def test_jobs_that_are_being_checked_are_not_lost_with_the_screen(
    session: Session, tiny_model: TinyModel, tmp_path: Path
) -> None:
    submission = Submission(session, checked(tiny_model("t2v"), tmp_path))
    assert session.busy
    finishing = threading.Thread(target=session.finish, daemon=True)
    finishing.start()
    finishing.join(0.2)
    assert finishing.is_alive(), "it waits for them"
    submission.end()
    finishing.join(SOON)
    assert not finishing.is_alive()
    assert session.journal().row(submission.ids[0]).state is State.FINISHED
    assert not session.busy


def test_nothing_begins_after_all_was_stopped(session: Session, tiny_model: TinyModel, tmp_path: Path) -> None:
    """Its worker would keep the process, whose terminal is the shell's again, from ending."""
    submission = Submission(session, checked(tiny_model("t2v"), tmp_path))
    session.stop("user")
    submission.end()
    assert submission.refused == "stopped"
    assert session.journal().rows() == []
    assert not session.transfer("late", lambda control: None, lambda state: None)
    assert not [thread for thread in threading.enumerate() if thread.name in ("worker", "transfer late")]


def test_a_stop_ends_the_wait_for_jobs_that_are_being_checked(
    session: Session, tiny_model: TinyModel, tmp_path: Path
) -> None:
    submission = Submission(session, checked(tiny_model("t2v"), tmp_path))
    finishing = threading.Thread(target=session.finish, daemon=True)
    finishing.start()
    session.stop("terminated")
    finishing.join(SOON)
    assert not finishing.is_alive()
    submission.end()
    assert submission.refused == "stopped"


def test_a_stop_reaches_a_transfer_and_waits_for_it(session: Session) -> None:
    ends: Queue[str] = Queue()
    assert session.transfer("model", lambda control: control.wait(SOON), ends.put, "download")
    assert session.transfers == ("model",)
    session.stop("terminated")
    assert session.transfers == ()
    assert ends.get(timeout=SOON) == "stopped"


@pytest.fixture
def hasty() -> Iterator[None]:
    """Threads that take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_whoever_hears_of_the_end_of_a_transfer_can_begin_it_anew(session: Session, hasty: None) -> None:
    """As a place does that is told: it offers the key as soon as it hears."""
    again: dict[str, bool] = {}
    heard: dict[str, list[str]] = {}

    def begin(id: str) -> bool:
        return session.transfer(id, lambda control: None, lambda state: None, "verify")

    def hear(event: Event) -> None:
        heard.setdefault(event.job, []).append(type(event).__name__)
        if isinstance(event, TransferOver) and event.job not in again:
            again[event.job] = begin(event.job)

    mailbox = session.bus.subscribe(hear)
    models = [f"model{number}" for number in range(100)]
    assert all(map(begin, models))
    while session.transfers or len(again) < len(models):
        mailbox.drain(SOON)
    mailbox.drain(SOON)
    assert again == dict.fromkeys(models, True)
    assert heard == dict.fromkeys(models, [TransferBegun.__name__, TransferOver.__name__] * 2)


def test_the_screen_does_not_wait_while_the_journal_is_opened(session: Session) -> None:
    """It may lie on a disk behind a network, or be held by another process."""
    with sqlite3.connect(paths.state_dir() / "journal.sqlite3") as other:
        other.execute("BEGIN EXCLUSIVE")
        opening = threading.Thread(target=session.journal, daemon=True)
        opening.start()
        opening.join(0.2)
        screen = threading.Thread(target=lambda: (session.transfers, session.busy), daemon=True)
        screen.start()
        screen.join(5)
        assert not screen.is_alive()
        assert opening.is_alive()
    opening.join(SOON)
    assert not opening.is_alive()
