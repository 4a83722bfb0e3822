"""Threads that work through a list of tasks, and stop together: at the first failure, or when asked to."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable

from engine.control import Control

_LOOK_S = 0.1
_LEAVE_S = 1.0  # how long a stopped thread is waited for; one that hangs in the kernel ends by itself, changing nothing
_SAY_S = 0.4

Task = Callable[[Control], None]


def work(
    tasks: Iterable[Task],
    threads: int,
    control: Control,
    *,
    say: Callable[[], None] = lambda: None,
    stop: Callable[[], None] = lambda: None,
) -> None:
    """Run every task, `threads` at a time, and call `say` now and then from the calling thread.

    The tasks check a switch of their own, set when one of them fails or `control` is. `stop` is called then, to wake
    what waits. Raises the first failure, or `Cancelled`.
    """
    waiting = deque(tasks)
    inner = Control()
    changed = threading.Condition()
    failures: list[BaseException] = []
    working = min(threads, len(waiting))

    def run() -> None:
        while not inner.cancelled:
            with changed:
                if not waiting:
                    return
                task = waiting.popleft()
            try:
                task(inner)
            except BaseException as error:  # noqa: BLE001  (raised again by the calling thread)
                with changed:
                    failures.append(error)
                    changed.notify_all()
                return

    def leave() -> None:
        nonlocal working
        run()
        with changed:
            working -= 1
            changed.notify_all()

    crew = [threading.Thread(target=leave, name="library", daemon=True) for _ in range(working)]
    for thread in crew:
        thread.start()
    said = time.monotonic()
    try:
        while working and not failures:
            with changed:
                if working and not failures:
                    changed.wait(_LOOK_S)
            control.check()
            if time.monotonic() - said >= _SAY_S:
                said = time.monotonic()
                say()
    except BaseException as error:  # noqa: BLE001  (raised again below, when nothing is left running)
        failures.insert(0, error)
    if failures:
        inner.cancel(control.reason)
        stop()
        until = time.monotonic() + _LEAVE_S
        for thread in crew:
            thread.join(max(0.0, until - time.monotonic()))
    say()
    if failures:
        raise failures[0]
