"""The place `composer`: a form for any model, and beside it, as one types, what is known of the job."""

from __future__ import annotations

from typing import ClassVar

from wan_tui.actions import bindings
from wan_tui.screens.composer_choosing import Choosing


class Composer(Choosing):
    PLACE = "composer"
    LABEL = "Composer"
    ABOUT: ClassVar[str] = "Ask for a video. Nothing typed is lost: the form is here again at the next start."
    AUTO_FOCUS = ""  # else a question that closes would take one back into a text that was left
    BINDINGS = bindings("composer")
    DEFAULT_CSS = """
    Composer.-tall #prompt-row { height: 7; margin: 1 0; }
    Composer.-tall.-wide #prompt-row { height: 11; }
    Composer.-tall #negative-row { height: 3; }
    Composer.-tall Entry.-first { margin-top: 1; }
    Composer #sides { layout: vertical; height: 1fr; }
    Composer #plan { height: 4; padding: 0 1; background: $panel; scrollbar-size-vertical: 1; }
    Composer #plan-text { height: auto; }
    Composer.-narrow.-tall #plan { height: 12; }
    Composer.-medium #sides, Composer.-wide #sides { layout: horizontal; }
    Composer.-medium #plan { width: 40; height: 1fr; }
    Composer.-wide #plan { width: 70; height: 1fr; }
    """
