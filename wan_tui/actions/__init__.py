"""Every action of the app in one list: from it come the keys, the footer, the help and the palette."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from wan_tui.actions import app, composer, diagnostics, gallery, library, lists, monitor, queue
from wan_tui.actions.action import Action

if TYPE_CHECKING:
    from textual.binding import BindingType

ACTIONS: tuple[Action, ...] = (
    *app.ACTIONS,
    *library.ACTIONS,
    *diagnostics.ACTIONS,
    *composer.ACTIONS,
    *monitor.ACTIONS,
    *queue.ACTIONS,
    *gallery.ACTIONS,
    *lists.ACTIONS,
)
BY_ID = {action.id: action for action in ACTIONS}


# Keys that no text is typed with: only these may go before a field one types in.
_NO_TEXT = re.compile(r"f\d+|(ctrl|alt)\+.+")


def bindings(place: str) -> list[BindingType]:
    """The keys of one place as Textual takes them; users rebind them by the action's id."""
    from textual.binding import Binding

    return [
        Binding(
            key,
            action.method,
            action.title,
            show=action.shown,
            priority=action.priority and bool(_NO_TEXT.fullmatch(key)),
            tooltip=action.help,
            id=action.id,
        )
        for action in ACTIONS
        if action.place == place
        for key in action.keys.split(",")
    ]
