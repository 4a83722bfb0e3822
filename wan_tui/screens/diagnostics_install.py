"""The remedy `install-deps`: the exact command is shown, and runs only when the user agrees."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from engine.errors import WanError
from wan_tui.background import in_background
from wan_tui.widgets.ask import Ask

if TYPE_CHECKING:
    from engine.control import Control
    from wan_tui.app import WanApp
    from wan_tui.installing import Installed, Missing

_LOG = "in the log (F8)"


def ask_to_install(app: WanApp, reference: str) -> None:
    """Find out what the model or folder misses here, and ask whether to install it."""

    def look() -> Missing:
        from wan_tui.installing import missing

        return missing(reference)

    in_background(app, look, lambda wanted: _ask(app, wanted), app.show_error)


def _ask(app: WanApp, wanted: Missing) -> None:
    from wan_tui.installing import need_lines

    for problem in wanted.problems:
        app.tell(problem, "warning")
    if not wanted.needs:
        app.tell(f"{wanted.name}: nothing is missing.")
        return

    def answered(agreed: bool | None) -> None:
        if agreed:
            _install(app, wanted)

    detail = "\n".join([*need_lines(wanted), "", shlex.join(wanted.command)])
    app.push_screen(Ask(f"Run this command, for {wanted.name}?", detail, yes="run it"), answered)


def _install(app: WanApp, wanted: Missing) -> None:
    def work(control: Control) -> None:
        from wan_tui.installing import install_missing

        try:
            done = install_missing(wanted, control, said=_LOG, answered=False)
        except WanError as error:
            app.call_later(app.show_error, error)
        else:
            app.call_later(_installed, app, wanted, done)

    name = f"packages of {wanted.name}"
    if app.session.transfer(name, work, lambda state: app.call_later(app.tell_place)):
        app.tell(f"Installing; what the installer says stands {_LOG}.")
    else:
        app.tell("They are being installed already.", "warning")


def _installed(app: WanApp, wanted: Missing, done: Installed) -> None:
    from wan_tui.installing import also_lines, installed_line

    app.tell("\n".join([f"Installed {installed_line(wanted, done)}", *(f"also {line}" for line in also_lines(done))]))
    if any(need.installed for need in wanted.needs):
        app.tell("Start wan-tui again: what it has loaded of the old versions stays until then.", "warning")
    from wan_tui.screens.diagnostics import check_again

    check_again(app)
