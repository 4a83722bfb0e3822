"""What can be done in the place `queue`."""

from __future__ import annotations

from wan_tui.actions.action import Action

ACTIONS = (
    Action(
        "queue.cancel",
        "x,delete",
        "Cancel",
        "Stop the job, or take it out of the queue. Asks where work would be lost; a job of another process is asked.",
    ),
    Action("queue.again", "r", "Run again", "Queue the job once more: the same video, or with a new seed."),
    Action("queue.earlier", "K", "Earlier", "Let a waiting job run one place earlier."),
    Action("queue.later", "J", "Later", "Let a waiting job run one place later."),
    Action("queue.compose", "e", "Compose", "Take the job's settings into the composer."),
    Action("queue.states", "t", "Show", "Show all jobs, those that failed, or those that finished."),
    Action("queue.log", "l", "Log", "What the job said while it ran, if it ran in this session.", False),
    Action("queue.copy-path", "y", "Copy path", "Copy the path of the job's video.", False),
    Action("queue.open", "o", "Gallery", "Go to the finished videos.", False),
    Action("queue.refresh", "R", "Refresh", "Read the journal again now.", False),
)
