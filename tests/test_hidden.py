"""What changes while it is hidden is painted anew when it is shown again."""

from __future__ import annotations

import asyncio

import pytest
from textual.app import App, ComposeResult
from textual.containers import Container

from tests.app import shown, until
from wan_tui.screens.monitor_lines import Lines


@pytest.mark.parametrize("hidden_when_it_changes", [True, False], ids=["hidden", "about to be shown"])
def test_lines_are_painted_anew(hidden_when_it_changes: bool) -> None:
    class Showing(App[None]):
        def compose(self) -> ComposeResult:
            with Container():
                yield Lines(id="one")

    async def go() -> None:
        app = Showing()
        async with app.run_test(size=(60, 10)) as pilot:
            box = app.query_one(Container)
            lines = app.query_one(Lines)
            lines.show([("before",)])
            await until(pilot, lambda: "before" in shown(app))
            box.display = False
            await until(pilot, lambda: not shown(app).strip())
            if hidden_when_it_changes:
                lines.show([("after",)])
                await pilot.pause()
            box.display = True
            if not hidden_when_it_changes:
                lines.show([("after",)])
            await until(pilot, lambda: shown(app).strip())
            assert ("after" in shown(app), "before" in shown(app)) == (True, False)

    asyncio.run(go())
