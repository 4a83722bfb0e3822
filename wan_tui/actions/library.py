"""What can be done in the place `library`."""

from __future__ import annotations

from wan_tui.actions.action import Action

ACTIONS: tuple[Action, ...] = ()
