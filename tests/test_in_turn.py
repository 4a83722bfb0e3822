"""Keys that come in a burst, as a line that stood still for a while hands them on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from textual.events import Key
from textual.keys import _character_to_key
from textual.pilot import Pilot
from textual.widgets import Input

from tests.app import shown, until
from wan_tui.app import WanApp
from wan_tui.session import Session
from wan_tui.settings import Settings
from wan_tui.widgets.ask import Ask
from wan_tui.widgets.help import Help


def typed(app: WanApp, text: str) -> None:
    for char in text:
        app.post_message(Key(_character_to_key(char), char))


def open_app(steps: Callable[[WanApp, Pilot[Any]], Awaitable[None]]) -> None:
    async def go() -> None:
        session = Session()
        app = WanApp(session, Settings())
        async with app.run_test(size=(80, 24)) as pilot:
            place: Any = app.screen
            await until(pilot, lambda: place.settled)
            await steps(app, pilot)
        session.stop("the test is over")

    asyncio.run(go())


def test_letters_after_a_slash_are_typed_and_press_nothing() -> None:
    async def steps(app: WanApp, pilot: Pilot[Any]) -> None:
        typed(app, "/demo")
        await until(pilot, lambda: isinstance(app.focused, Input) and app.focused.value == "demo")
        assert not app.session.transfers  # d would download

    open_app(steps)


def test_what_is_typed_into_the_palette_is_what_enter_does() -> None:
    async def steps(app: WanApp, pilot: Pilot[Any]) -> None:
        app.post_message(Key("ctrl+p", None))
        typed(app, "messages")
        app.post_message(Key("enter", None))
        await until(pilot, lambda: "Nothing was said" in shown(app))
        assert not app.session.transfers

    open_app(steps)


@pytest.mark.parametrize("keys", [("f5", "x"), ("f2", "question_mark")])
def test_a_letter_acts_in_the_place_it_was_pressed_in(keys: tuple[str, str]) -> None:
    async def steps(app: WanApp, pilot: Pilot[Any]) -> None:
        for key in (*keys, "escape", "f7", "f6"):
            app.post_message(Key(key, None))
        await until(pilot, lambda: app.current_mode == "queue")
        assert not isinstance(app.screen, Ask | Help)

    open_app(steps)


def test_a_key_on_the_way_out_is_nobody_s() -> None:
    async def steps(app: WanApp, pilot: Pilot[Any]) -> None:
        key = Key("escape", None)
        key._set_forwarded()  # come up from a screen that has gone since
        stacks, app._screen_stacks = app._screen_stacks, {}
        await app.on_event(key)
        app._screen_stacks = stacks
        assert app._exception is None

    open_app(steps)


@pytest.mark.parametrize("times", [16, pytest.param(80, marks=pytest.mark.soak)])
def test_hundreds_of_keys_are_all_taken(times: int) -> None:
    text = "a ginger cat " * times

    async def steps(app: WanApp, pilot: Pilot[Any]) -> None:
        await app.switch_mode("composer")
        await until(pilot, lambda: getattr(app.screen, "settled", False) and app.focused is not None)
        typed(app, text)
        place: Any = app.screen
        await until(pilot, lambda: place.form.texts.get("prompt") == text, 60)

    open_app(steps)
