"""What every app of this program does with its terminal; `driver.py` lists the private names of Textual used here."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from textual._compositor import CompositorUpdate
from textual.binding import Binding, BindingType
from textual.driver import Driver
from textual.events import Key

from engine.errors import Exit
from wan_tui.terminal.clipboard import osc52
from wan_tui.terminal.driver import SafeDriver
from wan_tui.terminal.in_turn import InTurn
from wan_tui.terminal.over import Over
from wan_tui.terminal.punctual import Punctual
from wan_tui.terminal.sheet import Sheet
from wan_tui.terminal.signals import Signals

if TYPE_CHECKING:
    from rich.console import RenderableType
    from textual.screen import Screen


class TerminalApp(Punctual, InTurn):
    """An app whose end, crash and signals are dealt with. Run it with `run_app`."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("ctrl+z", "suspend_process", "Suspend", show=False, id="suspend")]

    signals: Signals | None = None  # set by `run_app`; an app under test hears none
    hung_up = False
    terminated = False
    leave_working = False  # the engine is to finish what it has after the screen was left
    _outside: subprocess.Popen[bytes] | None = None  # another program has the terminal

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.stylesheet = Sheet(variables=self.get_css_variables())

    @property
    def crash(self) -> Exception | None:
        """What ended the app, where that was no wish of anybody."""
        return self._exception

    def get_driver_class(self) -> type[Driver]:
        return SafeDriver

    def on_mount(self) -> None:
        self._of_the_app = asyncio.get_running_loop()
        if isinstance(self._driver, SafeDriver):
            self._driver.tty.on_lost(self._leave)
        if self.signals:
            self.signals.listen(self._told)

    def on_unmount(self) -> None:
        if self.signals:
            self.signals.pause()

    def _soon(self, call: Any) -> None:
        """From any thread, and from signal handlers. A loop that is closed has left the screen already."""
        if not self._of_the_app.is_closed():
            self._of_the_app.call_soon_threadsafe(call)

    def _leave(self) -> None:
        """The terminal has gone, or will: the engine goes on without it."""
        self.hung_up = True
        self._soon(self.exit)

    def _told(self, number: int) -> None:
        """A signal; the loop may be waiting for a terminal that takes nothing."""
        if not isinstance(self._driver, SafeDriver):
            return
        if self._outside and number != signal.SIGINT:
            self._outside.send_signal(number)  # the app waits for it; it may be over already
        if number == signal.SIGHUP:
            self._driver.hurry()
            self._leave()
        elif number == signal.SIGTERM:
            if self.terminated:
                self._driver.tty.end(Exit.TERMINATED)
            self.terminated = True
            self._driver.hurry()
            self._soon(self.exit)
        elif not self._outside:  # else it is what the terminal sent to that one
            self._soon(lambda: self.post_message(Key("ctrl+c", None)))

    def on_driver_signal_resume(self) -> None:
        """Back from the shell, which has written on the screen."""
        self.refresh(layout=True)

    def run_outside(self, command: Sequence[str]) -> int:
        """Let another program, an editor, have the terminal; its status. The app stands still meanwhile.

        Raises `OSError` where it cannot be started.
        """
        if not isinstance(self._driver, SafeDriver):
            raise RuntimeError("There is no terminal to lend.")
        terminal = self._driver.tty.shared
        status: int | OSError
        with self.suspend():  # not left by an exception: the screen would not come back
            try:
                reads = 0 if os.isatty(0) else terminal
                self._outside = subprocess.Popen(command, stdin=reads, stdout=terminal, stderr=terminal)
                status = self._outside.wait()
            except OSError as error:
                status = error
            finally:
                self._outside = None
        if isinstance(status, OSError):
            raise status
        return status

    def copy_to_clipboard(self, text: str) -> None:
        """Into the terminal's clipboard, and the app's own."""
        self._clipboard = text
        sequence = osc52(text, os.environ)
        if sequence is None:
            told = "That is too long for the terminal's clipboard. It can be pasted inside this app."
            self.notify(told, severity="warning", markup=False)
        elif self._driver is not None:
            self._driver.write(sequence)

    def _display(self, screen: Screen[Any], renderable: RenderableType | None) -> None:
        """Write an update, and what is laid over it."""
        if isinstance(self._driver, SafeDriver) and isinstance(renderable, CompositorUpdate | None):
            words = "".join(overlay(screen, renderable) for overlay in self._driver.overlays)
            renderable = Over(renderable, words) if renderable and words else renderable
        super()._display(screen, renderable)

    def _handle_exception(self, error: Exception) -> None:
        """End the app; `run_app` tells of it when the terminal is back. Textual would show local variables."""
        self._return_code = Exit.FAILED
        if self._exception is None:
            self._exception = error
            self._exception_event.set()
        self._close_messages_no_wait()
