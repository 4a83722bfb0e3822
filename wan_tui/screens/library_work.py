"""What is done to a model in a thread of its own, each ending with the sentence that tells it, if one is needed.

A sentence has a severity, as the app tells it: information, warning or error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engine.control import Control
from engine.units import counted, size
from wan_tui.shelf import bad_because
from wan_tui.text import plain

if TYPE_CHECKING:
    from engine.catalog import Catalog
    from engine.events import Bus
    from engine.library.item import Item
    from engine.library.remove import Removal

Said = tuple[str, str]  # the sentence and its severity


@dataclass(frozen=True)
class Work:
    """`kind` is download, verify or import; `does` returns what is to be said when it is done."""

    kind: str
    does: Callable[[Item, Bus, Control], Said | None]


def fetching(item: Item, bus: Bus, control: Control) -> None:
    """What is here already is looked at, the rest fetched; the bus tells how it ends."""
    from engine.library.download import download

    download(item, bus, control)


def verifying(item: Item, bus: Bus, control: Control) -> Said:
    from engine.library.verify import verify

    found = verify(item, bus, control)
    if not found.bad and found.state != "partial":
        return f"{item.id} is {found.state}: {counted(len(found.files), 'file')}, every byte as it should be.", ""
    first = f" {plain(found.bad[0].info.path)}: {bad_because(found.bad[0])}." if found.bad else ""
    bad = counted(len(found.bad) or 1, "file")
    return f"{item.id} is {found.state}: {bad} not as it should be.{first}", "error"


def importing(folder: str) -> Callable[[Item, Bus, Control], Said]:
    def does(item: Item, bus: Bus, control: Control) -> Said:
        from engine.library.adopt import adopt

        done = adopt(item, Path(folder), bus, control)
        if not done.taken and done.lacking:
            return f"{folder} holds no file of {item.id} that is still missing.", "warning"
        left = f" {counted(len(done.lacking), 'file')} still missing." if done.lacking else ""
        return f"{item.id}: {counted(len(done.taken), 'file')}, {size(done.taken_bytes)} taken over.{left}", ""

    return does


def planned(item: Item, catalog: Catalog) -> Removal:
    """What removing it would take. Raises what stands against it."""
    from engine.library.remove import plan_removal
    from engine.runtime.using import refuse_running

    plan = plan_removal(item, catalog)
    refuse_running(item, plan)
    return plan


def removed(item: Item, plan: Removal) -> None:
    """Take it away, unless a job has begun to use it since it was planned."""
    from engine.library.remove import remove
    from engine.runtime.using import refuse_running

    refuse_running(item, plan)
    remove(plan)
