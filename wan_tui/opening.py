"""`wan-tui` alone: the app, from the shell and back to it."""

from __future__ import annotations

import os

from wan_tui.session import Session
from wan_tui.settings import load_settings
from wan_tui.terminal.means import locale_encoding, means
from wan_tui.terminal.run import run_app


def open_app(*, mouse: bool) -> int:
    """Show the app until it is left, then bring the engine to its end; the exit status."""
    settings, problems = load_settings()
    session = Session()
    found = means(os.environ, locale_encoding())
    in_ascii = settings.ascii if isinstance(settings.ascii, bool) else not found.utf8

    def make_app():  # type: ignore[no-untyped-def]  # Textual is imported once the terminal is ready for it
        from wan_tui.app import WanApp
        from wan_tui.greeting import is_first_start

        return WanApp(session, settings, problems, ascii=in_ascii, first_start=is_first_start())

    return run_app(make_app, session, mouse=mouse and settings.mouse, low_bandwidth=settings.low_bandwidth)
