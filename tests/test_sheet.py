"""What is not parsed a second time is what Textual's own stylesheet says."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from textual.cache import LRUCache
from textual.css.parse import parse
from textual.css.stylesheet import Stylesheet

from tests.app import until
from wan_tui.app import WanApp
from wan_tui.session import Session
from wan_tui.settings import Settings
from wan_tui.terminal.sheet import Sheet


def rules(sheet: Stylesheet) -> list[tuple[Any, ...]]:
    return [
        (rule.selectors, repr(rule.styles.get_rules()), rule.is_default_rules, rule.tie_breaker) for rule in sheet.rules
    ]


def plain(sheet: Stylesheet) -> Stylesheet:
    """The same sources and variables as Textual parses them."""
    made = Stylesheet(variables=sheet._variables)
    for read_from, (css, is_default, tie_breaker, scope) in sheet.source.items():
        made.add_source(css, read_from, is_default, tie_breaker, scope)
    made.parse()
    return made


async def visit(app: WanApp, pilot: Any, places: tuple[str, ...]) -> None:
    for place in places:
        await app.switch_mode(place)
        await until(pilot, lambda: app.screen.is_mounted and app.screen.is_running)
        await pilot.pause()


def test_it_says_what_textual_says_in_every_place_and_theme() -> None:
    async def run() -> None:
        app = WanApp(Session(), Settings())
        async with app.run_test() as pilot:
            await visit(app, pilot, WanApp.PLACES)
            assert isinstance(app.stylesheet, Sheet)
            first = rules(app.stylesheet)
            assert len(first) > 150 and first == rules(plain(app.stylesheet))
            before = app.theme
            app.theme = "wan-light"
            await pilot.pause()
            second = rules(app.stylesheet)
            assert second == rules(plain(app.stylesheet)) and second != first
            app.theme = before
            await pilot.pause()
            assert rules(app.stylesheet) == first

    asyncio.run(run())


def test_a_place_that_is_new_parses_only_what_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: Counter[tuple[Any, ...]] = Counter()

    def noted(scope: str, css: str, read_from: Any, **named: Any) -> Any:
        parsed[scope, css, read_from, named["is_default_rules"], named["tie_breaker"]] += 1
        return parse(scope, css, read_from, **named)

    monkeypatch.setattr("wan_tui.terminal.sheet._parsed", LRUCache(4))
    monkeypatch.setattr("textual.css.stylesheet.parse", noted)

    async def run() -> None:
        app = WanApp(Session(), Settings())
        async with app.run_test() as pilot:
            before = Counter(parsed)
            await visit(app, pilot, WanApp.PLACES)
            assert len(parsed) > len(before) > 10
            assert set((parsed - before).values()) == {1}

    asyncio.run(run())
