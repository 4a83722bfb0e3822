"""What can be done in the place `composer`."""

from __future__ import annotations

from wan_tui.actions.action import Action

ACTIONS: tuple[Action, ...] = ()
