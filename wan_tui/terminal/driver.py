"""Textual's Linux driver, at ease with a terminal that stalls, goes away, or comes back from the shell.

Private names of Textual 8.2.8 that are used, here and in `base.py`; `tests/test_terminal.py` holds them:
  LinuxDriver._file              where the writer thread writes: our `Tty`, which is `sys.__stderr__` by then
  LinuxDriver._writer_thread     a `WriterThread(self._file)`; alive while the screen is taken
  LinuxDriver._key_thread        runs `_run_input_thread`, which is replaced
  LinuxDriver._must_signal_resume   makes `start_application_mode` post `SignalResume`
  LinuxDriver._sigtstp_application, _sigcont_application   replaced: they write inside a signal handler
  LinuxDriver._get_terminal_size    replaced: it believes COLUMNS and LINES
  LinuxDriver._in_band_window_resize   whether the terminal itself tells its size
  Driver._loop, _app, _debug, _auto_restart   of the base class
  XTermParser                    `feed(text)` and `tick()` give the messages of keys and mouse
  App._driver, _exception, _exception_event, _return_code, _close_messages_no_wait   `_handle_exception` is replaced
  App._driver                    of `widgets/own_pixels.py`: what the terminal has said it can
  App._display                   of `base.py`: the one place where a screen's update is written
  Screen._compositor             of `widgets/own_pixels.py`: its `visible_widgets`, from front to back
  ChopsUpdate.spans              of `widgets/own_pixels.py`: what an update paints
  App._screen_stacks, _current_mode   of `in_turn.py`: before and after there is a screen to be asked for
  Timer._skip                    of `punctual.py`: a timer that is late is left out
  Stylesheet._parse_cache, _variables   of `sheet.py`: rules by their source, and what they were parsed with
  App._refresh_notifications     of `app.py`: those that are over are taken off the screen that is shown
  App._clipboard                 what `copy_to_clipboard` keeps
"""

from __future__ import annotations

import os
import select
import signal
from codecs import IncrementalDecoder, getincrementaldecoder
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from textual._xterm_parser import XTermParser
from textual.drivers.linux_driver import LinuxDriver
from textual.events import Resize
from textual.geometry import Size

from wan_tui.terminal.answers import Answers, cell_pixels
from wan_tui.terminal.over import Overlay
from wan_tui.terminal.tty import Tty

if TYPE_CHECKING:
    from textual.app import App

_GONE = select.POLLHUP | select.POLLERR | select.POLLNVAL
_TICK_S = 0.1  # how long an Esc waits for what may follow it


class SafeDriver(LinuxDriver):
    """For an app that `run_app` runs."""

    def __init__(
        self, app: App[Any], *, debug: bool = False, mouse: bool = True, size: tuple[int, int] | None = None
    ) -> None:
        super().__init__(app, debug=debug, mouse=mouse, size=size)
        if not isinstance(self._file, Tty):
            raise RuntimeError("The app is to be started by run_app: it brings the terminal.")
        self.tty: Tty = self._file
        self.answers: Answers = Answers(lambda: cell_pixels(self.tty.fileno()))
        self.pictures: set[str] = set()  # what takes each from the terminal's memory: they go when the screen is left
        self.overlays: list[Overlay] = []

    @property
    def shown(self) -> bool:
        """Whether the screen is ours at this moment."""
        return self._writer_thread is not None and self._writer_thread.is_alive()

    def write(self, data: str) -> None:
        """A screen that is not shown takes nothing: a queue nobody empties would stop the app."""
        if self.shown and not self.tty.gone:
            super().write(data)

    def start_application_mode(self) -> None:
        if self.tty.gone:
            return
        self.tty.take()
        super().start_application_mode()  # type: ignore[no-untyped-call]
        if self.shown:
            signal.signal(signal.SIGWINCH, lambda *_: self._soon(self._resized))
        else:  # in the background of a shell: Textual puts the process to sleep
            self.tty.leave()

    def stop_application_mode(self) -> None:
        if self.shown:
            while self.pictures:
                self.write(self.pictures.pop())
            super().stop_application_mode()

    def close(self) -> None:
        """The screen has been left: everything is written, or will never be."""
        if self.shown:
            super().close()
            self.tty.leave()

    def hurry(self) -> None:
        """The screen is about to be left for good, whether the terminal takes the words or not. For signal handlers."""
        self._auto_restart = False
        self.tty.hurry()

    def _resized(self) -> None:
        """Look at the size in the loop. Of handlers that interrupt each other the first tells last: an old size."""
        if not self._in_band_window_resize:
            size = Size(*self._get_terminal_size())
            self._app.post_message(Resize(size, size))

    def _get_terminal_size(self) -> tuple[int, int]:
        """Of the terminal itself: COLUMNS and LINES, where they are exported, tell its size of another time."""
        try:
            size = os.get_terminal_size(self.tty.fileno())
        except OSError:
            return 80, 24
        return size.columns or 80, size.lines or 24

    def _sigtstp_application(self, *_: object) -> None:
        if self.shown:
            self._soon(self._step_aside)
        elif not self.tty.gone and not _is_orphaned():
            os.kill(os.getpid(), signal.SIGSTOP)  # with the program that has the screen: the loop waits for it

    def _sigcont_application(self, *_: object) -> None:
        self._soon(self._step_back)

    def _soon(self, call: Callable[[], None]) -> None:
        """From a signal handler. What writes to the screen may not run there: it could wait for itself."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call)

    def _step_aside(self) -> None:
        """Leave the screen to the shell, and stop. Without a shell nobody could wake us: then not."""
        if self.tty.gone or _is_orphaned():
            return
        self.suspend_application_mode()
        os.kill(os.getpid(), signal.SIGSTOP)

    def _step_back(self) -> None:
        """Take the screen again. It may be ours still, after a SIGSTOP; but a shell has written on it."""
        if not self._auto_restart or self.tty.gone:
            return  # another program has the screen, or nobody
        self.suspend_application_mode()
        self._must_signal_resume = True
        self.resume_application_mode()

    def _run_input_thread(self) -> None:
        try:
            self.run_input_thread()
        except Exception as error:  # noqa: BLE001  (a fault of the parser ends the app like any other)
            self._app.call_later(self._app._handle_exception, error)

    def run_input_thread(self) -> None:
        """Read keys until the screen is left or the terminal has gone: a dead one is always readable."""
        parser = XTermParser(self._debug)
        decoder = getincrementaldecoder("utf-8")("replace")  # a key of another encoding is no reason to end
        waiting = select.poll()
        waiting.register(self.fileno, select.POLLIN)
        while not self.exit_event.is_set() and not self.tty.gone:
            for _, state in waiting.poll(_TICK_S * 1000) or [(0, 0)]:
                text = self.answers.kept_from(self._read(decoder, state)) if state else self.answers.rest()
                for message in parser.feed(text) if text else ():
                    self.process_message(message)
            for message in parser.tick():
                self.process_message(message)

    def _read(self, decoder: IncrementalDecoder, state: int) -> str:
        """What was typed; nothing where the terminal has gone."""
        try:
            data = os.read(self.fileno, 4096)
        except BlockingIOError:
            return ""
        except OSError:
            data, state = b"", _GONE
        if not data and state & _GONE:
            self.tty.lose()
        elif not data:
            self.exit_event.wait(_TICK_S)
        return decoder.decode(data)


def _is_orphaned() -> bool:
    """Whether no shell of our session could continue us (POSIX: an orphaned process group)."""
    parent = os.getppid()
    try:
        return parent == 0 or os.getsid(parent) != os.getsid(0) or os.getpgid(parent) == os.getpgrp()
    except OSError:
        return True
