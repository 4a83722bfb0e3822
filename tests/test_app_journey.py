"""Find, download, verify, check, compose, run, watch, cancel, run again, look, ask again: by keyboard alone."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from textual.events import Key
from textual.keys import _character_to_key

from engine.runtime.journal import Journal
from tests.app import shown
from tests.journey import MODEL, PROMPT, Hands, journey, small_library
from tests.runs import PROGRAM
from tests.tmux_run import HERE, InTmux, in_tmux
from wan_tui.app import WanApp
from wan_tui.session import Session
from wan_tui.settings import Settings
from wan_tui.widgets.picture import Picture


class OfThePilot(Hands):
    """Keys as the terminal sends them; a pilot's own would wait until the engine beside the app is idle."""

    def __init__(self, app: WanApp) -> None:
        self._app = app

    async def press(self, *keys: str) -> None:
        for key in keys:
            single = len(key) == 1
            self._app.post_message(Key(_character_to_key(key) if single else key, key if single else None))
            await asyncio.sleep(0.02)

    def screen(self) -> str:
        return shown(self._app)

    def pictured(self) -> bool:
        return any(picture._strips for picture in self._app.screen.query(Picture))

    def keep(self, file: Path) -> None:
        file.with_suffix(".svg").write_text(self._app.export_screenshot(), encoding="utf-8")


@pytest.fixture
def here(tmp_path: Path, tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the app is started; a Hub has what it needs."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with small_library(tmp_path, tiny_model("slow"), monkeypatch):
        yield tmp_path / "here"


def assert_made(here: Path) -> None:
    """What a journey leaves behind."""
    assert [row.state for row in Journal().rows()] == ["finished", "cancelled"]
    assert {row.prompt for row in Journal().rows()} == {PROMPT}
    assert sorted(file.name for file in (here / "outputs").iterdir()) == [f"{MODEL}-7.job.toml", f"{MODEL}-7.mp4"]


@pytest.mark.early
def test_the_whole_way_with_a_pilot(here: Path) -> None:
    async def go() -> None:
        app = WanApp(Session(), Settings(), first_start=True)
        async with app.run_test(size=(80, 24), notifications=True):
            try:
                await journey(OfThePilot(app))
            finally:
                await asyncio.to_thread(app.session.stop, "user")

    asyncio.run(go())
    assert_made(here)


def walk_in_tmux(size: tuple[int, int], look: Callable[[InTmux], None] = lambda _: None, **env: str) -> None:
    async def go() -> None:
        with in_tmux(PROGRAM, size, **env) as hands:
            await journey(hands)
            look(hands)
            await hands.press("ctrl+q")
            assert await hands.ends() == "0"

    asyncio.run(go())


@pytest.mark.soak
@pytest.mark.skipif(not HERE, reason="tmux is not installed")
def test_the_whole_way_in_a_terminal(here: Path) -> None:
    walk_in_tmux((80, 24))
    assert_made(here)


def without_colours(hands: InTmux) -> None:
    """Bold, reverse and the like, and no colour at all."""
    codes = {code for found in re.findall(r"\x1b\[([\d;]*)m", hands.coloured()) for code in found.split(";")}
    assert codes <= {"", "0", "1", "2", "3", "4", "7", "9", "22", "23", "24", "27", "29", "39", "49"}


@pytest.mark.soak
@pytest.mark.skipif(not HERE, reason="tmux is not installed")
@pytest.mark.parametrize("size", [(60, 20), (200, 50)])
def test_the_whole_way_in_other_terminals(size: tuple[int, int], here: Path) -> None:
    walk_in_tmux(size, without_colours, NO_COLOR="1")
    assert_made(here)
