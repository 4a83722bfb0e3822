"""The app from its start to the shell's prompt, and the engine beyond it when the terminal has gone."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from engine.errors import Exit
from wan_tui.cli.errors import log_to_file
from wan_tui.terminal import crash
from wan_tui.terminal.means import locale_encoding, means, prepare_environment
from wan_tui.terminal.noise import Noise
from wan_tui.terminal.signals import Signals
from wan_tui.terminal.tty import Tty, find_terminal

if TYPE_CHECKING:
    from wan_tui.terminal.base import TerminalApp

_SWITCH_S = 0.001  # between threads: a key waits that long for one that computes in Python


class Engine(Protocol):
    """What works beside the screen. Its methods are called from any thread."""

    @property
    def busy(self) -> bool:
        """Whether anything runs or is queued."""

    def finish(self) -> None:
        """Wait until the queue is done."""

    def stop(self, reason: str) -> None:
        """Cancel everything (`user` or `terminated`), and wait until the worker is over."""


def run_app(
    make_app: Callable[[], TerminalApp], engine: Engine, *, mouse: bool = True, low_bandwidth: bool = False
) -> int:
    """Run the app that `make_app` imports and makes, then bring the engine to its end; the exit status.

    Raises `JobError` where there is no terminal. Textual must not have been imported before.
    """
    shared = find_terminal(os.environ)
    log_to_file()
    sys.setswitchinterval(_SWITCH_S)
    encoding = locale_encoding()
    prepare_environment(means(os.environ, encoding), low_bandwidth)
    with Signals() as signals, crash.Faults() as faults, Tty(shared, encoding, faults.farewell) as tty, Noise():
        app, error = _shown(make_app, signals, mouse)
        tty.over()
        signals.without_screen()
        ending = _Ending(engine)
        signals.listen(ending.heard)
        if error:
            tty.say(crash.told(error, crash.keep(error)))
        if app is not None and app.terminated:
            ending.heard(signal.SIGTERM)
        elif error or (app is not None and (app.hung_up or app.leave_working)):
            _finish(engine, tty)
        elif ending.status is None:
            if engine.busy:
                tty.say("Cancelling what is running; Ctrl-C ends it at once.")
            ending.stop("user")
        ending.wait()
    if ending.status is not None:
        return ending.status
    return Exit.FAILED if error else (app and app.return_value) or Exit.DONE


def _shown(
    make_app: Callable[[], TerminalApp], signals: Signals, mouse: bool
) -> tuple[TerminalApp | None, Exception | None]:
    """The app, when its screen has been left, and what it crashed with."""
    app = None
    try:
        app = make_app()
        app.signals = signals
        app.run(mouse=mouse)
    except Exception as error:  # noqa: BLE001  (kept and told)
        return app, error
    return app, app.crash


def _finish(engine: Engine, tty: Tty) -> None:
    """What nobody wanted ended goes on without a screen, and reads from no terminal: it may have gone."""
    if engine.busy:
        tty.say("What is running is being finished; Ctrl-C cancels it.")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)
    engine.finish()


class _Ending:
    """The engine's way to its end, and what signals mean meanwhile: the first stops it, a second ends everything."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._stopping: threading.Thread | None = None
        self.status: Exit | None = None

    def heard(self, number: int) -> None:
        if number == signal.SIGHUP:
            return
        asked = Exit.TERMINATED if number == signal.SIGTERM else Exit.CANCELLED
        if self._stopping:
            os._exit(self.status or asked)
        self.status = asked
        self.stop("terminated" if asked is Exit.TERMINATED else "user")

    def stop(self, reason: str) -> None:
        """In a thread: the main one has to hear signals, and may be waiting for the engine already."""
        self._stopping = threading.Thread(target=self._engine.stop, args=(reason,), name="stop")
        self._stopping.start()

    def wait(self) -> None:
        if self._stopping:
            self._stopping.join()
