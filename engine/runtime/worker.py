"""The worker: one thread that takes accepted jobs in order and walks each along its way."""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from engine.control import Control
from engine.errors import Cancelled, Exit, WanError
from engine.events import Bus, JobCancelled, JobFailed, JobFinished, JobQueued, Notice
from engine.runtime.failure import explain
from engine.runtime.journal import Journal
from engine.runtime.prepare import Checked
from engine.runtime.way import Traveller, travel

log = logging.getLogger("wan_tui")
_POLL_S = 0.5  # how soon a cancel asked by another process is seen


class Worker:
    """Runs jobs one after another in a thread of its own; `ends` holds the exit status of each that is over."""

    def __init__(self, journal: Journal, bus: Bus) -> None:
        self._journal = journal
        self._bus = bus
        self._waiting: deque[tuple[str, Checked]] = deque()
        self._controls: dict[str, Control] = {}
        self._changed = threading.Condition()
        self._closed = False
        self._at_work: str | None = None
        self._stop_asked = threading.Event()  # a job was asked to stop; it may be one that waits
        self._letting_go = threading.Lock()  # held until jobs that were dropped are recorded as cancelled
        self.ends: dict[str, Exit] = {}
        self._thread = threading.Thread(target=self._work, name="worker")
        self._watcher = threading.Thread(target=self._watch, name="cancel-requests", daemon=True)

    def start(self, nice: int = 0) -> None:
        """`nice` is by how much the jobs stand back on the processor behind a screen of the same program."""
        self._nice = nice
        self._thread.start()
        self._watcher.start()

    def submit(self, asked: Checked) -> str:
        """Accept a checked job into the journal and the queue; its id."""
        job = asked.job
        job_id = self._journal.accept(
            model=job.model,
            task=job.task,
            prompt=job.prompt,
            job_toml=job.toml(),
            file=asked.file,
            device=None,
        )
        with self._changed:
            self._controls[job_id] = Control()  # whoever hears of the job can cancel it
            self._bus.publish(JobQueued(job=job_id, file=str(asked.file), model=job.model, seed=job.seed or 0))
            self._waiting.append((job_id, asked))
            self._changed.notify()
        return job_id

    def cancel(self, job_id: str, reason: str = "user") -> None:
        """Stop a job of this worker, running or queued. Never waits."""
        control = self._controls.get(job_id)
        if control and not control.cancelled:
            control.cancel(reason)
            self._stop_asked.set()

    def cancel_all(self, reason: str = "user") -> None:
        for control in list(self._controls.values()):
            control.cancel(reason)
        self._stop_asked.set()

    def move(self, job_id: str, by: int) -> bool:
        """Let a waiting job run `by` places later, earlier where negative; False where it does not wait (any more)."""
        with self._changed:
            found = next((entry for entry in self._waiting if entry[0] == job_id), None)
            if found is None:
                return False
            place = self._waiting.index(found)
            self._waiting.remove(found)
            self._waiting.insert(max(0, place + by), found)
            return True

    @property
    def waiting(self) -> tuple[str, ...]:
        """The jobs that wait, in the order they will run."""
        with self._changed:
            return tuple(job_id for job_id, _ in self._waiting)

    @property
    def busy(self) -> bool:
        """Whether a job runs or waits."""
        with self._changed:
            return bool(self._waiting) or self._at_work is not None

    def close(self) -> None:
        """No more jobs will come: the thread ends after the last one."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the last job; True when it is over."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _work(self) -> None:
        if self._nice:  # on Linux of this thread alone, and of those that it starts
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.nice(0) + self._nice)
        while following := self._next():
            job_id, asked = following
            self.ends[job_id] = self._run(job_id, asked)
            with self._changed:
                self._at_work = None
                del self._controls[job_id]
        with self._letting_go:  # the last word about every job is said before this thread ends
            return

    def _next(self) -> tuple[str, Checked] | None:
        """The job whose turn it is, waited for; None when no more will come."""
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            if not self._waiting:
                return None
            following = self._waiting.popleft()
            self._at_work = following[0]
            return following

    def _run(self, job_id: str, asked: Checked) -> Exit:
        control = self._controls[job_id]
        recorded: dict[str, Any] = {}

        def note(**columns: Any) -> None:
            if "recorded" in columns:  # what is noted in parts is kept together
                recorded.update(columns["recorded"])
                columns["recorded"] = recorded
            self._record(job_id, lambda: self._journal.note(job_id, **columns))

        try:
            control.check()
            self._record(job_id, lambda: self._journal.start(job_id))
            done = travel(Traveller(asked, job_id, control, self._bus, note))
        except Cancelled as cancelled:
            return self._cancelled(job_id, cancelled.reason)
        except (Exception, SystemExit) as error:  # noqa: BLE001  (named, recorded and told: nothing goes on silently)
            return self._failed(job_id, explain(error))
        self._finished(job_id, done, recorded)
        return Exit.DONE

    def _finished(self, job_id: str, done: JobFinished, noted: dict[str, Any]) -> None:
        figures = {"peak_vram_bytes": done.peak_vram_bytes, "peak_rss_bytes": done.peak_rss_bytes}
        of_it = {"output_sha256": done.output_sha256, "seed": done.seed, "frames": done.frames}
        recorded = {**noted, **figures, **of_it}
        output, seconds = done.output or "", done.seconds or 0.0
        self._record(job_id, lambda: self._journal.finish(job_id, output=output, seconds=seconds, recorded=recorded))
        self._bus.publish(done)

    def _cancelled(self, job_id: str, reason: str) -> Exit:
        self._record(job_id, lambda: self._journal.cancelled(job_id, reason))
        self._bus.publish(JobCancelled(job=job_id, reason=reason))
        return Exit.TERMINATED if reason == "terminated" else Exit.CANCELLED

    def _failed(self, job_id: str, error: WanError) -> Exit:
        self._record(job_id, lambda: self._journal.fail(job_id, error.as_dict()))
        self._bus.publish(failed(job_id, error))
        return error.status

    def _record(self, job_id: str, write: Callable[[], Any]) -> None:
        """A journal that cannot be written costs its entry, not the video."""
        try:
            write()
        except Exception as error:
            log.exception("journal")
            code = error.code if isinstance(error, WanError) else "journal-unavailable"
            self._bus.publish(Notice(job=job_id, code=code, message=f"The journal could not be written: {error}"))

    def _watch(self) -> None:
        """Pass on the cancels that other processes ask for, and let go of cancelled jobs before their turn."""
        while self._thread.is_alive():
            self._stop_asked.wait(_POLL_S)
            self._stop_asked.clear()
            self._drop_cancelled()
            try:
                requests = self._journal.cancel_requests()
            except Exception:
                log.exception("journal")
                continue
            for job_id, reason in requests.items():
                self.cancel(job_id, reason)

    def _drop_cancelled(self) -> None:
        with self._letting_go:
            with self._changed:
                gone = [entry for entry in self._waiting if self._controls[entry[0]].cancelled]
                for entry in gone:
                    self._waiting.remove(entry)
                reasons = {job_id: self._controls.pop(job_id).reason for job_id, _ in gone}
            for job_id, reason in reasons.items():
                self.ends[job_id] = self._cancelled(job_id, reason)


def failed(job: str, error: WanError) -> JobFailed:
    """The last event of a job that failed."""
    return JobFailed(
        job=job,
        code=error.code,
        message=error.message,
        cause=error.cause,
        suggestions=error.suggestions,
        actions=error.actions,
    )
