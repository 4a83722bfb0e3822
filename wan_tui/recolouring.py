"""The user's themes that change while the app runs: read again, and shown at once where one is in use."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from textual.app import App

from wan_tui.background import in_background
from wan_tui.themes import ThemeNews, own_stamps, theme_news

if TYPE_CHECKING:
    from wan_tui.app import WanApp

_EVERY_S = 1.0


class Recolouring:
    """Looks once a second at times and sizes of the files, in a thread. One that is no theme any more is told once,
    and what was read of it before stays."""

    def __init__(self, app: WanApp) -> None:
        self._app = app
        self._seen = own_stamps()

    def start(self) -> None:
        """Begin to look. Without colours there is nothing to show."""
        if "NO_COLOR" not in os.environ:
            self._app.set_timer(_EVERY_S, self._look)

    def _look(self) -> None:
        in_background(self._app, lambda: theme_news(self._seen), self._take, self._app.show_error)

    def _take(self, news: ThemeNews) -> None:
        app, self._seen = self._app, news.stamps
        for problem in news.problems:
            app.tell(problem, "warning")
        for theme in news.themes:
            app.register_theme(theme)
            if theme.name in (app.theme, app.settings.theme):  # what was asked for may not have been one at the start
                app.set_reactive(App.theme, theme.name)
                app.mutate_reactive(App.theme)
        self.start()
