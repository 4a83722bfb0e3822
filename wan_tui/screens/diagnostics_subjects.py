"""What can be checked: the models of the catalog with their variants, as they are on this box."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.units import size
from wan_tui.drawing import UNKNOWN
from wan_tui.screens.library_rows import HERE
from wan_tui.widgets.listing import Cell, Column, Row

if TYPE_CHECKING:
    from engine.runtime.report import Report

BOX = "\0box"  # the key of this box among models and paths
COLUMNS = (
    Column("MODEL", keep="end"),
    Column("STATE", 9, drop=2),
    Column("SIZE", 9, right=True, drop=1),
    Column("RUNS HERE", 13),
)
_STATES = {"corrupt": "bad", "partial": "warn", "complete": "", "verified": "good"}
_VERDICTS = {
    "runs": ("✓ runs", "good"),
    "conditions": ("! conditions", "warn"),
    "cannot-run": ("✗ cannot run", "bad"),
}


@dataclass(frozen=True)
class Known:
    """A model or a variant: `here` is whether any of it is on this box; `outlook` the word for how it goes onto it,
    None where that is unknown, and `runnable` whether this version runs it."""

    id: str
    title: str
    state: str
    bytes: int | None
    here: bool
    outlook: str | None
    runnable: bool


def gather() -> tuple[Known, ...]:
    """All there are. Raises `JobError` where the manifest is broken."""
    from engine.catalog import load_catalog
    from engine.compat.machine import this_machine
    from engine.library.digest import Digests
    from engine.library.item import Item
    from engine.library.locate import look
    from engine.runtime.check import able
    from engine.runtime.outlook import outlooks

    catalog, digests, found = load_catalog(), Digests(), []
    models = able(catalog)
    known = outlooks(models, this_machine())
    for spec in catalog.models:
        word = "yes" if spec.builtin else known[spec.id].word if spec.id in known else None
        runs = spec in models
        for variant in (None, *spec.variants):
            item = Item(spec, variant)
            disk = look(item, digests)
            here = disk.state != "absent"
            goes = runs and (variant is None or variant.runnable)
            bytes = disk.present_bytes if here else item.expected_bytes
            state = "built in" if spec.builtin else disk.state
            found.append(Known(item.id, spec.title, state, bytes or None, here, word if goes else None, goes))
    return tuple(found)


def rows(known: Sequence[Known], folders: Iterable[str], checked: Mapping[str, Report | None]) -> list[Row]:
    """This box, what is on disk, folders that were checked, and the rest. `checked` holds the reports there are; None
    where a check failed."""
    shown = [Row(BOX, ("This box",))]
    groups = (
        ("On this box", [_row(one, checked) for one in known if one.here]),
        ("Folders", [Row(path, (path, "folder", "", _verdict(path, checked, ("", "")))) for path in folders]),
        ("Not on this box", [_row(one, checked) for one in known if not one.here]),
    )
    for heading, group in groups:
        if group:
            shown += [Row(f"\0{heading}", (heading,), heading=True), *group]
    return shown


def _row(one: Known, checked: Mapping[str, Report | None]) -> Row:
    tone = "dim" if not one.here else _STATES.get(one.state, "")
    known: Cell = ("not yet", "dim")
    if one.runnable:
        known = (UNKNOWN, "dim") if one.outlook is None else (one.outlook, HERE.get(one.outlook, ""))
    amount = UNKNOWN if one.bytes is None else size(one.bytes)
    return Row(one.id, (one.id, (one.state, tone), amount, _verdict(one.id, checked, known)), one.title)


def _verdict(key: str, checked: Mapping[str, Report | None], unknown: Cell) -> Cell:
    if key not in checked:
        return unknown
    report = checked[key]
    return ("✗ no report", "bad") if report is None else verdict_cell(report)


def verdict_cell(report: Report) -> Cell:
    from wan_tui.telling import NO_ROOM

    if report.verdict == "conditions" and any(one.code in NO_ROOM for one in report.findings):
        return "! too big", "warn"
    return _VERDICTS[report.verdict]
