"""A small app with an engine that ticks, to see how `run_app` treats a terminal.

It is run as `python -m tests.pty_app FILE STEPS [SECONDS]`. Each step is a line of FILE; stopping takes SECONDS. What
the keys do stands in `pty_widgets`.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wan_tui.cli.errors import reported
from wan_tui.terminal.run import run_app

if TYPE_CHECKING:
    from wan_tui.terminal.base import TerminalApp

TICK_S = 0.02


class Ticking:
    """An engine in a thread of its own that tells the screen of each step, and writes it down first."""

    def __init__(self, steps: Path, total: int, stopping_s: float) -> None:
        self._steps = steps
        self._total = total
        self._stopping_s = stopping_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="engine")
        self.app: Any = None

    def start(self) -> None:
        self._thread.start()

    @property
    def busy(self) -> bool:
        return self._thread.is_alive()

    def finish(self) -> None:
        if self._thread.ident:
            self._thread.join()

    def stop(self, reason: str) -> None:
        self._write(f"stopping {reason}")
        time.sleep(self._stopping_s)
        self._stopped.set()
        self.finish()
        self._write(f"stopped {reason}")

    def hang(self) -> None:
        """What a fault of the app could do to its loop."""
        self._write("hangs")
        while True:
            time.sleep(TICK_S)
            if self.app.terminated:
                self._write("terminated")

    def _run(self) -> None:
        from tests.pty_widgets import Stepped

        for step in range(self._total):
            if self._stopped.wait(TICK_S):
                return
            self._write(f"step {step}")
            os.write(2, b"NOISE of the engine\n")
            self.app.post_message(Stepped(step))
        self._write(f"done {time.process_time():.2f}")

    def _write(self, line: str) -> None:
        with self._steps.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")


def noise() -> None:
    """Everything that could reach a screen, and must not."""
    os.write(1, b"NOISE of descriptor 1\n")
    os.write(2, b"NOISE of descriptor 2\n")
    subprocess.run(["sh", "-c", "echo NOISE of a child; echo NOISE of a child >&2"], check=True)
    library = ctypes.CDLL(None)
    library.puts(b"NOISE of C")
    library.fflush(None)
    warnings.warn("NOISE of a warning", stacklevel=1)
    print("NOISE of print")
    print("NOISE of print", file=sys.stderr)
    failing = threading.Thread(target=lambda: 1 / 0, name="NOISE of a thread")
    failing.start()
    failing.join()


def main(steps: str, total: str, stopping_s: str = "0") -> int:
    engine = Ticking(Path(steps), int(total), float(stopping_s))

    def make() -> TerminalApp:
        from tests.pty_widgets import Shown

        engine.app = Shown(engine, noise)
        return engine.app  # type: ignore[no-any-return]

    return reported(lambda: run_app(make, engine), as_json=False)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
