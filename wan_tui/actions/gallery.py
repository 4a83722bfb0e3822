"""What can be done in the place `gallery`."""

from __future__ import annotations

from wan_tui.actions.action import Action

ACTIONS = (
    Action("gallery.play", "space", "Play", "Play the clip beside the list, or stop it. Asks for the picture first."),
    Action("gallery.watch", "w,enter", "Full size", "Play the clip in the whole terminal."),
    Action("gallery.compose", "e,r", "Compose", "Take the clip's settings into the composer."),
    Action("gallery.copy-path", "y", "Copy path", "Copy where the clip lies; reaches your clipboard over SSH, too."),
    Action("gallery.delete", "D,delete", "Delete", "Delete the video and its settings file; asks first."),
    Action("gallery.compare", "equals_sign", "Compare", "Put the clip beside the marked one."),
    Action("gallery.mark", "m", "Mark", "Mark the clip, or take its mark away; = compares another with it."),
    Action("gallery.copy-settings", "c", "Copy settings", "Copy the clip's job as TOML.", False),
    Action("gallery.gone", "t", "Gone too", "List clips whose files are gone as well, or no more.", False),
    Action("gallery.refresh", "R", "Refresh", "Look for clips again now.", False),
    Action("gallery.scroll-down", "J,shift+down", "Scroll down", "Further down in the settings.", False),
    Action("gallery.scroll-up", "K,shift+up", "Scroll up", "Further up in the settings.", False),
)
