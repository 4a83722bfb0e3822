"""The app without a terminal: what it shows as text, and waiting until it shows it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from rich.cells import cell_len
from textual._context import visible_screen_stack
from textual.app import App
from textual.dom import DOMNode
from textual.events import Key
from textual.keys import _character_to_key
from textual.pilot import Pilot
from textual.strip import Strip

from wan_tui.app import WanApp
from wan_tui.screens.composer import Composer
from wan_tui.text import plain


def shown(app: App[Any]) -> str:
    """The screen as text, line by line."""
    return "\n".join("".join(segment.text for segment in line).rstrip() for line in painted(app))


def painted(app: App[Any]) -> list[Strip]:
    """The screen line by line as Textual paints it: below a question stands the place."""
    visible_screen_stack.set(app._background_screens)
    return app.screen._compositor.render_strips(app.size)[: app.size.height]


async def until(pilot: Pilot[Any], condition: Callable[[], object], seconds: float = 20) -> None:
    """Let the app work until the condition holds. A pilot's pause would wait until the engine beside it is idle."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, shown(pilot.app)
        await asyncio.sleep(0.02)


class Watched(WanApp):
    """The app, and what it was made to do: `performed` holds (the class an action was done by, its name)."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.performed: list[tuple[str, str]] = []

    async def _dispatch_action(self, namespace: DOMNode, action_name: str, params: Any) -> bool:
        done = await super()._dispatch_action(namespace, action_name, params)
        if done:
            self.performed.append((type(namespace).__name__, action_name))
        return done


async def send(app: App[Any], *keys: str) -> None:
    """Keys as the terminal sends them, one after the other; a single letter is typed."""
    for key in keys:
        single = len(key) == 1
        app.post_message(Key(_character_to_key(key) if single else key, key if single else None))
        await asyncio.sleep(0.02)


def ragged(app: App[Any]) -> list[str]:
    """What is wrong with the lines that are painted: each is exactly as wide as the terminal, and holds no control."""
    wrong = []
    for number, line in enumerate(painted(app)):
        text = "".join(segment.text for segment in line)
        if cell_len(text) != app.size.width:
            wrong.append(f"line {number} takes {cell_len(text)} of {app.size.width} cells: {text!r}")
        if plain(text) != text or "\t" in text:
            wrong.append(f"line {number} controls the terminal: {text!r}")
    return wrong


class Keyboard:
    """One who sits before the app, with nothing but keys."""

    def __init__(self, app: WanApp, pilot: Pilot[Any]) -> None:
        self.app, self.pilot = app, pilot

    async def press(self, *keys: str) -> None:
        await send(self.app, *keys)

    async def go_to(self, key: str, kind: type) -> Any:
        await self.press(key)
        await until(self.pilot, lambda: isinstance(self.app.screen, kind))
        return self.app.screen

    async def leave(self) -> None:
        await self.press("escape")
        await until(self.pilot, lambda: len(self.app.screen_stack) == 1)


async def composer(at: Keyboard) -> Composer:
    """The composer, once every field has its place: they come after the first paint."""
    place: Composer = await at.go_to("f4", Composer)
    inputs = place._view.inputs
    await until(
        at.pilot,
        lambda: place.settled and "seed" in inputs and all(one.region.width for one in inputs.values() if one.display),
    )
    return place
