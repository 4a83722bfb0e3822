"""How the engine's events are shown without a screen: JSON lines, plain lines, or a progress bar.

Everything is written straight to a file descriptor: a reader that has gone or a terminal that hung up ends the
showing, never the job, and no buffer is left to be flushed at the way out.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import sys
import time
from typing import Protocol

from engine.errors import WanError
from engine.events import (
    Event,
    JobCancelled,
    JobFailed,
    JobFinished,
    JobQueued,
    JobStarted,
    Notice,
    PlanMade,
    Progress,
    Stage,
)
from wan_tui.cli.errors import described
from wan_tui.cli.layout import for_terminal
from wan_tui.telling_plan import brief, lines
from wan_tui.text import plain

_PLAIN_EVERY_S = 10.0
_WORTH_TELLING_S = 0.5  # what loads faster is not worth a line


class Outlet:
    """A file descriptor that text goes out of until nobody takes it any more."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    def write(self, text: str) -> None:
        data = text.encode(errors="backslashreplace")
        while data and self._descriptor is not None:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:  # somebody made it non-blocking: wait as a blocking one would
                select.select([], [self._descriptor], [])
            except OSError:  # closed, hung up or full
                self._descriptor = None


class Printer(Protocol):
    def __call__(self, event: Event) -> None: ...
    def tell(self, text: str) -> None:
        """Something to say that belongs to no job."""


def printer_for(*, as_json: bool, quiet: bool, rehearsal: bool = False) -> Printer:
    """JSON lines when asked for; else a bar on a terminal, plain lines elsewhere. A rehearsal is asked for its plan."""
    if as_json:
        return JsonLines()
    if quiet:
        return Lines(quiet=True)
    if rehearsal:
        return Lines(whole_plan=True)
    return Bar() if os.isatty(2) and os.environ.get("TERM") != "dumb" else Lines()


class JsonLines:
    """One object a line on standard output."""

    def __init__(self) -> None:
        self._out, self._err = Outlet(1), Outlet(2)

    def __call__(self, event: Event) -> None:
        self._out.write(json.dumps(event.as_dict(), allow_nan=False) + "\n")

    def tell(self, text: str) -> None:
        self._err.write(text + "\n")


class Lines:
    """What happens, a line each, on standard error; the path of each video on standard output."""

    def __init__(self, *, quiet: bool = False, whole_plan: bool = False) -> None:
        self._out, self._err = Outlet(1), Outlet(2)
        self._quiet, self._whole_plan = quiet, whole_plan
        self._last = 0.0

    def __call__(self, event: Event) -> None:
        if isinstance(event, Progress):
            self.progress(event)
        elif isinstance(event, JobFinished) and event.output:
            self.tell(_summary(event), minor=True)
            self._out.write(plain(event.output) + "\n")
        elif isinstance(event, PlanMade):
            told = event.as_dict()
            self.tell(for_terminal(lines(told) if self._whole_plan else brief(told), sys.stderr), minor=True)
        elif line := _line(event):
            self.tell(line, minor=not isinstance(event, JobFailed | JobCancelled | Notice))

    def tell(self, text: str, *, minor: bool = False) -> None:
        if not (minor and self._quiet):
            self._err.write(text + "\n")

    def progress(self, event: Progress) -> None:
        now = time.monotonic()
        if now - self._last >= _PLAIN_EVERY_S or event.done == event.total:
            self._last = now
            self.tell(f"{event.stage:<8} {_pace(event)}", minor=True)


class Bar(Lines):
    """As `Lines`, with the progress of the current stage drawn over one line at the bottom."""

    def __init__(self) -> None:
        super().__init__()
        full = (getattr(sys.stderr, "encoding", None) or "").lower().replace("-", "") == "utf8"
        self._cells = ("━", "╸", "─") if full else ("=", ">", "-")
        self._drawn = False

    def tell(self, text: str, *, minor: bool = False) -> None:
        clear = "\r\x1b[K" if self._drawn else ""
        self._drawn = False
        super().tell(clear + text, minor=minor)

    def progress(self, event: Progress) -> None:
        text = _pace(event)
        room = min(40, shutil.get_terminal_size().columns - len(text) - 12)
        full, half, empty = self._cells
        filled = room * event.done // max(1, event.total)
        bar = full * filled + (half + empty * (room - filled - 1) if filled < room else "") if room >= 5 else ""
        self._drawn = True
        self._err.write(f"\r{event.stage:<8} {bar} {text}\x1b[K")
        if event.done >= event.total:
            self._drawn = False
            self._err.write("\n")


def _pace(event: Progress) -> str:
    unit = "step" if event.stage == "denoise" else "frame"
    text = f"{event.done}/{event.total}"
    if event.seconds_per_unit is not None and event.eta_s is not None:
        text += f"  {event.seconds_per_unit:.2f} s/{unit}  {clock(event.eta_s)} left"
    return text


def clock(seconds: float) -> str:
    """1:05, 2:03:04."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _summary(event: JobFinished) -> str:
    size = f"{event.width}x{event.height}, {event.frames} frames at {event.fps} fps, seed {event.seed}"
    return f"done     {size}, {clock(event.seconds or 0)}"


def _line(event: Event) -> str | None:
    match event:
        case JobQueued():
            return plain(f"queued   {event.job}  {event.model}, seed {event.seed}")
        case JobStarted():
            return plain(f"started  {event.job} on {event.device}")
        case Stage(name="load", state="finished") if (event.seconds or 0) >= _WORTH_TELLING_S:
            return plain(f"load     {event.component}, {event.seconds:.1f} s")
        case Stage(state="finished") if event.name not in ("load", "write"):
            return f"{event.name:<8} {event.seconds:.1f} s"
        case Notice():
            return plain(f"warning: {event.message}")
        case JobCancelled():
            return plain(f"cancelled {event.job}")
        case JobFinished():
            return "dry run  nothing was made"
        case JobFailed():
            message = event.message if event.job in event.message else f"{event.job}: {event.message}"
            return described(WanError(event.code, message, cause=event.cause, suggestions=event.suggestions))
    return None
