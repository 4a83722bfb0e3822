"""What can be done in the place `composer`.

Letters are typed here, so each thing has a key that works while one types; its letter works after Esc.
"""

from __future__ import annotations

from wan_tui.actions.action import Action

ACTIONS = (
    Action("composer.run", "ctrl+r,f10,r", "Run", "Check the job and queue it; the form stays as it is.", True, True),
    Action("composer.editor", "ctrl+g,e", "Editor", "The prompt one is in, or the prompt, in $EDITOR.", True, True),
    Action("composer.open", "ctrl+o,o", "Open", "Load a job file, or the one beside a clip.", True, True),
    Action("composer.presets", "ctrl+l,p", "Presets", "Settings under a name: take some, or save these.", True, True),
    Action("composer.sweep", "f11,s", "Sweep", "Many clips: several values of one field, or of some.", True, True),
    Action(
        "composer.save", "f12,w", "Save", "Save the form as a job file; asks before it writes over one.", True, True
    ),
    Action("composer.default", "ctrl+n,d", "Default", "Leave the field to the model again.", False, True),
    Action("composer.seed-mode", "ctrl+y,m", "Seeds", "Seeds drawn at random, fixed, or counted on.", False),
    Action("composer.plan", "v", "Plan", "All that is known of the job, and what can be done about a problem.", False),
    Action("composer.instead", "a", "Instead", "Settings that fit, or are faster: take some into the form.", False),
    Action(
        "composer.back", "u", "Take back", "The form as it was before it was loaded over, preset or emptied.", False
    ),
    Action("composer.new", "n", "New", "Begin with an empty form; u brings the old one back.", False),
    Action("composer.write", "i,enter", "Write", "Type in the form again.", False),
)
