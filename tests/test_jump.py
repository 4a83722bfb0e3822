"""Jumping: signs over what can have the focus, and nothing else of the screen another."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from rich.style import Style
from textual.app import App
from textual.widget import Widget

from tests.app import Keyboard, Watched, composer, painted, ragged, send, shown, until
from wan_tui.screens.composer import Composer
from wan_tui.screens.library import Library
from wan_tui.session import Session
from wan_tui.settings import Settings
from wan_tui.widgets.ask import Ask
from wan_tui.widgets.choose import Choose
from wan_tui.widgets.entry import Entry
from wan_tui.widgets.jump import LETTERS, Jump, targets
from wan_tui.widgets.words import Words

SMALL = [(80, 24), (60, 20)]
Steps = Callable[[Keyboard, Watched], Awaitable[None]]


def sit_before(steps: Steps, size: tuple[int, int] = (80, 24), **more: Any) -> None:
    async def go() -> None:
        app = Watched(Session(), Settings(), **more)
        async with app.run_test(size=size) as pilot:
            try:
                await steps(Keyboard(app, pilot), app)
            finally:
                await asyncio.to_thread(app.session.stop, "user")
        assert app.crash is None

    asyncio.run(go())


async def still(at: Keyboard) -> list[list[tuple[str, str]]]:
    """The screen once it has not changed for a while."""
    before, now = None, cells(at.app)
    while now != before:
        await asyncio.sleep(0.3)
        before, now = now, cells(at.app)
    return now


async def form(at: Keyboard) -> Composer:
    """The composer, one typing in the prompt."""
    place = await composer(at)
    assert place.focused is place._view.inputs["prompt"]
    return place


async def signs(at: Keyboard, key: str = "ctrl+s") -> dict[str, Widget]:
    """Ask for the signs; whom each letter stands for."""
    below = at.app.screen
    known = {letter: widget for letter, (widget, _) in targets(below).items()}
    await at.press(key)
    await until(at.pilot, lambda: isinstance(at.app.screen, Jump) and at.app.screen.is_mounted)
    return known


def cells(app: App[Any]) -> list[list[tuple[str, str]]]:
    """Each cell of the screen: its character and how it is dressed; a blank has no colour of its own."""
    return [[(char, dress(char, part.style)) for part in line for char in part.text] for line in painted(app)]


def dress(char: str, style: Style | None) -> str:
    style = style or Style()
    front = style.color if char != " " or style.reverse else None
    return f"{front} on {style.bgcolor} bold {style.bold} reverse {style.reverse}"


def seen_signs(app: App[Any], before: list[list[tuple[str, str]]]) -> dict[tuple[int, int], str]:
    """Where the screen is another than before: runs of cells, by column and line."""
    found: dict[tuple[int, int], str] = {}
    after = cells(app)
    if len(after) != len(before):  # nothing is painted yet
        return found
    for y, (old, new) in enumerate(zip(before, after, strict=True)):
        start = None
        for x, (one, other) in enumerate(zip(old, new, strict=True)):
            if one == other:
                start = None
                continue
            start = x if start is None else start
            found[start, y] = found.get((start, y), "") + other[0]
    return found


@pytest.mark.parametrize("size", SMALL, ids=str)
def test_only_the_signs_are_painted_one_over_each_thing(size: tuple[int, int]) -> None:
    async def steps(at: Keyboard, app: Watched) -> None:
        place = await form(at)
        place.query_one("#plan").display = False  # it tells how much memory is free
        before = await still(at)
        known = await signs(at)
        expected = {(min(seen.x, size[0] - 3), seen.y): f" {letter} " for letter, (_, seen) in targets(place).items()}
        await until(at.pilot, lambda: seen_signs(app, before) == expected)
        assert len(known) > 6
        assert set(known.values()) >= {place._view.inputs[key] for key in ("model", "prompt")}
        assert all(widget.region.overlaps(app.screen.region) for widget in known.values())
        assert ragged(app) == []
        await at.press("escape")
        await until(at.pilot, lambda: cells(app) == before)

    sit_before(steps, size)


def test_a_letter_goes_there_and_is_not_typed() -> None:
    async def steps(at: Keyboard, app: Watched) -> None:
        place = await form(at)
        await at.press(*"cat")
        for key in ("model", "prompt"):
            aim = place._view.inputs[key]
            known = await signs(at)
            (letter,) = [letter for letter, widget in known.items() if widget is aim]
            await at.press(letter.upper())  # Caps Lock is no trap
            await until(at.pilot, lambda aim=aim: app.screen is place and place.focused is aim)  # type: ignore[misc]
        await at.press(*"s!")
        await until(at.pilot, lambda: place.form.texts.get("prompt") == "cats!")
        assert "model" not in place.form.texts

    sit_before(steps)


def test_keys_in_a_burst_find_the_place() -> None:
    """On a slow line they come faster than a screen opens."""

    async def steps(at: Keyboard, app: Watched) -> None:
        place = await form(at)
        letters = {widget: letter for letter, (widget, _) in targets(place).items()}
        seed = place._view.inputs["model"]
        await asyncio.gather(*(send(app, key) for key in ("ctrl+s", letters[seed], *"demo")))
        await until(at.pilot, lambda: place.form.texts.get("model") == "demo")

    sit_before(steps)


@pytest.mark.parametrize("key", ["escape", "ctrl+s", "f2", "f1", "ctrl+p", "ctrl+r", "tab", "enter", "1", "up"])
@pytest.mark.sampled(4)
def test_any_other_key_only_leaves(key: str) -> None:
    async def steps(at: Keyboard, app: Watched) -> None:
        place = await form(at)
        await signs(at)
        app.performed.clear()
        await at.press(key)
        await until(at.pilot, lambda: app.screen is place)
        await at.press("x")
        await until(at.pilot, lambda: place.form.texts.get("prompt") == "x")
        assert app.performed == []

    sit_before(steps)


@pytest.mark.soak
def test_what_moves_takes_the_signs_away() -> None:
    async def steps(at: Keyboard, app: Watched) -> None:
        place = await form(at)
        await signs(at)
        await at.pilot.resize_terminal(100, 30)
        await until(at.pilot, lambda: app.screen is place)
        await signs(at)
        await at.pilot.click(offset=(5, 5))
        await until(at.pilot, lambda: app.screen is place)
        known = await signs(at)
        (letter,) = [letter for letter, widget in known.items() if widget is place._view.inputs["model"]]
        place._view.inputs["model"].display = False
        await at.press(letter)
        await until(at.pilot, lambda: app.screen is place)
        assert place.focused is place._view.inputs["prompt"]

    sit_before(steps)


def test_where_there_is_nothing_to_go_to_it_says_so() -> None:
    async def steps(at: Keyboard, app: Watched) -> None:
        library: Library = await at.go_to("f2", Library)
        await until(at.pilot, lambda: library.settled)
        await at.press("f")
        await until(at.pilot, lambda: app.said)
        assert app.said[-1].text == "There is nothing else to go to here."
        assert app.screen is library
        app.push_screen(Ask("Sure?"))
        await until(at.pilot, lambda: isinstance(app.screen, Ask))
        await at.press("ctrl+s")
        await until(at.pilot, lambda: len(app.said) == 2)
        assert isinstance(app.screen, Ask)
        await at.leave()
        await at.press("slash")
        await until(at.pilot, lambda: isinstance(app.focused, Words) and app.focused.region.height == 1)
        known = await signs(at)  # the words and the list
        assert [type(widget) for widget in known.values()] == [type(library.listing), Words]
        await at.press("a")
        await until(at.pilot, lambda: app.focused is library.listing)

    sit_before(steps)


def test_what_has_just_come_has_no_sign_yet() -> None:
    async def steps(at: Keyboard, app: Watched) -> None:
        place = await form(at)
        known = targets(place)
        new = Entry(id="new")
        mounted = place.query_one("#form").mount(new)
        assert new in place.focus_chain
        assert targets(place) == known
        await mounted

    sit_before(steps)


@pytest.mark.soak
def test_from_the_palette() -> None:
    async def steps(at: Keyboard, app: Watched) -> None:
        place = await form(at)
        await at.press("ctrl+p")
        await until(at.pilot, lambda: isinstance(app.screen, Choose) and app.screen.focused)
        await at.press(*"jump")
        await until(at.pilot, lambda: "▸Jump" in shown(app))
        await at.press("enter")
        await until(at.pilot, lambda: isinstance(app.screen, Jump))
        await at.press("escape")
        await until(at.pilot, lambda: app.screen is place)

    sit_before(steps)


@pytest.mark.parametrize("ascii", [False, True])
def test_without_colours_a_sign_is_seen_reversed(ascii: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")

    async def steps(at: Keyboard, app: Watched) -> None:
        place = await form(at)
        place.query_one("#plan").display = False
        before = await still(at)
        await signs(at)
        await until(at.pilot, lambda: seen_signs(app, before))
        for (x, y), sign in seen_signs(app, before).items():
            assert sign.strip() in LETTERS
            assert "reverse True" in cells(app)[y][x + 1][1], (x, y)

    sit_before(steps, ascii=ascii)
