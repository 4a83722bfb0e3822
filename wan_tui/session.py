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
from engine.errors import Cancelled, RunError

if TYPE_CHECKING:
    from engine.events import Bus
    from engine.runtime.journal import JobRow, Journal
    from engine.runtime.prepare import Checked
    from engine.runtime.worker import Worker

_BEHIND_THE_SCREEN = 5  # niceness: where both want a processor, keys are answered first (p99 44 instead of 54 ms)


class Session:
    """Implements what `terminal.run` asks of an engine: `busy`, `finish`, `stop`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # of the transfers; the screen takes it, too: nothing waits while it is held
        self._opening = threading.Lock()
        self._accepting = threading.Lock()  # held while jobs go into the journal
        self._changed = threading.Condition()
        self._submitting = 0  # threads that check jobs, or hand them to the worker
        self._over = False  # nothing new is begun
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

        with self._opening:
            if self._journal is None:
                self._journal = Journal()
            return self._journal

    def recover(self) -> list[JobRow]:
        """Jobs of processes that died since, marked as interrupted."""
        return self.journal().recover()

    def submit(self, jobs: Callable[[], Sequence[Checked]]) -> list[str]:
        """Accept the checked jobs that `jobs` makes into the journal and the queue; their ids.

        From here on they are work under way: `finish` waits for them. Raises what `jobs` raises, and RunError
        `stopped` where all was stopped meanwhile.
        """
        with self._changed:
            self._submitting += 1
        try:
            checked = jobs()
            with self._accepting:
                if self._over:
                    raise RunError("stopped", "The program is being ended: nothing was queued.")
                worker = self._started()
                return [worker.submit(job) for job in checked]
        finally:
            with self._changed:
                self._submitting -= 1
                self._changed.notify_all()

    def _started(self) -> Worker:
        from engine.runtime.worker import Worker

        if self._worker is None:
            worker = Worker(self.journal(), self.bus)
            worker.start(_BEHIND_THE_SCREEN)
            self._worker = worker
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
        """Do work in a thread of its own, under the name `id`; False where something of that name is under way, or all
        is being brought to its end.

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
                from engine.events import Failed
                from engine.runtime.failure import explain

                state = "failed"
                self.bus.publish(Failed.of(id, explain(error)))
            finally:
                with self._lock:  # whoever hears of the end finds it over, and may begin it anew
                    del self._transfers[id]
                    if kind:
                        self.bus.publish(TransferOver(job=id, state=state))
            over(state)

        with self._lock:
            if self._over or id in self._transfers:
                return False
            thread = threading.Thread(target=run, name=f"transfer {id}")
            if kind:
                self.bus.publish(TransferBegun(job=id, what=kind))
            thread.start()
            self._transfers[id] = (thread, control)
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
        """Whether a job is submitted, waits or runs, or a transfer is under way."""
        return bool(self._submitting or self.transfers or (self._worker and self._worker.busy))

    def finish(self) -> None:
        """Wait until all of it is done: what was asked for is not lost with the screen."""
        with self._changed:
            self._changed.wait_for(lambda: self._over or not self._submitting)
        self._begin_no_more()
        if self._worker:
            self._worker.close()
            self._worker.join()
        for thread, _ in self._under_way():
            thread.join()

    def stop(self, reason: str) -> None:
        """Stop all of it, and wait until it is over."""
        self._begin_no_more()
        for _, control in self._under_way():
            control.cancel(reason)
        if self._worker:
            self._worker.cancel_all(reason)
        self.finish()

    def _begin_no_more(self) -> None:
        """A worker that began after this would be closed by nobody, and keep the process from ending."""
        with self._accepting, self._lock, self._changed:
            self._over = True
            self._changed.notify_all()

    def _under_way(self) -> list[tuple[threading.Thread, Control]]:
        with self._lock:
            return list(self._transfers.values())
