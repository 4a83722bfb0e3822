"""How the library's list tells its models: a row each, those on disk first."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.units import size
from wan_tui.drawing import UNKNOWN, clock
from wan_tui.widgets.listing import Cell, Column, Row

if TYPE_CHECKING:
    from wan_tui.now import TransferNow
    from wan_tui.screens.library_read import Entry

COLUMNS = (
    Column("MODEL", least=16, share=2),
    Column("TASKS", 18, drop=3),
    Column("FAMILY", 7, drop=2),
    Column("STATE", 15),
    Column("SIZE", 17, right=True),
    Column("HERE", 7, drop=1),
    Column("PLACE", least=34, share=3, drop=4, keep="end"),
)
VIEWS = {"all": "all", "disk": "on disk", "here": "what may run here"}
_DOING = {"download": ("↓", ""), "verify": ("▶", "verify "), "import": ("←", "import "), "convert": ("▶", "make ")}
_STATES = {
    "absent": ("·", "absent", "dim"),
    "partial": ("◐", "part", "warn"),
    "paused": ("◐", "paused", "warn"),
    "corrupt": ("✗", "corrupt", "bad"),
    "complete": ("●", "complete", ""),
    "verified": ("✓", "verified", "good"),
    "failed": ("✗", "failed", "bad"),
}
HERE = {"yes": "good", "fits": "good", "no": "warn", "not yet": "dim"}  # tones; of other words none


@dataclass(frozen=True)
class Now:
    """What is going on with a model: its last transfer, if any, and whether that is under way."""

    transfer: TransferNow | None = None
    running: bool = False

    @property
    def stopped(self) -> bool:
        """By the user, who is told so as the failure `stopped`."""
        known = self.transfer
        return known is not None and (known.state == "stopped" or bool(known.error and known.error.code == "stopped"))

    @property
    def failed(self) -> bool:
        known = self.transfer
        return not self.running and not self.stopped and known is not None and known.state == "failed"


def state_of(entry: Entry, now: Now) -> str:
    """The state of its files, or what happened to them last: paused, failed."""
    if now.failed:
        return "failed"
    return "paused" if now.stopped and entry.copy.state == "partial" else entry.copy.state


def state_text(entry: Entry, now: Now) -> tuple[str, str]:
    """Its state as a sign and words, and their tone."""
    if now.running and now.transfer:
        sign, verb = _DOING[now.transfer.kind]
        latest = now.transfer.latest
        if latest is None:
            return f"{sign} {verb or 'asking '}…", "accent"
        left = f"  {clock(latest.eta_s)}" if latest.eta_s is not None and not verb else ""
        return f"{sign} {verb}{percent(latest.all_done, latest.all_total)}{left}", "accent"
    state = state_of(entry, now)
    if state == "complete" and entry.item.spec.builtin:
        return "● built in", ""
    sign, word, tone = _STATES[state]
    share = f" {percent(entry.copy.present_bytes, entry.bytes)}" if word in ("part", "paused") and entry.bytes else ""
    return f"{sign} {word}{share}", tone


def percent(done: int, total: int) -> str:
    """`43 %`; never 100 before all is there."""
    return f"{100 * done // max(1, total)} %" if done < total else "100 %"


def of(done: int, total: int | None) -> str:
    """`12.3 of 34.2 GB`: the unit once where it is the same."""
    have, whole = size(done), size(total)
    if total is None:
        return have
    number, _, unit = have.partition(" ")
    return f"{number if whole.endswith(f' {unit}') else have} of {whole}"


def _size_cell(entry: Entry, now: Now) -> Cell:
    if now.failed and now.transfer and now.transfer.error:
        return now.transfer.error.code, "bad"
    if now.running and now.transfer and (latest := now.transfer.latest):
        return of(latest.all_done, latest.all_total)
    if entry.copy.state == "partial":
        return of(entry.copy.present_bytes, entry.bytes)
    return size(entry.bytes) if entry.bytes is not None else (UNKNOWN, "dim")


def row(entry: Entry, now: Now, *, under: bool) -> Row:
    """`under` stands below the model it is a variant of, and is named by what differs."""
    variant = entry.item.variant
    name: Cell = f"  :{variant.name}" if under and variant else entry.id
    here: Cell = (entry.here, HERE.get(entry.here, "")) if entry.here else (UNKNOWN, "dim")
    spec = entry.item.spec
    where = str(entry.copy.path) if entry.copy.path else ""
    return Row(
        entry.id,
        (
            name,
            (", ".join(spec.tasks), "dim"),
            spec.family,
            state_text(entry, now),
            _size_cell(entry, now),
            here,
            (where, "dim"),
        ),
        words=f"{entry.id} {spec.title} {' '.join(spec.tasks)} {entry.here or ''}",
    )


def seen(entry: Entry, view: str) -> bool:
    return view == "all" or (entry.on_disk if view == "disk" else entry.runs_here)


def grouped(entries: Iterable[Entry], make: Callable[[Entry, bool], Row]) -> list[Row]:
    """Rows under two headings, those on disk first; `make` is told whether a variant stands below its model."""
    here: list[Entry] = []
    away: list[Entry] = []
    for entry in entries:
        (here if entry.on_disk else away).append(entry)
    rows: list[Row] = []
    for title, group in (("On disk", here), ("Not on disk", away)):
        if group:
            rows.append(Row(f"# {title}", (title,), words=title, heading=True))
        model = ""
        for entry in group:
            rows.append(make(entry, entry.item.variant is not None and model == entry.item.spec.id))
            model = entry.item.spec.id
    return rows
