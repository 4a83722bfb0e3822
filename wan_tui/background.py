"""Work that would hold up the screen: done in a thread of its own, its answer brought back to the screen's."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from engine.errors import WanError

if TYPE_CHECKING:
    from textual.message_pump import MessagePump

T = TypeVar("T")


def in_background(
    pump: MessagePump,
    work: Callable[[], T],
    then: Callable[[T], object],
    failed: Callable[[WanError], object],
) -> threading.Thread:
    """Call `work` in a daemon thread; then `then(answer)` or `failed(error)` on the screen's thread.

    A widget that has gone meanwhile hears nothing. The thread never waits for the screen.
    """

    def run() -> None:
        try:
            answer = work()
        except Exception as error:  # noqa: BLE001  (named and told)
            from engine.runtime.failure import explain  # a part of the engine that most work does not need

            _hand_over(pump, failed, explain(error))
        else:
            _hand_over(pump, then, answer)

    thread = threading.Thread(target=run, name="background", daemon=True)
    thread.start()
    return thread


def _hand_over(pump: MessagePump, receiver: Callable[[T], object], what: T) -> None:
    from textual._context import NoActiveAppError

    with suppress(NoActiveAppError):  # the app has ended meanwhile
        pump.call_later(_receive, pump, receiver, what)


def _receive(pump: MessagePump, receiver: Callable[[T], object], what: T) -> object:
    """On the screen's thread. On its way out the app takes its widgets away one by one: nobody is told then."""
    return receiver(what) if pump.app.is_running else None
