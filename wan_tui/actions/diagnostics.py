"""What can be done in the place `diagnostics`."""

from __future__ import annotations

from wan_tui.actions.action import Action

ACTIONS: tuple[Action, ...] = ()
