"""What can be done in the place `monitor`."""

from __future__ import annotations

from wan_tui.actions.action import Action

ACTIONS = (
    Action("monitor.cancel", "x", "Cancel", "Stop the job that is shown; asks first."),
    Action("monitor.log", "l", "Log", "All the job said, to scroll through; once more, or Esc, goes back."),
    Action("monitor.card", "c", "Card", "The card under the cursor in full; once more, or Esc, goes back."),
    Action("monitor.next", "n,right", "Next card", "Go to the next card."),
    Action("monitor.previous", "p,left", "Previous card", "Go to the card before.", False),
    Action("monitor.queue", "o", "Queue", "Go to the jobs that wait, and those that are over.", False),
)
