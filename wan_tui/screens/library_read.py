"""The library as it is now: the manifest, what is on disk, and what may run here. Read in a thread."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engine.catalog import Catalog, ModelSpec, load_catalog
from engine.compat.fit import Need, need_here, room
from engine.compat.identify import parameters
from engine.compat.machine import Machine
from engine.library.digest import Digests
from engine.library.item import Item
from engine.library.locate import OnDisk, look
from engine.library.room import free_bytes
from engine.paths import hub_cache, models_root
from wan_tui.composing.support import Support, support

if TYPE_CHECKING:
    from engine.runtime.outlook import Outlook


@dataclass(frozen=True)
class Entry:
    """A model or a variant. `outlook` tells how its own clip goes onto this box; None while that is not known.

    `room` is what the device has for `need`, its largest component.
    """

    item: Item
    copy: OnDisk
    support: Support
    parameters: Mapping[str, int]
    need: Need | None
    room: int | None
    outlook: Outlook | None = None

    @property
    def here(self) -> str | None:
        """`yes`, `not yet`, or the word of the outlook."""
        if not self.support.runs or (self.item.variant and not self.item.variant.runnable):
            return "not yet"
        if self.item.spec.builtin:
            return "yes" if self.copy.whole else None
        return self.outlook.word if self.outlook else None

    @property
    def runs_here(self) -> bool:
        return self.here == "yes" or (self.here != "not yet" and bool(self.outlook and self.outlook.fits))

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
    known = _outlooks(catalog.models, machine) if machine else {}
    entries = tuple(
        _entry(Item(spec, variant), digests, machine, known.get(spec.id))
        for spec in catalog.models
        for variant in (None, *spec.variants)
    )
    held = {file.path: file.present_bytes for entry in entries for file in entry.copy.files}
    return Shelf(catalog, entries, sum(held.values()), _free(models_root() or hub_cache()))


def _outlooks(models: Iterable[ModelSpec], machine: Machine) -> Mapping[str, Outlook]:
    from engine.runtime.outlook import outlooks  # the list is there before what is predicted

    return outlooks((spec for spec in models if support(spec).runs), machine)


def _entry(item: Item, digests: Digests, machine: Machine | None, outlook: Outlook | None) -> Entry:
    counts = parameters(item.spec)
    need = need_here(counts, machine) if machine else None
    there = room(machine) if machine else None
    return Entry(item, look(item, digests), support(item.spec), counts, need, there, outlook)


def _free(place: Path) -> int | None:
    try:
        return free_bytes(place)
    except OSError:
        return None
