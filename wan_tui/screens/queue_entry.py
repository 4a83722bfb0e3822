"""One job as the queue lists it: a few figures of its journal row, small enough to hold thousands."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.runtime.journal import JobRow, Journal

LIVE = ("queued", "running")
_PROMPT = 1000  # characters that are kept to be shown in a line and filtered by
_FIGURES = re.compile(r"^(width|height|frames|steps|seed) = (\d+)$", re.MULTILINE)


@dataclass(frozen=True)
class Entry:
    """`mine`: this process accepted it. Times are ISO 8601 in UTC; `problem` is why it failed, in a sentence."""

    id: str
    state: str
    model: str
    prompt: str
    created: str
    started: str | None
    finished: str | None
    seconds: float | None
    output: str | None
    owner: str
    pid: int
    mine: bool
    stopping: bool
    problem: str | None
    figures: dict[str, int]

    @property
    def live(self) -> bool:
        return self.state in LIVE


@dataclass(frozen=True)
class Known:
    """What one look into the journal found. `mark` is equal as long as no other process changed what is shown."""

    entries: dict[str, Entry]
    mark: tuple[object, ...]
    notice: str | None


def read_known(journal: Journal, mark: tuple[object, ...] | None = None) -> Known | None:
    """Every job of the journal, newest first; None where it stands as at `mark`. Raises RunError."""
    from engine.runtime.owner import Owner

    now = _mark(journal)
    if now == mark:
        return None
    me = Owner.me()
    return Known({row.id: entry_of(row, mine=row.owner == me) for row in journal.rows()}, now, journal.notice)


def read_some(journal: Journal, ids: Collection[str]) -> list[Entry]:
    """These jobs of this process as they stand now. Raises RunError, or JobError where the journal was replaced."""
    return [entry_of(journal.row(id), mine=True) for id in ids]


def _mark(journal: Journal) -> tuple[object, ...]:
    newest = journal.rows(limit=1)
    live = journal.rows(states=LIVE)
    return (*(row.id for row in newest), *((row.id, row.state, row.cancel_requested) for row in live))


def entry_of(row: JobRow, *, mine: bool) -> Entry:
    return Entry(
        id=row.id,
        state=str(row.state),
        model=row.model,
        prompt=row.prompt[:_PROMPT],
        created=row.created,
        started=row.started,
        finished=row.finished,
        seconds=row.seconds,
        output=row.output,
        owner=str(row.owner),
        pid=row.owner.pid,
        mine=mine,
        stopping=row.state in LIVE and row.cancel_requested is not None,
        problem=str(row.error.get("message", "")) if row.error else None,
        figures=_figures(row.job_toml),
    )


def _figures(job_toml: str) -> dict[str, int]:
    """The size of the video from the lines a job's TOML begins with: reading all of it would cost seconds."""
    found: dict[str, int] = {}
    for name, value in _FIGURES.findall(job_toml):
        found.setdefault(name, int(value))  # the job's own frames come before those of its segments
    return found
