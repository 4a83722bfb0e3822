"""Events of the engine folded into what is known of its jobs and transfers."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

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
from wan_tui.live import Live
from wan_tui.now import JobNow, Spell, TransferNow


@dataclass(frozen=True, kw_only=True)
class TransferBegun(Event):
    """Work of the library on the item `job`: `what` is download, verify, import or convert."""

    kind = "transfer-begun"
    what: str


@dataclass(frozen=True, kw_only=True)
class TransferOver(Event):
    """Its end: `state` is done, stopped or failed."""

    kind = "transfer-over"
    state: str


_LOG_LINES = 200  # of one job
_MOST_OVER = 500  # jobs; the journal knows all of them
_KINDS = {Download: "download", Verify: "verify", Import: "import", Convert: "convert"}


def fold(live: Live, event: Event) -> None:
    """Take an event in."""
    if isinstance(event, TransferBegun):
        live.transfers[event.job] = TransferNow(event.job, event.what)
    elif isinstance(event, TransferOver):
        if event.job in live.transfers:
            live.transfers[event.job] = replace(live.transfers[event.job], state=event.state, files={})
    elif isinstance(event, LibraryProgress | Downloaded | Failed):
        live.transfers[event.id] = fold_transfer(live.transfers.get(event.id), event)
    elif event.job in live.jobs or isinstance(event, JobQueued):
        job = live.jobs[event.job] = fold_job(live.jobs.get(event.job) or JobNow(event.job), event)
        if job.over:
            _forget_the_oldest(live)
    elif isinstance(event, Notice) and event.job in live.transfers:
        live.transfers[event.job] = replace(live.transfers[event.job], notice=event.message)


def _forget_the_oldest(live: Live) -> None:
    """An app may be left open for weeks."""
    over = sorted((job.end.time, id) for id, job in live.jobs.items() if job.end)
    for _, id in over[:-_MOST_OVER]:
        del live.jobs[id]


def told(live: Live, event: Event) -> tuple[str, str] | None:
    """The sentence, and its severity, that an event is worth wherever one is; None for most."""
    match event:
        case JobFinished(output=str(path)):
            return f"The video is ready: {path}", "information"
        case JobFailed():
            return f"The job failed: {event.message}", "error"
        case Downloaded():
            return f"{event.id} is here and verified.", "information"
        case Failed() if event.code != "stopped":
            known = live.transfers.get(event.id)
            if not known or known.state != "failed":  # a failed download says so twice
                return f"{event.id}: {event.message}", "error"
    return None


def fold_transfer(now: TransferNow | None, event: LibraryProgress | Downloaded | Failed) -> TransferNow:
    now = now or TransferNow(event.id, "download")
    if isinstance(event, Downloaded):
        return replace(now, state="done", files={})
    if isinstance(event, Failed):
        stopped = event.code == "stopped"
        return replace(now, state="stopped" if stopped else "failed", error=None if stopped else event)
    files = {name: one for name, one in now.files.items() if name != event.file}
    if event.done < event.total:
        files[event.file] = event
    return replace(now, kind=_KINDS[type(event)], files=files, latest=event)


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
