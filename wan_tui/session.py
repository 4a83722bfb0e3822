"""The engine beside the screen: one bus, one worker, the transfers under way, and their stop switches.

What touches the disk is called from background threads; what the screen calls (`cancel`, `stop_transfer`, `busy`) never
waits.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from engine.control import Control
from engine.errors import Cancelled, WanError

if TYPE_CHECKING:
    from engine.events import Bus, Failed
    from engine.runtime.journal import JobRow, Journal
    from engine.runtime.prepare import Checked
    from engine.runtime.worker import Worker


class Session:
    """Implements what `terminal.run` asks of an engine: `busy`, `finish`, `stop`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._worker: Worker | None = None
        self._journal: Journal | None = None
        self._transfers: dict[str, tuple[threading.Thread, Control]] = {}

    @cached_property
    def bus(self) -> Bus:
        """First asked for when the first screen is painted, which does without the classes of events."""
        from engine.events import Bus

        return Bus()

    # Jobs: from background threads

    def journal(self) -> Journal:
        """The journal, opened once. Raises RunError."""
        from engine.runtime.journal import Journal

        with self._lock:
            if self._journal is None:
                self._journal = Journal()
            return self._journal

    def recover(self) -> list[JobRow]:
        """Jobs of processes that died since, marked as interrupted."""
        return self.journal().recover()

    def submit(self, jobs: Sequence[Checked]) -> list[str]:
        """Accept checked jobs into the journal and the queue; their ids."""
        worker = self._started()
        return [worker.submit(job) for job in jobs]

    def _started(self) -> Worker:
        from engine.runtime.worker import Worker

        journal = self.journal()
        with self._lock:
            if self._worker is None:
                self._worker = Worker(journal, self.bus)
                self._worker.start()
            return self._worker

    # Jobs: from anywhere

    def cancel(self, job_id: str) -> None:
        """Stop a job of this session, running or queued."""
        if self._worker:
            self._worker.cancel(job_id)

    def move(self, job_id: str, by: int) -> None:
        """Let a waiting job run `by` places later, or earlier."""
        if self._worker:
            self._worker.move(job_id, by)

    @property
    def waiting(self) -> tuple[str, ...]:
        """Ids of the jobs that wait, in the order they will run."""
        return self._worker.waiting if self._worker else ()

    # Transfers

    def transfer(
        self, id: str, work: Callable[[Control], object], over: Callable[[str], object], kind: str | None = None
    ) -> bool:
        """Do work in a thread of its own, under the name `id`; False where something of that name is under way.

        What `kind` names is told on the bus when it begins and ends, before and after all it says itself. A failure is
        said there, too. `over(state)` is called from that thread: done, stopped or failed.
        """
        from wan_tui.folding import TransferBegun, TransferOver

        control = Control()

        def run() -> None:
            state = "done"
            try:
                work(control)
            except Cancelled:
                state = "stopped"
            except Exception as error:  # noqa: BLE001  (named and told)
                from engine.runtime.failure import explain

                state = "failed"
                self.bus.publish(_said(id, explain(error)))
            finally:
                if kind:
                    self.bus.publish(TransferOver(job=id, state=state))
                with self._lock:
                    del self._transfers[id]
            over(state)

        with self._lock:
            if id in self._transfers:
                return False
            thread = threading.Thread(target=run, name=f"transfer {id}")
            self._transfers[id] = (thread, control)
        if kind:
            self.bus.publish(TransferBegun(job=id, what=kind))
        thread.start()
        return True

    def stop_transfer(self, id: str) -> None:
        """Stop it; what has come stays, and the next download goes on from there."""
        with self._lock:
            found = self._transfers.get(id)
        if found:
            found[1].cancel()

    @property
    def transfers(self) -> tuple[str, ...]:
        with self._lock:
            return tuple(self._transfers)

    # The end

    @property
    def busy(self) -> bool:
        """Whether a job runs or waits, or a transfer is under way."""
        return bool(self.transfers) or bool(self._worker and self._worker.busy)

    def finish(self) -> None:
        """Wait until all of it is done: what was asked for is not lost with the screen."""
        if self._worker:
            self._worker.close()
            self._worker.join()
        for thread, _ in list(self._transfers.values()):
            thread.join()

    def stop(self, reason: str) -> None:
        """Stop all of it, and wait until it is over."""
        for _, control in list(self._transfers.values()):
            control.cancel(reason)
        if self._worker:
            self._worker.cancel_all(reason)
        self.finish()


def _said(id: str, error: WanError) -> Failed:
    from engine.events import Failed

    return Failed(
        job=id,
        id=id,
        code=error.code,
        message=error.message,
        cause=error.cause,
        suggestions=error.suggestions,
        actions=error.actions,
    )
