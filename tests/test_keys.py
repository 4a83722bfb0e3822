"""The last two lines: a click on a key that is shown does what the key does."""

from __future__ import annotations

import asyncio
from functools import partial

from rich.cells import cell_len
from textual.pilot import Pilot

from tests.app import shown, until
from wan_tui.app import WanApp
from wan_tui.session import Session
from wan_tui.settings import Settings
from wan_tui.widgets.filtered import Filtered
from wan_tui.widgets.help import Help
from wan_tui.widgets.keys import Keys


async def click(pilot: Pilot[int], text: str) -> None:
    lines = shown(pilot.app).splitlines()
    row = max(number for number, line in enumerate(lines) if text in line)
    await pilot.click(offset=(cell_len(lines[row].split(text)[0]) + 1, row))


def at_place(app: WanApp, title: str) -> bool:
    return app.current_mode.startswith(title[:5].lower())


def test_a_click_does_what_the_key_does() -> None:
    async def go() -> None:
        app = WanApp(Session(), Settings())
        async with app.run_test(size=(80, 24)) as pilot:
            try:
                await until(pilot, lambda: "c Check" in shown(app))
                await click(pilot, "/ Filter")
                await until(pilot, lambda: app.screen.query_one(Filtered).query("Input").first().has_focus)
                await pilot.press("escape")
                for title in ("Diagnose", "Compose", "Monitor", "Queue", "Gallery", "Library"):
                    await click(pilot, title)
                    await until(pilot, partial(at_place, app, title))
                await click(pilot, "? Help")
                await until(pilot, lambda: isinstance(app.screen, Help))
                await pilot.click(offset=(2, 22))  # below a question nothing is done
                assert isinstance(app.screen, Help)
            finally:
                await asyncio.to_thread(app.session.stop, "user")

    asyncio.run(go())


def test_the_footer_asks_in_vain_while_a_place_is_taken_away() -> None:
    async def go() -> None:
        app = WanApp(Session(), Settings())
        async with app.run_test() as pilot:
            await app.switch_mode("queue")
            await until(pilot, lambda: app.screen.is_mounted and bool(app.screen.query("#queue-jobs")))
            await app.screen.query_one("#queue-jobs").remove()
            app.screen.query_one(Keys).render()
            assert app.screen.check_action("again", ()) is False

    asyncio.run(go())
