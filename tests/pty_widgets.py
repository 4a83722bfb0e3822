"""The screen of `pty_app`: imported when the terminal has been prepared, as the app's own modules are."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from typing import Any

from textual.app import ComposeResult
from textual.geometry import Size
from textual.message import Message
from textual.widgets import Static

from wan_tui.terminal.base import TerminalApp


class Stepped(Message):
    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step


class Shown(TerminalApp):
    """READY when it is up; then the last key or step."""

    def __init__(self, engine: Any, noise: Callable[[], None]) -> None:
        super().__init__()
        self._engine = engine
        self._noise = noise
        self._size_told: Size | None = None

    def compose(self) -> ComposeResult:
        yield Static("colours", id="said", classes="coloured")
        yield Static("", id="step")
        yield Static("FIXED")

    CSS = "#said { background: $primary; color: $text; } #step { color: $success; }"

    def on_mount(self) -> None:
        self._engine.start()
        self.call_after_refresh(lambda: self.ready(self.size))

    def say(self, what: str) -> None:
        self.query_one("#said", Static).update(what)

    def on_stepped(self, message: Stepped) -> None:
        self.query_one("#step", Static).update(f"step {message.step}")

    def on_resize(self, event: Any) -> None:
        self.ready(event.size)

    def ready(self, size: Size) -> None:
        """Once for each size: a key may have been typed between the first paint and what was to follow it."""
        if size != self._size_told:
            self._size_told = size
            self.say(f"READY {size.width}x{size.height}")

    def on_key(self, event: Any) -> None:
        actions = {
            "q": lambda: self.exit(0),
            "r": lambda: self.exit(7),
            "x": lambda: _crash(os.environ["HF_TOKEN"]),
            "s": lambda: ctypes.string_at(0),
            "n": self._noise,
            "h": self._engine.hang,
            "w": lambda: self.say("WIDE 红é─!"),
            "c": lambda: self.copy_to_clipboard("copied"),
            "e": lambda: self.say(f"EDITOR {self.run_outside([sys.executable, '-c', OUTSIDE])}"),
        }
        if action := actions.get(event.key):
            action()
            if event.key in "nc":
                self.say(f"DID {event.key}")
        else:
            self.say(f"KEY {event.key}")

    def action_help_quit(self) -> None:
        self.say("CTRL-C")


OUTSIDE = """
import os, signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
print("OUTSIDE", *(os.isatty(number) for number in (0, 1, 2)), flush=True)
input()
raise SystemExit(3)
"""


def _crash(token: str) -> None:
    secret_local = f"local {token}"
    raise RuntimeError(f"it broke near {token} in {os.path.expanduser('~')}/file {len(secret_local)}")
