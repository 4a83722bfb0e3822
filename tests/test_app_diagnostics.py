"""The place Diagnostics and the first start, by keyboard alone: real folders, sound and damaged."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from engine.compat.machine import Machine
from engine.control import Control
from engine.hardware import Card
from engine.paths import state_place
from engine.runtime.locks import device_lock
from tests import corpus
from tests.app import shown, until
from wan_tui.actions import ACTIONS
from wan_tui.app import WanApp
from wan_tui.greeting import Prospect, is_first_start, may_be_cut_off
from wan_tui.screens.diagnostics import Diagnostics
from wan_tui.screens.diagnostics_box import brief, full
from wan_tui.screens.diagnostics_pane import Line, laid_out, wrapped
from wan_tui.screens.welcome import Welcome, box_lines
from wan_tui.session import Session
from wan_tui.settings import Settings

pytestmark = pytest.mark.sampled(3)

TinyModel = Callable[[str], Path]
Act = Callable[[WanApp, Pilot[Any]], Awaitable[None]]
SIZES = [(60, 20), (80, 24), (120, 40), (200, 50)]
H100 = Card("GPU-1", "NVIDIA H100", 85_000_000_000, 84_000_000_000, (9, 0))
SPLIT = Card("MIG-2", "A part [/b] \x1b[31mred", None, None, None)


def in_app(act: Act, size: tuple[int, int] = (80, 24), *, first: bool = False, output: Path = Path("outputs")) -> None:
    async def run() -> None:
        app = WanApp(Session(), Settings(output=output), first_start=first)
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            if not first:
                await pilot.press("f3")
                await until(pilot, lambda: "demo@1" in shown(app))
            await act(app, pilot)
            await asyncio.to_thread(app.session.stop, "user")

    asyncio.run(run())


async def check_path(app: WanApp, pilot: Pilot[Any], path: Path, sign: str) -> None:
    app.diagnose(str(path))
    await until(pilot, lambda: shown(app).splitlines()[1].startswith(f" {sign}"))


# --- this box ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.sampled(2)
def test_this_box_and_what_can_be_checked(size: tuple[int, int]) -> None:
    async def act(app: WanApp, pilot: Pilot[Any]) -> None:
        await until(pilot, lambda: "memory   " in shown(app) and "t2v-A14B@2.2.0" in shown(app))
        lines = shown(app).splitlines()
        assert next(line for line in lines if line.startswith("▸")).startswith("▸This box")
        places = [next(at for at, line in enumerate(lines) if word in line) for word in ("On this box", "Not on this")]
        assert places == sorted(places)
        await pilot.press("enter")
        await until(pilot, lambda: "Software" in shown(app) or size[1] == 20)
        assert "system" in shown(app)

    in_app(act, size)


def machine(*cards: Card, torch_for: str | None = "cuda") -> Machine:
    versions = {"torch": "2.13.0" if torch_for else None, "diffusers": None}
    return Machine(
        cards, "580.1" if cards else None, 64 * 10**9, 32 * 10**9, None, Path("/models"), torch_for, versions
    )


def text_of(lines: list[Line]) -> str:
    return laid_out(lines, 76).plain


def test_boxes_are_told_honestly() -> None:
    one = text_of(brief(machine(H100), 2))
    assert "gpu      NVIDIA H100, 85.0 GB, 84.0 GB free, bf16\n" in one
    assert "— free for models" in one
    many = text_of(brief(machine(*[H100] * 8), 2))
    assert many.count("NVIDIA H100") == 2 and "and 6 more cards" in many
    assert text_of(full(machine(*[H100] * 8))).count("GPU-1") == 8
    assert "There is no GPU that torch can use here" in text_of(brief(machine(torch_for="cpu"), 2))
    unused = " ".join(text_of(brief(machine(H100, torch_for="cpu"), 2)).split())
    assert "built for the CPU alone, and this box has NVIDIA H100" in unused
    assert "for ROCm" in text_of(brief(machine(torch_for="hip"), 2))
    assert "torch    not installed" in text_of(brief(machine(torch_for=None), 2))
    strange = text_of(brief(machine(SPLIT), 2))
    assert "A part [/b] \\x1b[31mred, —, — free" in strange  # nothing is told as 0, nothing as markup


def test_lines_are_broken_by_cells() -> None:
    assert wrapped("模型模型 模型", 8) == ["模型模型", "模型"]
    assert wrapped("a" * 25, 10) == ["a" * 10, "a" * 10, "a" * 5]
    assert laid_out([Line("one two three", "do")], 19).plain == "do       one two\n         three"


# --- reports ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.sampled(2)
def test_a_model_that_is_not_here(size: tuple[int, int]) -> None:
    async def act(app: WanApp, pilot: Pilot[Any]) -> None:
        await pilot.press("slash", *"1.3b", "enter", "enter")
        await until(pilot, lambda: "! runs, with conditions: t2v-1.3B@2.1.0" in shown(app))
        assert "do  1  wan-tui models download t2v-1.3B@2.1.0" in shown(app)
        assert "m Mend" in shown(app)
        await pilot.press("escape")
        await until(pilot, lambda: "! conditions" in shown(app))

    in_app(act, size)


def test_a_sound_folder(tiny_model: TinyModel) -> None:
    async def act(app: WanApp, pilot: Pilot[Any]) -> None:
        folder = tiny_model("t2v-two")
        await pilot.press("o")
        await pilot.pause()
        for letter in str(folder):
            await pilot.press({"/": "slash", "-": "minus", "_": "underscore", ".": "full_stop"}.get(letter, letter))
        await pilot.press("enter")
        await until(pilot, lambda: "✓ runs:" in shown(app))
        assert "transformer_2: WanTransformer3DModel" in shown(app)
        await pilot.press("y")
        assert app.clipboard == str(folder)
        await pilot.press("escape")
        await until(pilot, lambda: "✓ runs" in shown(app))

    in_app(act)


@pytest.mark.parametrize(
    "name",
    [
        "a name with line breaks and colours",
        "a name that is no UTF-8",
        "index: no boundary between two experts",
        "index: a class with control characters",
        "index: 100,000 deep",
        "index: broken, and there is no VAE",
        "a FIFO as its weights",
    ],
)
@pytest.mark.sampled(3)
def test_damaged_and_loud_folders(name: str, tiny_model: TinyModel, tmp_path: Path) -> None:
    case = next((one for one in corpus.CASES if one.name == name), None)
    if case is None:
        folder = Path(shutil.copytree(tiny_model("t2v"), tmp_path / "model"))
        corpus.fifo(corpus.weights(folder))
        verdict, code = "cannot-run", "bad-weights"
    else:
        (tmp_path / "case").mkdir()
        folder = case.make(corpus.Bench(tiny_model, tmp_path / "case"))
        verdict, code = case.verdict, case.code or ""
    sign = {"runs": "✓", "conditions": "!", "cannot-run": "✗"}[verdict]

    async def act(app: WanApp, pilot: Pilot[Any]) -> None:
        await check_path(app, pilot, folder, sign)
        await until(pilot, lambda: f"[{code}]" in shown(app) or not code)
        assert "\x1b" not in shown(app)

    in_app(act)


def test_hostile_text_is_shown_as_it_is(tiny_model: TinyModel, tmp_path: Path) -> None:
    loud = "[@click=app.quit]q[/] [/b] 模型 e\u0301 \u202eRTL \U0001f600"
    folder = Path(shutil.copytree(tiny_model("t2v"), tmp_path / loud))
    table = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**table, "_class_name": "Wan[/b]" + "x" * 10_000}))

    async def act(app: WanApp, pilot: Pilot[Any]) -> None:
        await check_path(app, pilot, folder, "!")
        await until(pilot, lambda: "Wan[/b]xxx" in shown(app))
        seen = "".join(shown(app).split())
        assert "[@click=app.quit]q[/][/b]模型" in seen
        assert "\\u202eRTL" in seen and "\u202e" not in seen
        await pilot.press("escape", "G")
        await pilot.pause()
        assert app.is_running

    in_app(act, (120, 40))


def test_a_folder_that_is_absent_and_then_there(tiny_model: TinyModel, tmp_path: Path) -> None:
    folder = tmp_path / "nothing"

    async def act(app: WanApp, pilot: Pilot[Any]) -> None:
        await check_path(app, pilot, folder, "✗")
        await until(pilot, lambda: "There is nothing at" in shown(app))
        shutil.copytree(tiny_model("t2v"), folder)
        await pilot.press("c")
        await until(pilot, lambda: "✓ runs:" in shown(app))

    in_app(act)


def test_a_broken_manifest_is_told_and_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = tmp_path / "m.toml"
    manifest.write_text('[models."mine@1"]\nfamily = "nonsense"\n')
    monkeypatch.setenv("WAN_MODELS_MANIFEST", str(manifest))

    async def run() -> None:
        app = WanApp(Session(), Settings())
        async with app.run_test(size=(80, 24)) as pilot:
            await pilot.press("f3")
            await until(pilot, lambda: "no report: The list of models" in shown(app))
            assert "nonsense" in shown(app)
            manifest.write_text("")
            await pilot.press("escape", "f2", "f3")
            await until(pilot, lambda: "demo@1" in shown(app))

    asyncio.run(run())


@pytest.mark.soak
def test_no_box_is_left_looking_for_a_model_with_another_name() -> None:
    async def act(app: WanApp, pilot: Pilot[Any]) -> None:
        app.diagnose("demo")  # without its version
        await until(pilot, lambda: "✓ runs: demo@1" in shown(app))
        app.diagnose("demi")
        await until(pilot, lambda: "no report: demi" in shown(app) and "Did you mean demo@1" in shown(app))

    in_app(act)


# --- the smoke test and the export ------------------------------------------------------------------------------------


@pytest.mark.early
def test_a_smoke_test_and_the_path_of_its_clip(tmp_path: Path) -> None:
    async def act(app: WanApp, pilot: Pilot[Any]) -> None:
        await pilot.press("j", "s")
        await until(pilot, lambda: "✓ every component loads, and it renders" in shown(app), 60)
        assert "transformer" in shown(app) and "✓ loaded" in shown(app)
        await until(pilot, lambda: "x Stop" not in shown(app))
        await pilot.press("y")
        assert Path(app.clipboard).is_file() and app.clipboard.endswith("_smoke.mp4")
        assert Path(app.clipboard).is_relative_to(tmp_path)

    in_app(act, output=tmp_path)


@pytest.mark.soak
def test_a_smoke_test_that_fails_tells_why(tiny_model: TinyModel, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_model("t2v"), tmp_path / "model"))
    weights = corpus.weights(folder)
    header, data = corpus.opened(weights)
    corpus.put(weights, corpus.sealed(header, b"\xff" * len(data)))  # every number is none

    async def act(app: WanApp, pilot: Pilot[Any]) -> None:
        await check_path(app, pilot, folder, "✓")
        await pilot.press("s")
        await until(pilot, lambda: "✗ 1 of 5 components fails: transformer" in shown(app), 60)
        assert "✗ failed" in shown(app)
        await pilot.press("G")
        await until(pilot, lambda: "Compare" in shown(app) or "weights-not-finite" in shown(app))

    in_app(act, output=tmp_path)


def test_a_smoke_test_waits_for_its_device_and_is_stopped(tiny_model: TinyModel, tmp_path: Path) -> None:
    async def act(app: WanApp, pilot: Pilot[Any]) -> None:
        await check_path(app, pilot, tiny_model("t2v"), "✓")
        await pilot.press("s")
        await until(pilot, lambda: "another job" in shown(app), 60)
        assert "test     running: " in shown(app) and "x Stop" in shown(app)
        await pilot.press("x")
        await until(pilot, lambda: "! stopped" in shown(app), 60)
        await until(pilot, lambda: not app.session.busy)

    with device_lock("cpu", lambda sentence: None, Control(), job="another job"):
        in_app(act, output=tmp_path)


def test_a_model_that_cannot_run_is_not_loaded(tiny_model: TinyModel, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_model("t2v"), tmp_path / "model"))
    shutil.rmtree(folder / "vae")

    async def act(app: WanApp, pilot: Pilot[Any]) -> None:
        app.diagnose(str(folder), "smoke")  # as it is asked for from elsewhere, before it is known
        await until(pilot, lambda: "cannot run here: the report tells why" in app.said[-1].text if app.said else False)
        await until(pilot, lambda: "s Smoke test" not in shown(app))
        await pilot.press("s")
        assert not app.session.busy
        await pilot.press("e")  # what cannot be loaded is not asked about
        await until(pilot, lambda: "_compat.json" in shown(app))
        await pilot.press("y")
        assert json.loads(Path(app.clipboard).read_text())["report"]["verdict"] == "cannot-run"

    in_app(act, output=tmp_path / "out")


@pytest.mark.soak
def test_a_report_that_cannot_be_written_tells_why(tiny_model: TinyModel, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")

    async def act(app: WanApp, pilot: Pilot[Any]) -> None:
        await check_path(app, pilot, tiny_model("t2v"), "✓")
        await pilot.press("e")
        await until(pilot, lambda: "What was read, at once" in shown(app))
        await pilot.press("enter")
        await until(pilot, lambda: "[bad-output]" in shown(app))

    in_app(act, output=tmp_path / "out")


# --- keys -------------------------------------------------------------------------------------------------------------


@pytest.mark.soak  # test_app_walk presses them, too
def test_every_key_does_something_or_says_why_not(tmp_path: Path) -> None:
    async def act(app: WanApp, pilot: Pilot[Any]) -> None:
        for row in ("This box", "demo@1"):
            for action in ACTIONS:
                if action.place == "diagnostics":
                    await pilot.press(action.keys.split(",")[0])
                    await pilot.pause()
                    while not isinstance(app.screen, Diagnostics):
                        await pilot.press("escape")
                        await pilot.pause()
            await until(pilot, lambda: not app.session.busy, 60)
            await pilot.press("escape", "g", *("j" if row == "This box" else ""))
        assert app.is_running

    in_app(act, output=tmp_path)


def test_each_action_is_a_method_with_its_help() -> None:
    for action in ACTIONS:
        if action.place == "diagnostics":
            assert hasattr(Diagnostics, f"action_{action.method}") and action.help.endswith(".")


# --- the first start --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_the_first_start_says_what_this_box_can_run(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TMUX", "STY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SSH_TTY", "/dev/pts/0")

    async def act(app: WanApp, pilot: Pilot[Any]) -> None:
        words = ("Enter    a first video", "F2       the library", "Esc      close", "lost connection does not stop")
        await until(pilot, lambda: all(word in shown(app) for word in words))
        assert not is_first_start()
        await pilot.press("escape")
        await pilot.pause()
        assert not isinstance(app.screen, Welcome) and app.current_mode == "library"

    assert is_first_start()
    in_app(act, size, first=True)


def test_enter_makes_a_first_video() -> None:
    async def act(app: WanApp, pilot: Pilot[Any]) -> None:
        await until(pilot, lambda: isinstance(app.screen, Welcome))
        await pilot.press("enter")
        await until(pilot, lambda: app.current_mode == "monitor" and app.live.jobs)

    in_app(act, first=True)


def test_its_keys_go_on() -> None:
    async def act(app: WanApp, pilot: Pilot[Any]) -> None:
        await until(pilot, lambda: isinstance(app.screen, Welcome))
        await pilot.press("f1")
        await until(pilot, lambda: "Shown at the first start" in shown(app))
        await pilot.press("escape")
        await pilot.press("f2")
        await until(pilot, lambda: not isinstance(app.screen, Welcome))
        assert app.current_mode == "library"

    in_app(act, first=True)


@pytest.mark.soak
def test_a_state_folder_that_cannot_be_is_greeted_again(own_home: Path) -> None:
    shutil.rmtree(own_home / "state")
    (own_home / "state").write_text("a file")

    async def act(app: WanApp, pilot: Pilot[Any]) -> None:
        await until(pilot, lambda: any(isinstance(screen, Welcome) for screen in app.screen_stack))
        while len(app.screen_stack) > 1:  # the journal is missed as well
            await pilot.press("escape")
            await pilot.pause()
        assert app.is_running

    in_app(act, first=True)
    assert is_first_start() and not state_place().exists()


def test_the_line_that_may_be_lost() -> None:
    assert may_be_cut_off({"SSH_CONNECTION": "x"})
    assert not may_be_cut_off({"SSH_CONNECTION": "x", "TMUX": "y"})
    assert not may_be_cut_off({})
    assert os.environ  # it is this mapping that the app gives it


def test_the_box_of_the_first_start() -> None:
    found = text_of(box_lines(Prospect(machine(H100), ("a", "b"), ("c",))))
    assert "fits     a, b\n" in found and "too big  c\n" in found
    assert "none that this box" in text_of(box_lines(Prospect(machine(), (), ())))
