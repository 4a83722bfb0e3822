"""The place `library` by keyboard alone, against a loopback Hub."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from textual.pilot import Pilot
from textual.widgets import Static

from engine.runtime.journal import Journal
from tests.app import shown, until
from tests.shelf import SHARD, Shelf, flip, model_files, write
from wan_tui.app import WanApp
from wan_tui.resting import Resting
from wan_tui.screens.library import Library
from wan_tui.screens.library_card import FullCard
from wan_tui.screens.library_import import AskFolder
from wan_tui.session import Session
from wan_tui.settings import Settings
from wan_tui.widgets.ask import Ask
from wan_tui.widgets.trouble import Trouble

pytestmark = pytest.mark.sampled(3)

Walk = Callable[[WanApp, "Pilot[Any]", Library], Awaitable[None]]


def walk(steps: Walk, size: tuple[int, int] = (80, 24)) -> None:
    """Open the library, wait until it is read, and go on."""

    async def go() -> None:
        session = Session()
        app = WanApp(session, Settings())
        async with app.run_test(size=size) as pilot:
            library = app.screen
            assert isinstance(library, Library)
            await until(pilot, lambda: library.settled)
            await steps(app, pilot, library)
        session.stop("the test is over")

    asyncio.run(go())


async def find(pilot: Pilot[Any], words: str) -> None:
    """Filter the list, and go to the first row that is left."""
    await pilot.press("slash", *words, "enter")
    await pilot.press("g")
    await see(pilot, f"▸{words}")


async def see(pilot: Pilot[Any], *texts: str) -> None:
    """Wait until all of it is shown."""
    await until(pilot, lambda: all(text in shown(pilot.app) for text in texts))


def line_of(app: WanApp, name: str) -> str:
    """The row of a model as it is shown."""
    return next((line for line in shown(app).splitlines() if line[1:].strip().startswith(f"{name} ")), "")


def said(app: WanApp) -> str:
    return "\n".join(one.text for one in app.said)


def test_find_download_stop_go_on_and_have_it_verified(shelf: Shelf) -> None:
    shelf.hub.rate = 40_000.0  # of 150,000 bytes

    async def steps(app: WanApp, pilot: Pilot[Any], library: Library) -> None:
        await find(pilot, "mine@1.0")
        assert "· absent" in line_of(app, "mine@1.0")
        await pilot.press("d")
        await until(pilot, lambda: "kB/s" in shown(app) and " left" in shown(app))  # of the whole
        await until(pilot, lambda: ".safetensors" in shown(app))  # and each file
        assert "%" in line_of(app, "mine@1.0")
        await see(pilot, "x stops it", "download mine@1.0")
        await pilot.press("space")
        await until(pilot, lambda: "◐ paused" in line_of(app, "mine@1.0"))
        await see(pilot, "d goes on with it")
        shelf.hub.rate = None
        await pilot.press("d")
        await until(pilot, lambda: "✓ verified" in line_of(app, "mine@1.0"))
        await until(pilot, lambda: shown(app).splitlines()[0].rstrip().endswith("idle"))
        await until(pilot, lambda: "mine@1.0 is here and verified." in said(app))

    walk(steps)
    assert shelf.look().state == "verified"


def test_two_downloads_at_once(shelf: Shelf) -> None:
    shelf.hub.rate = 20_000.0

    async def steps(app: WanApp, pilot: Pilot[Any], library: Library) -> None:
        await find(pilot, "mine")
        await pilot.press("escape")
        for name in ("mine@1.0", "other@1.0"):
            library.listing.go_to(name)
            await pilot.press("d")
        await until(pilot, lambda: [state[0] for state in states(library)] == ["↓", "↓"])
        shelf.hub.rate = None
        await until(pilot, lambda: states(library) == ["✓ verified", "✓ verified"])

    walk(steps)


def test_a_flipped_byte_is_found_and_repaired(shelf: Shelf) -> None:
    path = Path(shelf.download().path or "") / SHARD
    flip(path.resolve())
    sent = len(shelf.bodies())

    async def steps(app: WanApp, pilot: Pilot[Any], library: Library) -> None:
        await find(pilot, "mine@1.0")
        await pilot.press("v")
        await until(pilot, lambda: "✗ corrupt" in line_of(app, "mine@1.0"))
        assert f"{SHARD}: its digest is" in said(app)
        await see(pilot, "m fetches what is damaged again")
        await until(pilot, lambda: not app.session.busy)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, FullCard))
        await see(pilot, "digest is")
        await pilot.press("m")
        await until(pilot, lambda: "✓ verified" in line_of(app, "mine@1.0"))

    walk(steps)
    assert shelf.bodies()[sent:] == [SHARD]
    assert shelf.look().state == "verified"


def test_files_are_taken_from_a_folder(shelf: Shelf, tmp_path: Path) -> None:
    folder = write(tmp_path / "have" / "models here", model_files("one"))

    async def steps(app: WanApp, pilot: Pilot[Any], library: Library) -> None:
        await find(pilot, "mine@1.0")
        await pilot.press("i")
        await until(pilot, lambda: isinstance(app.screen, AskFolder))
        app.screen.query_one("Input").value = f"{tmp_path}/no"  # type: ignore[attr-defined]
        await pilot.press("enter")
        await until(pilot, lambda: "is not a folder." in re.sub(r"[\s│]+", " ", shown(app)))  # wherever it breaks
        app.screen.query_one("Input").value = f"{tmp_path}/have/mo"  # type: ignore[attr-defined]
        await until(pilot, lambda: "models here/" in shown(app))
        await pilot.press("tab")
        await until(pilot, lambda: app.screen.query_one("Input").value == f"{folder}/")  # type: ignore[attr-defined]
        await pilot.press("enter")
        await until(pilot, lambda: "✓ verified" in line_of(app, "mine@1.0"))
        assert "11 files, 150.3 kB taken over." in said(app)

    walk(steps)
    assert shelf.bodies() == []


def test_removing_shows_what_goes_and_asks(shelf: Shelf) -> None:
    shelf.download("mine:fp8")
    where = Path(shelf.download().path or "")

    async def steps(app: WanApp, pilot: Pilot[Any], library: Library) -> None:
        library.listing.go_to("mine@1.0")
        await pilot.press("D")
        await until(pilot, lambda: isinstance(app.screen, Ask))
        await see(pilot, "goes ", "frees ", "warning: mine@1.0:fp8 uses some of it")
        await pilot.press("enter", "n")
        assert where.is_dir()
        await pilot.press("D")
        await until(pilot, lambda: isinstance(app.screen, Ask))
        await pilot.press("y")
        await until(pilot, lambda: "· absent" in line_of(app, "mine@1.0"))
        assert not where.exists()

    walk(steps)


@pytest.mark.soak
def test_what_a_job_uses_is_not_removed(shelf: Shelf) -> None:
    shelf.download()
    job = Journal().accept(model="mine@1.0", task="text", prompt="a", job_toml="")

    async def steps(app: WanApp, pilot: Pilot[Any], library: Library) -> None:
        await find(pilot, "mine@1.0")
        await pilot.press("D")
        await until(pilot, lambda: isinstance(app.screen, Trouble))
        await see(pilot, f"Job {job} is queued with mine@1.0", "[busy]")
        await pilot.press("escape")

    walk(steps)
    assert shelf.look().state == "verified"


def test_without_a_network_that_is_told_and_the_list_still_works(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.download("other")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    async def steps(app: WanApp, pilot: Pilot[Any], library: Library) -> None:
        await until(pilot, lambda: "✓ verified" in line_of(app, "other@1.0"))
        await find(pilot, "mine@1.0")
        await pilot.press("d")
        await until(pilot, lambda: "✗ failed" in line_of(app, "mine@1.0"))
        await until(pilot, lambda: "offline" in line_of(app, "mine@1.0"))
        await see(pilot, "w tells all of it")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, Trouble))
        await see(pilot, "[offline]", "1 Download it again")
        await pilot.press("escape", "r")
        await until(pilot, lambda: "· absent" in line_of(app, "mine@1.0"))

    walk(steps)


def test_what_the_hub_refuses_is_told(shelf: Shelf) -> None:
    shelf.hub.gated["demo/one"] = set()

    async def steps(app: WanApp, pilot: Pilot[Any], library: Library) -> None:
        await find(pilot, "mine@1.0")
        await pilot.press("d")
        await until(pilot, lambda: "✗ failed" in line_of(app, "mine@1.0"))
        shelf.hub.gated.clear()
        await pilot.press("w")
        await until(pilot, lambda: isinstance(app.screen, Trouble))
        await pilot.press("1")
        await until(pilot, lambda: "✓ verified" in line_of(app, "mine@1.0"))

    walk(steps)


HOSTILE = "[/b][@click=app.quit]x[/] 模型 e\u0301 🎬 "


@pytest.mark.parametrize("size", [(80, 24), (200, 50)])
def test_foreign_text_is_shown_as_it_is(shelf: Shelf, size: tuple[int, int]) -> None:
    model = {"family": "t2v", "repo": "demo/one", "revision": "main"}
    hostile = {"title": HOSTILE, "note": HOSTILE + "y" * 10_000, "licence": "[red]free"}
    shelf.write_manifest(**{"evil@1.0": {**model, **hostile}})

    async def steps(app: WanApp, pilot: Pilot[Any], library: Library) -> None:
        await find(pilot, "evil")
        await see(pilot, HOSTILE.strip(), "[red]free")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, FullCard))
        await see(pilot, HOSTILE.strip())
        await pilot.press("G", "g", "escape")
        assert app.is_running

    walk(steps, size)


def test_a_broken_manifest_is_told_until_it_is_mended(shelf: Shelf) -> None:
    good = shelf.manifest.read_text(encoding="utf-8")
    shelf.manifest.write_text('[models."[/b]x@1"]\n', encoding="utf-8")

    async def steps(app: WanApp, pilot: Pilot[Any], library: Library) -> None:
        await see(pilot, "[bad-manifest]", "'[/b]x@1'")
        for key in ("d", "v", "x", "D", "i", "m", "e", "w", "y", "t"):
            await pilot.press(key)
        shelf.manifest.write_text(good, encoding="utf-8")
        await pilot.press("r")
        await find(pilot, "mine@1.0")
        assert "[bad-manifest]" not in shown(app)

    walk(steps)


@pytest.mark.soak
def test_a_thousand_models(shelf: Shelf) -> None:
    entry = {"title": "One of many", "family": "t2v", "repo": "demo/one", "revision": "main"}
    many = {f"m{number:04}@1.0": entry for number in range(1000)}
    shelf.manifest.write_text(tomli_w.dumps({"models": many}), encoding="utf-8")

    async def steps(app: WanApp, pilot: Pilot[Any], library: Library) -> None:
        await until(pilot, lambda: len(library.entries) >= 1000)
        await pilot.press("G")
        await see(pilot, "▸m0999@1.0")
        await pilot.press(*["ctrl+u"] * 20)
        await find(pilot, "m0500")
        await see(pilot, "One of many  m0500@1.0")
        assert line_of(app, "m0501") == ""

    walk(steps)


def test_a_model_that_is_passed_over_gets_no_card(shelf: Shelf) -> None:
    async def steps(app: WanApp, pilot: Pilot[Any], library: Library) -> None:
        def card() -> str:
            return str(library.query_one("#card", Static).content)

        await pilot.press("g")
        await until(pilot, lambda: library.entry and library.entry.id in card())
        first = card()
        library._resting = Resting(library, 3600, library._rested)
        await pilot.press("j", "j")
        assert library.entry
        assert library.entry.id not in first
        assert card() == first
        library._resting = Resting(library, 0.01, library._rested)
        await pilot.press("j")
        await until(pilot, lambda: library.entry and library.entry.id in card())

    walk(steps, size=(120, 40))


def test_a_cursor_that_comes_to_rest_on_the_way_out_is_left_alone(shelf: Shelf) -> None:
    left: list[tuple[WanApp, Library]] = []

    async def steps(app: WanApp, pilot: Pilot[Any], library: Library) -> None:
        left.append((app, library))

    walk(steps)
    app, library = left[0]
    with app._context():
        library._resting._rests()  # its widgets are gone


def test_the_views(shelf: Shelf) -> None:
    shelf.download("mine:light")

    async def steps(app: WanApp, pilot: Pilot[Any], library: Library) -> None:
        await see(pilot, "On disk", "Not on disk")
        await pilot.press("t")
        await see(pilot, "only on disk")
        assert [row.key for row in library.listing.rows if not row.heading] == ["demo@1", "mine@1.0:light"]
        await pilot.press("t")
        shown_here = [entry for entry in map(library.entries.get, _keys(library)) if entry]
        assert shown_here and all(entry.runs_here for entry in shown_here)
        await pilot.press("t")
        assert "mine@1.0" in _keys(library)

    walk(steps)


@pytest.mark.parametrize("size", [(60, 20), (80, 24), (120, 40), (200, 50)])
@pytest.mark.sampled(2)
def test_every_size_shows_the_list_and_what_is_known_of_one(shelf: Shelf, size: tuple[int, int]) -> None:
    async def steps(app: WanApp, pilot: Pilot[Any], library: Library) -> None:
        await find(pilot, "vace-1.3B")
        await see(pilot, "vace-1.3B@2.1.0", "· absent", "19.0 GB", "Apache-2.0")
        await see(pilot, "not yet")  # this version does not run the family

    walk(steps, size)


def states(library: Library) -> list[str]:
    """Those of the two models of the shelf, as the list has them."""
    rows = {row.key: row.cells[3] for row in library.listing.rows if not row.heading}
    return [cell[0] for cell in (rows["mine@1.0"], rows["other@1.0"])]


def _keys(library: Library) -> list[str]:
    return [row.key for row in library.listing.rows if not row.heading]


@pytest.mark.parametrize(("key", "mode"), [("c", "diagnostics"), ("n", "composer")])
def test_from_a_model_to_where_it_is_checked_or_used(shelf: Shelf, key: str, mode: str) -> None:
    async def steps(app: WanApp, pilot: Pilot[Any], library: Library) -> None:
        await find(pilot, "t2v-1.3B")
        await pilot.press(key)
        await until(pilot, lambda: app.current_mode == mode)
        await see(pilot, "t2v-1.3B")

    walk(steps)
