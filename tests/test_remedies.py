"""What helps is a command line: each that the engine can name maps to something the app does, and that works."""

from __future__ import annotations

import ast
import asyncio
import json
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from engine.catalog import load_catalog
from engine.compat.finding import remedy
from engine.compat.registry import own_file
from engine.compat.trust import read_store
from engine.errors import ModelError, RunError
from engine.runtime.check import check, subject
from tests.app import shown, until
from tests.shelf import SHARD, Shelf, flip
from wan_tui.app import WanApp
from wan_tui.remedies import commands_in, label, take, ways, ways_out, words_of
from wan_tui.screens.diagnostics import Diagnostics
from wan_tui.session import Session
from wan_tui.settings import Settings
from wan_tui.widgets.trouble import Trouble

ENGINE = Path(__file__).parent.parent / "engine"
TinyModel = Callable[[str], Path]
LOUD = "/a b/m\n\x1b[31mré'd\udcff [/b]"


# --- which there are --------------------------------------------------------------------------------------------------


def every_remedy() -> Iterator[tuple[str, list[str]]]:
    """The verbs of each remedy in the engine's source, with a name where it puts one in."""
    for file in sorted(ENGINE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
                continue
            where = f"{file.relative_to(ENGINE)}:{node.lineno}"
            if node.func.id == "remedy" and file.name != "finding.py":
                verb, *rest = (one.value if isinstance(one, ast.Constant) else "NAME" for one in node.args[1:])
                for each in ("test-load", "diagnose") if verb == "NAME" else (verb,):  # they stand in a loop
                    yield where, [str(each), *map(str, rest)]
            elif node.func.id == "Remedy" and isinstance(node.args[1], ast.Constant):
                yield where, list(words_of(str(node.args[1].value)))


REMEDIES = list(every_remedy())
SHELL_ONLY = {"--run"}  # it asks for a job file, which nobody has named: the command is copied


def test_every_remedy_of_the_engine_has_its_way() -> None:
    assert len(REMEDIES) >= 15
    for where, words in REMEDIES:
        told = label(remedy("x", *words).command)
        assert told.startswith("Copy the command") == (words[0] in SHELL_ONLY), f"{where}: {words} is {told}"


def test_models_to_take_instead_have_their_way() -> None:
    catalog = load_catalog()
    found = [way for spec in catalog.models for way in ways_out(check(subject(spec.id, catalog), catalog))]
    assert found
    assert not [way for way in found if way.label.startswith("Copy")]


@pytest.mark.parametrize("name", ["t2v-A14B@2.2.0", "/a b/c", "/it's", LOUD, "/a$'b'", '/"q"', "/tab\there"])
def test_words_are_those_a_shell_takes(name: str) -> None:
    command = remedy("check", "check", name).command
    assert words_of(command) == ("check", name)
    assert label(command).startswith("Check ")
    assert "\x1b" not in label(command)


def test_commands_are_found_in_sentences() -> None:
    assert commands_in("Download it: wan-tui models download a@1") == ["wan-tui models download a@1"]
    assert commands_in("Download one, or try the built-in model: wan-tui demo.") == ["wan-tui demo"]
    assert commands_in("`wan-tui models verify a@1` names the files.") == ["wan-tui models verify a@1"]
    assert commands_in("Free some: `wan-tui models remove ID` frees it.") == []
    assert commands_in("Start wan-tui again: it sets the damaged file aside.") == []
    assert commands_in("wan-tui trust add '/a: b.'") == ["wan-tui trust add '/a: b.'"]


def test_ways_of_an_error() -> None:
    bare = RunError("offline", "No network.", actions=["download"])
    assert ways(bare) == []
    assert [way.key for way in ways(bare, "a@1")] == ["wan-tui models download a@1"]
    full = RunError("disk-full", "Full.", actions=["remove", "download"])
    assert [way.key for way in ways(full)] == ["wan-tui models list --installed"]
    said = ModelError("x", "x", suggestions=["wan-tui models verify a@1 --repair"], actions=["repair"])
    assert [way.key for way in ways(said, "a@1")] == ["wan-tui models verify a@1 --repair"]  # once


# --- doing it ---------------------------------------------------------------------------------------------------------


def in_app(act: Callable[[WanApp, Pilot[Any]], Awaitable[None]], size: tuple[int, int] = (80, 24)) -> None:
    async def run() -> None:
        app = WanApp(Session(), Settings())
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            await act(app, pilot)
            await until(pilot, lambda: not app.session.transfers)
            await asyncio.sleep(0.3)  # what was told last has been taken in

    asyncio.run(run())


def said(app: WanApp) -> str:
    return "\n".join(one.text for one in app.said)


def test_fetching_verifying_repairing_and_taking_over(shelf: Shelf, tmp_path: Path) -> None:
    async def act(app: WanApp, pilot: Pilot[Any]) -> None:
        take(app, "wan-tui models download mine@1.0")
        await until(pilot, lambda: "mine@1.0 is here and verified" in said(app))
        assert shelf.look().state == "verified"
        flip(shelf.file(SHARD).path.resolve())
        take(app, "wan-tui models verify mine@1.0")
        await until(pilot, lambda: "mine@1.0 is corrupt" in said(app))
        await until(pilot, lambda: not app.session.transfers)
        take(app, "wan-tui models verify mine@1.0 --repair")
        await until(pilot, lambda: said(app).count("mine@1.0 is here and verified") == 2)
        assert shelf.look().state == "verified"
        take(app, remedy("import", "models", "import", "other@1.0", str(tmp_path / "hub" / "demo" / "two")).command)
        await until(pilot, lambda: "other@1.0: " in said(app) and "taken over" in said(app))
        await until(pilot, lambda: not app.session.transfers)

    in_app(act)


def test_what_cannot_be_fetched_is_told(shelf: Shelf) -> None:
    shelf.write_manifest(**{"gone@1": {"title": "Gone", "family": "t2v", "repo": "demo/gone", "revision": "main"}})

    async def act(app: WanApp, pilot: Pilot[Any]) -> None:
        take(app, "wan-tui models download gone@1")
        await until(pilot, lambda: any(one.severity == "error" for one in app.said))
        take(app, "wan-tui models download nobody")
        await until(pilot, lambda: "There is no model 'nobody'" in shown(app))
        assert isinstance(app.screen, Trouble)

    in_app(act)


def test_an_errors_way_is_taken_at_its_digit(shelf: Shelf) -> None:
    async def act(app: WanApp, pilot: Pilot[Any]) -> None:
        app.show_error(ModelError("model-absent", "Not here.", suggestions=["wan-tui models download mine@1.0"]))
        await pilot.pause()
        assert "1 Download mine@1.0" in shown(app)
        await pilot.press("1")
        await until(pilot, lambda: "mine@1.0 is here and verified" in said(app))

    in_app(act)


def test_places_are_gone_to_and_commands_copied() -> None:
    async def act(app: WanApp, pilot: Pilot[Any]) -> None:
        take(app, "wan-tui check t2v-A14B@2.2.0")
        await until(pilot, lambda: "does not fit" in shown(app) or "conditions" in shown(app))
        take(app, "wan-tui models list --installed")
        await until(pilot, lambda: app.current_mode == "library")
        take(app, "wan-tui --run JOB.toml --set device=cpu")
        assert app.clipboard == "wan-tui --run JOB.toml --set device=cpu"

    in_app(act)


def test_the_demo_is_queued() -> None:
    async def act(app: WanApp, pilot: Pilot[Any]) -> None:
        take(app, "wan-tui demo")
        await until(pilot, lambda: app.current_mode == "monitor" and app.session.busy)
        await asyncio.to_thread(app.session.stop, "user")

    in_app(act)


def test_installing_shows_the_command_and_asks() -> None:
    own_file().parent.mkdir(parents=True, exist_ok=True)
    own_file().write_text('[models."t2v-1.3B@2.1.0"]\nrequires = ["wan-scratch-nowhere>=1.0"]\n', encoding="utf-8")

    async def act(app: WanApp, pilot: Pilot[Any]) -> None:
        take(app, "wan-tui install-deps t2v-1.3B@2.1.0")
        await until(pilot, lambda: "y run it" in shown(app))
        assert "wan-scratch-nowhere>=1.0" in shown(app).replace("\n", "")
        assert "pip install" in " ".join(shown(app).replace("│", "").split())
        await pilot.press("n")
        await pilot.pause()
        assert not app.session.transfers

    in_app(act)


@pytest.mark.soak
def test_an_installation_that_fails_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "shelf").mkdir()
    for name, value in {"NO_INDEX": "1", "FIND_LINKS": str(tmp_path / "shelf")}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    own_file().parent.mkdir(parents=True, exist_ok=True)
    own_file().write_text('[models."t2v-1.3B@2.1.0"]\nrequires = ["wan-scratch-nowhere>=1.0"]\n', encoding="utf-8")

    async def act(app: WanApp, pilot: Pilot[Any]) -> None:
        take(app, "wan-tui install-deps t2v-1.3B@2.1.0")
        await until(pilot, lambda: "y run it" in shown(app))
        await pilot.press("y")
        await until(pilot, lambda: "The installation ended with status 1" in shown(app))

    in_app(act)


def with_code(tiny_model: TinyModel, folder: Path) -> Path:
    """A model that brings code of its own, under a loud name."""
    model = Path(shutil.copytree(tiny_model("t2v"), folder / "m [/b] [@click=app.quit]"))
    (model / "canary.py").write_text("class WanTransformer3DModel: pass\n")
    table = json.loads((model / "model_index.json").read_text())
    (model / "model_index.json").write_text(json.dumps({**table, "transformer": ["canary", "WanTransformer3DModel"]}))
    return model


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """One whose path stays on a line."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def test_trust_shows_the_files_and_asks(tiny_model: TinyModel, short_folder: Path) -> None:
    model = with_code(tiny_model, short_folder)

    async def act(app: WanApp, pilot: Pilot[Any]) -> None:
        take(app, remedy("trust", "trust", "add", str(model)).command)
        await until(pilot, lambda: "y trust it" in shown(app))
        text = "".join(line.strip("│ ") for line in shown(app).splitlines())
        assert "m [/b] [@click=app.quit]" in text
        assert "canary.py" in text and "SHA-256" in text and "everything you can do" in text
        await pilot.press("enter")
        assert not read_store().records
        await pilot.press("y")
        await until(pilot, lambda: "is trusted, until" in said(app))
        assert list(read_store().records) == [str(model)]
        take(app, remedy("trust", "trust", "revoke", str(model)).command)
        await until(pilot, lambda: "is trusted no longer" in said(app))
        assert not read_store().records
        take(app, remedy("trust", "trust", "revoke", str(model)).command)
        await until(pilot, lambda: isinstance(app.screen, Trouble))

    in_app(act, (120, 40))


@pytest.mark.soak
def test_a_smoke_test_and_a_report_are_begun_by_their_commands(tiny_model: TinyModel, tmp_path: Path) -> None:
    model = tiny_model("t2v")

    async def act(app: WanApp, pilot: Pilot[Any]) -> None:
        take(app, remedy("test-load", "test-load", str(model)).command)
        await until(pilot, lambda: isinstance(app.screen, Diagnostics) and "✓ every component loads" in shown(app), 60)
        take(app, remedy("diagnose", "diagnose", str(model)).command)
        await until(pilot, lambda: "What was read, at once" in shown(app))
        await pilot.press("enter")
        await until(pilot, lambda: "Written: " in said(app))

    async def run() -> None:
        app = WanApp(Session(), Settings(output=tmp_path / "out"))
        async with app.run_test(size=(80, 24)) as pilot:
            await act(app, pilot)

    asyncio.run(run())
    assert (tmp_path / "out" / "diagnostics").is_dir()
