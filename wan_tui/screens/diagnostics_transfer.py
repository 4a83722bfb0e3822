"""Remedies that fetch, verify or take over files: done in a thread of the session, their progress told by its bus."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from wan_tui.background import in_background
from wan_tui.screens.library_work import Said, fetching, importing, verifying

if TYPE_CHECKING:
    from engine.control import Control
    from engine.events import Bus
    from engine.library.item import Item
    from wan_tui.app import WanApp

_BEGUN = {
    "download": "{} is being downloaded; the library shows how far it is.",
    "repair": "{} is being verified, then what is bad is fetched again; the library shows how far it is.",
    "verify": "{} is being verified; the library shows how far it is.",
    "import": "Files of {} are being taken over; the library shows how far it is.",
}


def transfer(app: WanApp, reference: str, kind: str, folder: str = "") -> None:
    """Begin `kind` (download, repair, verify or import from `folder`) of the item that is named."""

    def named() -> Item:
        from engine.catalog import load_catalog
        from engine.library.item import Item

        return Item(*load_catalog().find(reference))

    in_background(app, named, lambda item: _begin(app, item, kind, folder), app.show_error)


def _begin(app: WanApp, item: Item, kind: str, folder: str) -> None:
    works = {"download": fetching, "repair": _repairing, "verify": verifying}
    does = works.get(kind) or importing(os.path.abspath(os.path.expanduser(folder)))
    told: list[Said] = []

    def work(control: Control) -> None:
        if said := does(item, app.session.bus, control):
            told.append(said)

    def over(state: str) -> None:
        app.call_later(_over, app, item.id, state, told)

    if not app.session.transfer(item.id, work, over, "verify" if kind == "repair" else kind):
        app.tell(f"Something is under way with {item.id} already; the library shows it.", "warning")
        return
    app.tell(_BEGUN[kind].format(item.id))
    app.tell_place()


def _repairing(item: Item, bus: Bus, control: Control) -> Said | None:
    """What is bad is found, then fetched again; the bus tells how that ends."""
    said = verifying(item, bus, control)
    if said[1] != "error":
        return said
    fetching(item, bus, control)
    return None


def _over(app: WanApp, id: str, state: str, told: list[Said]) -> None:
    from wan_tui.screens.diagnostics import check_again

    for sentence, severity in told:
        app.tell(sentence, severity or "information")
    if state == "stopped":
        app.tell(f"{id}: stopped. What has come stays.")
    check_again(app)
