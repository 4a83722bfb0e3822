"""What the engine is doing now, as the screens show it: folded from its events, read by whichever place is shown."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from engine.events import (
    Convert,
    Download,
    Downloaded,
    Event,
    Failed,
    Import,
    JobCancelled,
    JobFailed,
    JobFinished,
    JobQueued,
    JobStarted,
    LibraryProgress,
    Notice,
    PlanMade,
    Progress,
    Stage,
    Verify,
)

_LOG_LINES = 200  # of one job
OVER = ("finished", "failed", "cancelled")
_KINDS = {Download: "download", Verify: "verify", Import: "import", Convert: "convert"}


@dataclass(frozen=True)
class Spell:
    """A stage of a job: since when (epoch), and its seconds when it is over."""

    name: str
    since: float
    seconds: float | None = None


@dataclass(frozen=True)
class JobNow:
    """One job of this session. `spells` are its stages so far, in order; `progress` is that of the present stage;
    `log` holds (epoch, sentence)."""

    id: str
    state: str = "queued"
    model: str = ""
    file: str | None = None
    seed: int | None = None
    started: float | None = None
    device: str | None = None
    plan: PlanMade | None = None
    stage: str | None = None
    component: str | None = None
    spells: tuple[Spell, ...] = ()
    progress: Progress | None = None
    peak_rss_bytes: int | None = None
    peak_vram_bytes: int | None = None
    warnings: tuple[Notice, ...] = ()
    log: tuple[tuple[float, str], ...] = ()
    end: JobFinished | JobFailed | JobCancelled | None = None

    @property
    def over(self) -> bool:
        return self.state in OVER


@dataclass(frozen=True)
class TransferNow:
    """Work of the library on one item: `kind` is download, verify, import or convert; `state` is running, stopped,
    done or failed."""

    id: str
    kind: str
    state: str = "running"
    files: Mapping[str, LibraryProgress] = field(default_factory=dict)
    latest: LibraryProgress | None = None
    error: Failed | None = None
    notice: str | None = None


class Live:
    """`jobs` and `transfers` by id, in the order they came."""

    def __init__(self) -> None:
        self.jobs: dict[str, JobNow] = {}
        self.transfers: dict[str, TransferNow] = {}

    @property
    def running(self) -> JobNow | None:
        return next((job for job in self.jobs.values() if job.state == "running"), None)

    def fold(self, event: Event) -> None:
        """Take an event in."""
        if isinstance(event, LibraryProgress | Downloaded | Failed):
            self.transfers[event.id] = fold_transfer(self.transfers.get(event.id), event)
        elif event.job in self.jobs or isinstance(event, JobQueued):
            self.jobs[event.job] = fold_job(self.jobs.get(event.job) or JobNow(event.job), event)
        elif isinstance(event, Notice) and event.job in self.transfers:
            self.transfers[event.job] = replace(self.transfers[event.job], notice=event.message)

    def begin(self, id: str, kind: str) -> None:
        """A transfer was asked for; nothing is known of it yet."""
        self.transfers[id] = TransferNow(id, kind)

    def settle(self, id: str, state: str) -> None:
        """A transfer ended without a word of its own: stopped by the user, or done."""
        if (now := self.transfers.get(id)) and now.state == "running":
            self.transfers[id] = replace(now, state=state)


def fold_transfer(now: TransferNow | None, event: LibraryProgress | Downloaded | Failed) -> TransferNow:
    now = now or TransferNow(event.id, "download")
    if isinstance(event, Downloaded):
        return replace(now, state="done", files={})
    if isinstance(event, Failed):
        return replace(now, state="failed", error=event)
    files = {name: one for name, one in now.files.items() if name != event.file}
    if event.done < event.total:
        files[event.file] = event
    return replace(now, kind=_KINDS[type(event)], state="running", files=files, latest=event)


def fold_job(now: JobNow, event: Event) -> JobNow:
    match event:
        case JobQueued():
            return replace(now, model=event.model, file=event.file, seed=event.seed)
        case JobStarted():
            return _logged(replace(now, state="running", started=event.time, device=event.device), event, "started")
        case PlanMade():
            return replace(now, plan=event)
        case Stage():
            return _staged(now, event)
        case Progress():
            return replace(
                now,
                state="running",
                progress=event,
                peak_rss_bytes=_most(now.peak_rss_bytes, event.rss_bytes),
                peak_vram_bytes=_most(now.peak_vram_bytes, event.vram_bytes),
            )
        case Notice():
            return _logged(replace(now, warnings=(*now.warnings, event)), event, event.message)
        case JobFinished():
            return _logged(replace(now, state="finished", end=event), event, f"finished: {event.output}")
        case JobFailed():
            return _logged(replace(now, state="failed", end=event), event, f"failed: {event.message}")
        case JobCancelled():
            return _logged(replace(now, state="cancelled", end=event), event, "cancelled")
    return now


def _staged(now: JobNow, event: Stage) -> JobNow:
    """`load` comes and goes inside a stage; decode and write run together: the one entered last is shown."""
    if event.name == "load":
        if event.state == "started":
            return replace(now, state="running", component=event.component)
        took = f"loaded {event.component} in {event.seconds:.1f} s" if event.seconds else f"loaded {event.component}"
        return _logged(replace(now, component=None), event, took)
    if event.state == "started":
        spells = (*now.spells, Spell(event.name, event.time))
        stage = now.stage if event.name == "write" else event.name
        progress = now.progress if event.name == "write" else None
        return replace(now, state="running", stage=stage, spells=spells, progress=progress)
    spells = tuple(
        replace(spell, seconds=event.seconds or event.time - spell.since) if spell.name == event.name else spell
        for spell in now.spells
    )
    took = f"{event.name} took {event.seconds:.1f} s" if event.seconds is not None else f"{event.name} done"
    return _logged(replace(now, spells=spells), event, took)


def _logged(now: JobNow, event: Event, sentence: str) -> JobNow:
    return replace(now, log=(*now.log, (event.time or time.time(), sentence))[-_LOG_LINES:])


def _most(known: int | None, new: int | None) -> int | None:
    return max((value for value in (known, new) if value is not None), default=None)
