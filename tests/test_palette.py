"""An action that is chosen from the palette is done, or it is said that there is nothing to do it with."""

from __future__ import annotations

import asyncio

from wan_tui.app import WanApp
from wan_tui.session import Session
from wan_tui.settings import Settings


def test_what_is_done_is_not_said_to_be_impossible() -> None:
    async def run() -> None:
        app = WanApp(Session(), Settings())
        async with app.run_test() as pilot:
            await app.perform("monitor.queue")
            await pilot.pause()
            assert [one.text for one in app.said] == []
            await app.perform("monitor.next")
            assert [one.text for one in app.said] == ["Next card: there is nothing to do that with now."]

    asyncio.run(run())
