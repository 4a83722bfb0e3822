"""A timer that fires once does so, however late it comes to look at the clock."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace

import pytest
from textual import timer as textual_timer
from textual.app import App, ComposeResult
from textual.screen import Screen
from textual.widgets import Static
from textual.widgets._toast import Toast

from tests.app import shown, until
from wan_tui.app import WanApp
from wan_tui.session import Session
from wan_tui.settings import Settings
from wan_tui.terminal.punctual import Punctual


class Held(Punctual, Screen[None]):
    def compose(self) -> ComposeResult:
        yield Static("here")


class Beside(Punctual, App[None]):
    """An app that is held up whenever a timer looks at the clock."""


HELD_UP_S = 0.012  # less than the period of the screen's own timer, which would never catch up


@pytest.fixture
def held_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def look() -> float:
        time.sleep(HELD_UP_S)
        return time.monotonic()

    monkeypatch.setattr(textual_timer, "_time", SimpleNamespace(get_time=look))


def test_a_timer_of_the_app_or_of_a_screen_is_late_and_not_lost(held_up: None) -> None:
    async def run() -> None:
        fired: list[str] = []
        app = Beside()
        async with app.run_test() as pilot:
            screen = Held()
            await app.push_screen(screen)
            app.set_timer(0.01, lambda: fired.append("app"))
            screen.set_timer(0.01, lambda: fired.append("screen"))
            await until(pilot, lambda: sorted(fired) == ["app", "screen"], 5)

    asyncio.run(run())


def test_a_sentence_whose_timer_textual_lost_goes_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wan_tui.app._TOLD_S", 0.3)
    monkeypatch.setattr(Toast, "set_timer", lambda *_: None)  # lost, as one is that is late at its first look

    async def run() -> None:
        app = WanApp(Session(), Settings())
        async with app.run_test(notifications=True) as pilot:
            app.tell("It is done.")
            await asyncio.sleep(0.5)
            await until(pilot, lambda: not app.screen.query(Toast) and "It is done." not in shown(app), 5)
            app.session.stop("user")

    asyncio.run(run())
