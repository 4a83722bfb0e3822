"""What the queue knows, put in order: what runs, what waits, what was."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace

from engine.events import JobCancelled, JobFailed, JobFinished
from wan_tui.now import JobNow
from wan_tui.screens.queue_entry import Entry

SHOWS = {  # what `t` goes through, and the states of the history that are shown then
    "all": ("finished", "failed", "cancelled", "interrupted"),
    "failed and interrupted": ("failed", "interrupted"),
    "finished": ("finished",),
}


@dataclass(frozen=True)
class Parts:
    """The three parts of the list, in order; `running` and `waiting` may be jobs of other processes."""

    running: tuple[Entry, ...]
    waiting: tuple[Entry, ...]
    history: tuple[Entry, ...]


def parts(known: Mapping[str, Entry], jobs: Mapping[str, JobNow], waiting: Sequence[str]) -> Parts:
    """Jobs of this process are where the engine has them now; those of others where the journal has them."""
    place = {id: number for number, id in enumerate(waiting)}
    running: list[Entry] = []
    queued: list[Entry] = []
    history: list[Entry] = []
    where = {"running": running, "queued": queued}
    for entry in known.values():
        if entry.live:
            entry = as_now(entry, jobs, place)
        where.get(entry.state, history).append(entry)
    queued.sort(key=lambda entry: (place.get(entry.id, len(place)), entry.id))
    return Parts(tuple(sorted(running, key=lambda entry: not entry.mine)), tuple(queued), tuple(history))


def as_now(entry: Entry, jobs: Mapping[str, JobNow], waiting: Container[str]) -> Entry:
    """The engine knows its jobs sooner than they were read; and it knows them, should the journal not take them."""
    now = jobs.get(entry.id)
    if now is None or not entry.live:
        return entry
    match now.end:
        case JobFinished():
            return replace(entry, state="finished", output=now.end.output, seconds=now.end.seconds)
        case JobFailed():
            return replace(entry, state="failed", problem=now.end.message)
        case JobCancelled():
            return replace(entry, state="cancelled")
    return replace(entry, state="queued" if entry.id in waiting else "running")


def merged(known: Mapping[str, Entry], changed: Sequence[Entry]) -> dict[str, Entry]:
    """With these jobs as they stand now, still newest first."""
    found = {**known, **{entry.id: entry for entry in changed}}
    if len(found) == len(known):
        return found
    return dict(sorted(found.items(), reverse=True))  # ids sort as the jobs were accepted
