"""The place `diagnostics`."""

from __future__ import annotations

from textual.app import ComposeResult

from wan_tui.actions import bindings
from wan_tui.screens.place import Place
from wan_tui.widgets.filtered import Filtered
from wan_tui.widgets.listing import Column


class Diagnostics(Place):
    PLACE = "diagnostics"
    LABEL = "Diagnostics"
    ABOUT = ""
    BINDINGS = bindings("diagnostics")

    def body(self) -> ComposeResult:
        yield Filtered([Column("NAME")], empty="Not built yet.", id="rows")
