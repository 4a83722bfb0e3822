"""The app without a terminal: what it shows as text, and waiting until it shows it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from textual.app import App
from textual.pilot import Pilot


def shown(app: App[Any]) -> str:
    """The screen as text, line by line."""
    lines = app.screen._compositor.render_strips(app.size)[: app.size.height]
    return "\n".join("".join(segment.text for segment in line).rstrip() for line in lines)


async def until(pilot: Pilot[Any], condition: Callable[[], object], seconds: float = 20) -> None:
    """Let the app work until the condition holds. A pilot's pause would wait until the engine beside it is idle."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, shown(pilot.app)
        await asyncio.sleep(0.02)
