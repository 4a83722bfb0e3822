"""What changes while it is hidden is painted anew when it is shown again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from textual.app import App, ComposeResult
from textual.containers import Container
from textual.widget import Widget

from tests.app import shown, until
from wan_tui.screens.monitor_lines import Lines
from wan_tui.widgets.listing import Column, Listing, Row

Say = Callable[[Widget, str], None]


def _line(widget: Widget, text: str) -> None:
    assert isinstance(widget, Lines)
    widget.show([(text,)])


def _row(widget: Widget, text: str) -> None:
    assert isinstance(widget, Listing)
    widget.show([Row("key", (text,))])


@pytest.mark.parametrize("hidden_when_it_changes", [True, False], ids=["hidden", "about to be shown"])
@pytest.mark.parametrize(
    ("make", "say"), [(lambda: Lines(id="one"), _line), (lambda: Listing([Column("")]), _row)], ids=["lines", "listing"]
)
def test_it_is_painted_anew(make: Callable[[], Widget], say: Say, hidden_when_it_changes: bool) -> None:
    class Showing(App[None]):
        def compose(self) -> ComposeResult:
            with Container():
                yield make()

    async def go() -> None:
        app = Showing()
        async with app.run_test(size=(60, 10)) as pilot:
            box = app.query_one(Container)
            (widget,) = box.children
            say(widget, "before")
            await until(pilot, lambda: "before" in shown(app))
            box.display = False
            await until(pilot, lambda: not shown(app).strip())
            if hidden_when_it_changes:
                say(widget, "after")
                await pilot.pause()
            box.display = True
            if not hidden_when_it_changes:
                say(widget, "after")
            await until(pilot, lambda: shown(app).strip())
            assert ("after" in shown(app), "before" in shown(app)) == (True, False)

    asyncio.run(go())
