"""The rows of the queue's list. Those of the history are drawn in a thread: there are thousands."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from wan_tui.drawing import UNKNOWN, bar, clock
from wan_tui.now import JobNow
from wan_tui.screens.queue_book import SHOWS, Parts
from wan_tui.screens.queue_entry import Entry
from wan_tui.widgets.listing import Cell, Column, Row

COLUMNS = (
    Column("STATE", 13),
    Column("MODEL", 14, keep="end"),
    Column("PROMPT", least=24),
    Column("SIZE", 9, right=True, drop=3),
    Column("FRAMES", 6, right=True, drop=4),
    Column("STEPS", 5, right=True, drop=5),
    Column("WHEN", 11, drop=2),
    Column("TIME", 12, right=True),
)
SIGNS = {
    "queued": ("· waiting", ""),
    "running": ("▶ running", "accent"),
    "finished": ("✓ finished", "good"),
    "failed": ("✗ failed", "bad"),
    "cancelled": ("– cancelled", "dim"),
    "interrupted": ("! interrupted", "warn"),
}
Drawn = dict[str, tuple[Entry, Row]]


def listed(found: Parts, jobs: Mapping[str, JobNow], drawn: Drawn, show: str, stopping: Iterable[str]) -> list[Row]:
    """All rows; `drawn` remembers those of the history."""
    rows: list[Row] = []
    asked = frozenset(stopping)
    if found.running:
        rows.append(_heading("Running"))
        rows += [running_row(entry, jobs.get(entry.id), stopping=entry.id in asked) for entry in found.running]
    if found.waiting:
        rows.append(_heading("Waiting", _count(len(found.waiting))))
        rows += [waiting_row(entry, n, stopping=entry.id in asked) for n, entry in enumerate(found.waiting, 1)]
    states = SHOWS[show]
    past = found.history if show == "all" else [entry for entry in found.history if entry.state in states]
    if found.history:
        told = "" if show == "all" else f"only {show}: {len(past):,}"
        rows.append(_heading("History", _count(len(found.history)), told))
        rows += [drawn_row(entry, drawn) for entry in past]
    return rows


def _heading(title: str, count: str = "", told: str = "") -> Row:
    return Row(f"heading {title}", (title, count, told), heading=True)


def _count(jobs: int) -> str:
    return f"{jobs:,} job" if jobs == 1 else f"{jobs:,} jobs"


def running_row(entry: Entry, now: JobNow | None, *, stopping: bool) -> Row:
    state = "▶ stopping" if stopping or entry.stopping else "▶ running"
    when, left = moment(entry.started or entry.created), "" if entry.mine else f"pid {entry.pid}"
    if now:
        state = state if stopping or entry.stopping else f"▶ {doing(now)}"
        left = clock(time.time() - now.started) if now.started else UNKNOWN
        if progress := now.progress:
            share = progress.done / progress.total if progress.total else None
            when = f"{bar(share, 6)}{f'{share:4.0%}' if share is not None else ''}"
            left = f"{clock(progress.eta_s)} left" if progress.eta_s is not None else left
    return _row(entry, (state, "accent"), when, left)


def doing(now: JobNow) -> str:
    """The stage of a running job in a word."""
    if now.component:
        return "load"
    if now.stage is None and now.warnings and now.warnings[-1].code == "waiting-for-device":
        return "held up"
    return now.stage or "start"


def waiting_row(entry: Entry, number: int, *, stopping: bool) -> Row:
    state = "· stopping" if stopping or entry.stopping else f"· waiting {number}"
    return _row(entry, (state, ""), moment(entry.created), UNKNOWN if entry.mine else f"pid {entry.pid}")


def drawn_row(entry: Entry, drawn: Drawn) -> Row:
    """The row of a job that is over, drawn once."""
    before = drawn.get(entry.id)
    if before and before[0] == entry:
        return before[1]
    took = clock(entry.seconds) if entry.seconds is not None else clock(span(entry))
    row = _row(entry, SIGNS.get(entry.state, (entry.state, "")), moment(entry.finished or entry.created), took)
    drawn[entry.id] = (entry, row)
    return row


def drawn_rows(entries: Iterable[Entry]) -> Drawn:
    drawn: Drawn = {}
    for entry in entries:
        if not entry.live:
            drawn_row(entry, drawn)
    return drawn


def _row(entry: Entry, state: Cell, when: str, took: str) -> Row:
    figures = entry.figures
    size = f"{figures['width']}x{figures['height']}" if {"width", "height"} <= figures.keys() else UNKNOWN
    frames, steps = (str(figures.get(name, UNKNOWN)) for name in ("frames", "steps"))
    cells: Sequence[Cell] = (state, short_model(entry.model), entry.prompt, size, frames, steps, when, took)
    return Row(entry.id, tuple(cells), words=f"{entry.id} {entry.output or ''} {entry.problem or ''} {entry.owner}")


def short_model(model: str) -> str:
    return model.rstrip("/").rsplit("/", 1)[-1]


def span(entry: Entry) -> float | None:
    """Seconds from start to end, where both are known."""
    if not (entry.started and entry.finished):
        return None
    return (datetime.fromisoformat(entry.finished) - datetime.fromisoformat(entry.started)).total_seconds()


def moment(stamp: str | None) -> str:
    """`11-21 09:14` in local time; the year where it is another one."""
    if stamp is None:
        return UNKNOWN
    local = datetime.fromisoformat(stamp).astimezone()
    return local.strftime("%m-%d %H:%M" if local.year == time.localtime().tm_year else "%Y-%m-%d")
