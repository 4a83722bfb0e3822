"""What is asked over any place: what to do, in which colours, whether to cancel, how to leave."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from wan_tui.actions import ACTIONS, BY_ID
from wan_tui.background import in_background
from wan_tui.settings import save_setting
from wan_tui.text import one_line
from wan_tui.widgets.ask import Ask
from wan_tui.widgets.choose import Choose, Option

if TYPE_CHECKING:
    from wan_tui.app import WanApp


def ask_what_to_do(app: WanApp) -> None:
    """Every action by its name, those of the place that is shown first."""
    if len(app.screen_stack) > 1:
        return
    here = getattr(app.screen, "PLACE", "")
    ordered = sorted(ACTIONS, key=lambda action: (action.place != here, action.place != "app"))
    options = [
        Option(action.id, _titled(action.place, here, action.title), action.help, _key_of(action.id, app))
        for action in ordered
        if action.place != "list"
    ]

    def chosen(id: str | None) -> None:
        if id:
            app.call_later(app.perform, id)

    app.push_screen(Choose("What to do", options), chosen)


def _titled(place: str, here: str, title: str) -> str:
    return title if place in (here, "app") else f"{place.capitalize()}: {title}"


def _key_of(id: str, app: WanApp) -> str:
    keys = [app.get_key_display(binding) for binding in app.own_bindings() if binding.id == id]
    return " ".join(dict.fromkeys(keys)) or BY_ID[id].keys.split(",")[0]


def ask_for_colours(app: WanApp) -> None:
    """The themes, ours first. The one that is chosen is kept among the settings."""
    if "NO_COLOR" in os.environ:
        app.tell("NO_COLOR is set: there are no colours to choose.", "warning")
        return
    themes = sorted(app.available_themes.items(), key=lambda pair: not pair[0].startswith("wan-"))
    options = [Option(name, name, note="dark" if theme.dark else "light") for name, theme in themes]

    def chosen(name: str | None) -> None:
        if name:
            app.theme = name
            app.settings = replace(app.settings, theme=name)
            in_background(app, lambda: save_setting("theme", name), lambda _: None, app.show_error)

    app.push_screen(Choose("Colours", options, current=app.theme), chosen)


def ask_whether_to_cancel(app: WanApp) -> None:
    """The job that runs is cancelled where that is agreed to."""
    job = app.live.at_work(app.session.waiting)
    if job is None:
        app.tell("No job runs.", "warning")
        return

    def answered(agreed: bool | None) -> None:
        if agreed:
            app.session.cancel(job.id)

    detail = "What was computed of it is lost; the jobs that wait go on."
    app.push_screen(Ask(f"Cancel the job that runs ({one_line(job.model)})?", detail, yes="cancel it"), answered)


def ask_how_to_leave(app: WanApp) -> None:
    """While work is under way: to stay, to let it finish, or to stop it."""
    if isinstance(app.screen, Choose):
        return
    ways = (
        Option("stay", "Stay", "Nothing is stopped."),
        Option("finish", "Leave, and let it finish", "The engine works on in this terminal, without a screen."),
        Option("stop", "Stop it, and leave", "Jobs are cancelled; what was downloaded stays and is gone on with."),
    )

    def chosen(way: str | None) -> None:
        if way in ("finish", "stop"):
            app.leave_working = way == "finish"
            app.exit(0)

    app.push_screen(Choose("Work is under way", ways), chosen)
