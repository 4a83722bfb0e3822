"""The library as it is now: the manifest, what is on disk, and what may run here. Read in a thread."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from engine.catalog import Catalog, load_catalog
from engine.compat.fit import Need, fits, need_here, room
from engine.compat.identify import parameters
from engine.compat.machine import Machine
from engine.library.digest import Digests
from engine.library.item import Item
from engine.library.locate import OnDisk, look
from engine.library.room import free_bytes
from engine.paths import hub_cache, models_root
from wan_tui.composing.support import Support, support


@dataclass(frozen=True)
class Entry:
    """A model or a variant. `here` is yes, may fit, too big or not yet; None while that is not known.

    `room` is what the device has for `need`, its largest component.
    """

    item: Item
    copy: OnDisk
    support: Support
    parameters: Mapping[str, int]
    need: Need | None
    room: int | None
    here: str | None

    @property
    def id(self) -> str:
        return self.item.id

    @property
    def bytes(self) -> int | None:
        """What it has when whole."""
        return self.copy.bytes or self.item.expected_bytes

    @property
    def on_disk(self) -> bool:
        return self.copy.state != "absent"


@dataclass(frozen=True)
class Shelf:
    """`held_bytes` is what all of it takes on disk, `free_bytes` what more would find room."""

    catalog: Catalog
    entries: tuple[Entry, ...]
    held_bytes: int
    free_bytes: int | None


def read_shelf(machine: Machine | None) -> Shelf:
    """Every model and variant of the catalog. Raises `JobError` for a manifest that is wrong."""
    catalog = load_catalog()
    digests = Digests()
    entries = tuple(
        _entry(Item(spec, variant), digests, machine) for spec in catalog.models for variant in (None, *spec.variants)
    )
    held = {file.path: file.present_bytes for entry in entries for file in entry.copy.files}
    return Shelf(catalog, entries, sum(held.values()), _free(models_root() or hub_cache()))


def _entry(item: Item, digests: Digests, machine: Machine | None) -> Entry:
    counts, supported = parameters(item.spec), support(item.spec)
    need = need_here(counts, machine) if machine else None
    there = room(machine) if machine else None
    here: str | None = None
    if not supported.runs or (item.variant and not item.variant.runnable):
        here = "not yet"
    elif item.spec.builtin:
        here = "yes"
    elif machine and (fit := fits(counts, machine)) is not None:
        here = "may fit" if fit else "too big"
    return Entry(item, look(item, digests), supported, counts, need, there, here)


def _free(place: Path) -> int | None:
    try:
        return free_bytes(place)
    except OSError:
        return None
