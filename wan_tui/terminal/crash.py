"""What is kept of a crash: a report that may be passed on, and the trace of one that Python did not survive."""

from __future__ import annotations

import faulthandler
import logging
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from engine.paths import state_place
from wan_tui.text import plain

FAULTS = "fault.log"
_MOST_BYTES = 200_000

log = logging.getLogger("wan_tui")


def keep(error: BaseException) -> Path | None:
    """Write the report of a crash, and the traceback into the log; None where the report cannot be written."""
    from engine.runtime.crash import keep_report  # most of the engine's imports, for what hardly ever happens

    report = keep_report(error)
    log.error("the app crashed (%s); report in %s", type(error).__name__, report)
    return report


def told(error: BaseException, report: Path | None) -> str:
    """The line for the user."""
    where = f"A report is in {report}; please file it as a bug." if report else "No report could be written."
    return plain(f"wan-tui crashed ({type(error).__name__}). {where}")


class Faults:
    """Crashes below Python leave a trace in a file; uncaught errors of threads go to the log, not to a screen."""

    def __init__(self) -> None:
        self._log = state_place() / "wan-tui.log"
        self._trace = state_place() / FAULTS
        self._size = 0

    def __enter__(self) -> Faults:
        self._hook, threading.excepthook = threading.excepthook, _log_thread
        with suppress(OSError):  # no state folder: no trace
            self._file = open(self._trace, "ab")  # kept open: a fault may come until the process ends
            if self._trace.stat().st_size > _MOST_BYTES:
                self._file.truncate(0)
            self._size = self._trace.stat().st_size
            faulthandler.enable(self._file)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        threading.excepthook = self._hook

    def farewell(self) -> str:
        """What the janitor says."""
        line = f"wan-tui ended unexpectedly. The log is {self._log}"
        with suppress(OSError):
            if self._trace.stat().st_size > self._size:
                line += f", the trace {self._trace}"
        return plain(line) + "\r\n"


def _log_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None:
        log.error("a thread failed", exc_info=args.exc_value)
