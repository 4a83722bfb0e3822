"""What can be done in the place `library`."""

from __future__ import annotations

from wan_tui.actions.action import Action

ACTIONS = (
    Action("library.download", "d", "Download", "Bring the model here, or go on with what was begun."),
    Action("library.compose", "e,n", "Compose", "Ask for a video of this model."),
    Action("library.verify", "v", "Verify", "Read every byte of it and compare: needs no network."),
    Action("library.check", "c", "Check", "Whether it runs on this box, and what stands in the way."),
    Action("library.stop", "x,p,space", "Stop", "Stop what is done to this model; what came stays."),
    Action("library.show", "t", "Show", "Show all models, those on disk, or those that may run here."),
    Action("library.repair", "m", "Repair", "Fetch what is missing or damaged again, and nothing else.", False),
    Action("library.import", "i", "Import", "Take its files from a folder on this box.", False),
    Action("library.remove", "D,delete", "Remove", "Take it off the disk; shows what goes and asks first.", False),
    Action("library.copy-path", "y", "Copy path", "Copy where it lies; reaches your clipboard over SSH, too.", False),
    Action("library.explain", "w", "Why", "Why the last work on this model failed, in full.", False),
    Action("library.refresh", "R,r", "Refresh", "Read the manifest and the disk again.", False),
)
