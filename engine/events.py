"""What the engine says: frozen dataclasses on one bus with many listeners.

Each listener has its own thread and mailbox, so that a stalled terminal never holds up the worker: it loses
intermediate progress, never a change of state.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, ClassVar

from engine.errors import WanError


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened to `job` (its id, or the job file's name while it has none) at `time` (epoch seconds)."""

    kind: ClassVar[str]
    job: str
    time: float = field(default_factory=time.time)

    def as_dict(self) -> dict[str, Any]:
        """The JSON form: `event`, ISO 8601 `time` in UTC, `job`, then the event's own fields."""
        stamp = datetime.fromtimestamp(self.time, UTC).isoformat(timespec="milliseconds")
        own = {f.name.rstrip("_"): getattr(self, f.name) for f in fields(self) if f.name not in ("job", "time")}
        return {"event": self.kind, "time": stamp.replace("+00:00", "Z"), "job": self.job, **own}


@dataclass(frozen=True, kw_only=True)
class JobQueued(Event):
    kind = "job-queued"
    file: str | None
    model: str
    seed: int


@dataclass(frozen=True, kw_only=True)
class JobStarted(Event):
    kind = "job-started"
    device: str


@dataclass(frozen=True, kw_only=True)
class PlanMade(Event):
    """The plan that will be obeyed, as `plan --json` has it. Unknown figures are None.

    `windows` tells in how many windows of how many frames a long clip is made.
    """

    kind = "plan"
    profile: str
    fits: bool | None
    device: dict[str, Any]
    vram_bytes: int | None
    ram_bytes: int | None
    seconds: float | None
    reasons: tuple[str, ...]
    disk_bytes: int | None = None
    stages: tuple[dict[str, Any], ...] = ()
    windows: dict[str, int] | None = None
    alternatives: tuple[dict[str, Any], ...] = ()
    max_frames: int | None = None
    max_size: tuple[int, int] | None = None
    form: str | None = None
    rung: str | None = None
    runs: int = 0
    room: dict[str, int | None] | None = None
    storage: str | None = None


@dataclass(frozen=True, kw_only=True)
class Stage(Event):
    """`name` is check, load, encode, denoise, decode or write; `state` is started or finished.

    `load` repeats, once a `component`; `seconds` of wall time come with finished.
    """

    kind = "stage"
    name: str
    state: str
    component: str | None = None
    seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class Progress(Event):
    """`window` of `windows` is at work where a long clip is made in windows, one after another."""

    kind = "progress"
    stage: str
    done: int
    total: int
    eta_s: float | None
    seconds_per_unit: float | None
    vram_bytes: int | None
    rss_bytes: int | None
    window: int | None = None
    windows: int | None = None


@dataclass(frozen=True, kw_only=True)
class Notice(Event):
    kind = "warning"
    code: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Fallback(Notice):
    """Memory ran out in `stage`, and the job goes on in another way: the names of rungs, or of forms of the VAE.

    `message` is the whole in a sentence, `reason` what the device or the host said.
    """

    kind = "fallback"
    from_: str
    to: str
    stage: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class JobFinished(Event):
    """The last word about a job that is done. A dry run ends with it too, all figures None."""

    kind = "job-finished"
    output: str | None
    frames: int | None = None
    width: int | None = None
    height: int | None = None
    fps: int | None = None
    seed: int | None = None
    seconds: float | None = None
    peak_vram_bytes: int | None = None
    peak_rss_bytes: int | None = None
    output_sha256: str | None = None
    dry_run: bool = False


@dataclass(frozen=True, kw_only=True)
class JobFailed(Event):
    kind = "job-failed"
    code: str
    message: str
    cause: str | None
    suggestions: tuple[str, ...]
    actions: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class JobCancelled(Event):
    kind = "job-cancelled"
    reason: str
    resumable: bool = False


@dataclass(frozen=True, kw_only=True)
class LibraryProgress(Event):
    """Bytes of one file, and of all files together, of what is done to the model `id`. Rates are bytes/s."""

    id: str
    file: str
    done: int
    total: int
    rate: float | None
    all_done: int
    all_total: int
    all_rate: float | None
    eta_s: float | None


@dataclass(frozen=True, kw_only=True)
class Download(LibraryProgress):
    kind = "download"


@dataclass(frozen=True, kw_only=True)
class Verify(LibraryProgress):
    kind = "verify"


@dataclass(frozen=True, kw_only=True)
class Import(LibraryProgress):
    kind = "import"


@dataclass(frozen=True, kw_only=True)
class Convert(LibraryProgress):
    """A variant being made from the model's own weights; bytes are those read."""

    kind = "convert"


@dataclass(frozen=True, kw_only=True)
class Downloaded(Event):
    """The last word about a download that is done. `fetched_bytes` came over the network."""

    kind = "downloaded"
    id: str
    path: str
    revision: str | None
    bytes: int
    fetched_bytes: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Failed(Event):
    """The last word about work of the library that failed."""

    kind = "failed"
    id: str
    code: str
    message: str
    cause: str | None
    suggestions: tuple[str, ...]
    actions: tuple[str, ...]

    @classmethod
    def of(cls, id: str, error: WanError) -> Failed:
        """What `error` says of the model `id`."""
        return cls(
            job=id,
            id=id,
            code=error.code,
            message=error.message,
            cause=error.cause,
            suggestions=error.suggestions,
            actions=error.actions,
        )


Listener = Callable[[Event], None]


class Mailbox:
    """Events waiting for one listener, delivered in order on its own daemon thread."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._waiting: deque[list[Event]] = deque()  # each alone in a list, where newer progress takes its place
        self._latest: dict[tuple[str, str, str], list[Event]] = {}
        self._busy = False
        self._changed = threading.Condition()
        self._closed = False
        self._delivered = 0
        self._thread = threading.Thread(target=self._deliver, name="events", daemon=True)
        self._thread.start()

    def put(self, event: Event) -> None:
        """Hand over an event without ever waiting. Progress replaces progress of the same thing not yet read, unless
        something else happened since."""
        with self._changed:
            held = [event]
            if not isinstance(event, Progress | LibraryProgress):
                self._latest.clear()
            elif older := self._latest.get(_subject(event)):
                older[0] = event
                return
            else:
                self._latest[_subject(event)] = held
            self._waiting.append(held)
            self._changed.notify()

    def drain(self, patience: float) -> None:
        """Wait until what was put has been delivered; give up once nothing was taken for `patience` seconds."""
        seen, since = self._delivered, time.monotonic()
        while self._thread.is_alive() and (self._waiting or self._busy) and time.monotonic() - since < patience:
            time.sleep(0.01)
            if self._delivered != seen:
                seen, since = self._delivered, time.monotonic()

    def close(self, patience: float) -> bool:
        """Deliver what is waiting; give up once nothing was taken for `patience` seconds. True when all was read."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        seen = -1
        while self._thread.is_alive() and self._delivered != seen:
            seen = self._delivered
            self._thread.join(patience)
        return not self._thread.is_alive()

    def _deliver(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if not self._waiting:
                    return
                event = self._waiting.popleft()[0]
                if isinstance(event, Progress | LibraryProgress):
                    self._latest.pop(_subject(event), None)
                self._busy = True
            self._listener(event)
            self._delivered += 1
            self._busy = False


def _subject(event: Progress | LibraryProgress) -> tuple[str, str, str]:
    return event.kind, event.job, event.stage if isinstance(event, Progress) else event.file


class Bus:
    """Where the engine speaks and others listen."""

    def __init__(self) -> None:
        self._mailboxes: list[Mailbox] = []

    def subscribe(self, listener: Listener) -> Mailbox:
        mailbox = Mailbox(listener)
        self._mailboxes.append(mailbox)
        return mailbox

    def publish(self, event: Event) -> None:
        for mailbox in self._mailboxes:
            mailbox.put(event)
