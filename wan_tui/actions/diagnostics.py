"""What can be done in the place `diagnostics`."""

from __future__ import annotations

from wan_tui.actions.action import Action

ACTIONS: tuple[Action, ...] = (
    Action("diagnostics.check", "c", "Check", "Check the model or folder under the cursor; a report is made again."),
    Action("diagnostics.mend", "m", "Mend", "What the app can do about what was found: do it, or choose one of them."),
    Action("diagnostics.folder", "o", "Folder", "Check any folder or file of weights: give its path."),
    Action(
        "diagnostics.smoke", "s", "Smoke test", "Load every component, then render the smallest clip and look at it."
    ),
    Action("diagnostics.stop", "x", "Stop", "Stop the smoke test, or the export, that runs."),
    Action("diagnostics.export", "e", "Export", "Write all there is to know about the model into a file to pass on."),
    Action(
        "diagnostics.copy-path", "y", "Copy path", "Copy the path of the clip or the exported file, else of the model."
    ),
)
