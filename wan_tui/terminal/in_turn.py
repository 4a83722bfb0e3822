"""Keys in turn: each is judged when those before it have done all their work.

Textual gives a key that a binding takes before all others to the app at once, while letters wait in line at the widget
one types in, and opens a screen or a filter some moments after the key that asks for it. On a slow line keys come in
bursts: then `/demo` would press `d` in the list, and Ctrl-R would queue half a prompt.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import Any

from textual import events
from textual.app import App
from textual.dom import DOMNode

_MOST_S = 0.25  # for one widget that does not answer: a key is late then, never lost


class InTurn(App[int]):
    """An app whose keys wait for one another. The first of them waits for nobody."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._held: deque[events.Key] = deque()
        self._key_works = False

    async def on_event(self, event: events.Event) -> None:
        if isinstance(event, events.Key) and not self._has_screen():
            return
        if not isinstance(event, events.Key) or event.is_forwarded:
            await super().on_event(event)
        elif self._key_works:
            self._held.append(event)
        else:
            await self._take(event)

    async def _take(self, key: events.Key) -> None:
        self._key_works = True
        try:
            await super().on_event(key)
        finally:
            self._done = asyncio.create_task(self._when_done())  # kept, else it might be collected

    async def _when_done(self) -> None:
        """Once for the key on its way up to the app, once for what it asked for."""
        for _ in range(2):
            for node in self._from_focus():
                await _reached(node)
        self.call_later(self._next)

    def _from_focus(self) -> list[DOMNode]:
        stack = self._screen_stacks.get(self._current_mode)
        if not stack:  # on the way in or out
            return [self]
        return [*(stack[-1].focused or stack[-1]).ancestors_with_self]

    def _has_screen(self) -> bool:
        """There is none on the way in or out: Textual would look for a key's binding on it, and fail."""
        return bool(self._screen_stacks.get(self._current_mode))

    async def _next(self) -> None:
        if self._held and self._has_screen():
            await self._take(self._held.popleft())
        else:
            self._key_works = False


async def _reached(node: DOMNode) -> None:
    """Until it has handled all that was said to it before."""
    done = asyncio.Event()
    if node.call_later(done.set):
        with suppress(TimeoutError):
            await asyncio.wait_for(done.wait(), _MOST_S)
