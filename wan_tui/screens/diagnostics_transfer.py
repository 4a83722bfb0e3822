"""Remedies that fetch, verify or take over files: done in a thread of the session, their progress told by its bus."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from wan_tui.background import in_background

if TYPE_CHECKING:
    from engine.control import Control
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
    told: list[str] = []
    work = _work(app, item, kind, folder, told.append)

    def over(state: str) -> None:
        app.call_later(_over, app, item.id, state, told)

    if not app.session.transfer(item.id, work, over):
        app.tell(f"Something is under way with {item.id} already; the library shows it.", "warning")
        return
    app.live.begin(item.id, "verify" if kind == "repair" else kind)
    app.tell(_BEGUN[kind].format(item.id))
    app.tell_place()


def _work(
    app: WanApp, item: Item, kind: str, folder: str, tell: Callable[[str], object]
) -> Callable[[Control], object]:
    bus = app.session.bus

    def work(control: Control) -> None:
        from engine.library.adopt import adopt
        from engine.library.download import download
        from engine.library.verify import verify

        if kind == "import":
            done = adopt(item, Path(os.path.expanduser(folder)).absolute(), bus, control)
            lacking = f"; {len(done.lacking)} are still missing" if done.lacking else ""
            tell(f"{item.id}: {len(done.taken)} files taken over{lacking}.")
            return
        if kind == "download":
            download(item, bus, control)
            return
        found = verify(item, bus, control)
        if kind == "repair" and found.state in ("partial", "corrupt"):
            download(item, bus, control)
            found = verify(item, bus, control, quick=True)
        bad = f"; bad: {', '.join(file.info.path for file in found.bad[:3])}" if found.bad else ""
        tell(f"{item.id} is {found.state}{bad}.")

    return work


def _over(app: WanApp, id: str, state: str, told: list[str]) -> None:
    app.live.settle(id, state)
    for sentence in told:
        app.tell(sentence)
    if state == "stopped":
        app.tell(f"{id}: stopped. What has come stays.")
    app.tell_place()
    from wan_tui.screens.diagnostics import check_again

    check_again(app)
