"""What can be done everywhere."""

from __future__ import annotations

from wan_tui.actions.action import Action

# The six places. The digit of a place's key goes there as well, where no text is typed.
ACTIONS = (
    Action("app.library", "f2,2", "Library", "The models: what there is, what is on disk.", False, True),
    Action("app.diagnostics", "f3,3", "Diagnose", "This box, and whether a model runs on it.", False, True),
    Action("app.composer", "f4,4", "Compose", "Ask for a video.", False, True),
    Action("app.monitor", "f5,5", "Monitor", "Devices, memory, and the job that runs.", False, True),
    Action("app.queue", "f6,6", "Queue", "Jobs that wait, and those that are over.", False, True),
    Action("app.gallery", "f7,7", "Gallery", "Finished videos.", False, True),
    Action("app.help", "f1,question_mark", "Help", "What this is, and its keys.", False, True),
    Action("app.palette", "ctrl+p", "Palette", "Every action, found by its name.", False, True),
    Action("app.jump", "ctrl+s,f", "Jump", "A letter over everything one can go to: type it to be there.", False, True),
    Action("app.theme", "ctrl+t", "Theme", "Choose the colours.", False),
    Action("app.messages", "f8,8", "Messages", "What was said before, with the log's last lines.", False, True),
    Action("app.cancel-job", "ctrl+k", "Cancel job", "Stop the job that runs; asks first.", False),
    Action("app.demo", "f9,9", "Demo", "A first video with the built-in model: no download, a CPU is enough.", False),
    Action("app.quit", "ctrl+q", "Quit", "Leave; asks first while a job or a download runs.", False, True),
)
