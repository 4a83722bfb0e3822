"""The place `composer` by keyboard alone, with a tiny model and with every family's form."""

from __future__ import annotations

import asyncio
import json
import os
import tomllib
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from textual.events import Key, Paste
from textual.keys import _character_to_key
from textual.pilot import Pilot
from textual.widgets import Static

from engine.catalog import load_catalog
from engine.events import JobFailed, JobFinished
from engine.jobfile import read_job
from engine.memory import unknown
from engine.paths import state_dir
from tests.app import shown, until
from wan_tui.actions.composer import ACTIONS
from wan_tui.app import WanApp
from wan_tui.composing.draft import Keeper, load_draft
from wan_tui.composing.fields import fields
from wan_tui.composing.form import KEYS, Form
from wan_tui.composing.presets import presets_folder
from wan_tui.composing.read import changed
from wan_tui.composing.veil import signs, unveiled, veiled
from wan_tui.screens.composer import Composer
from wan_tui.screens.composer_sheet import PlanSheet
from wan_tui.screens.composer_sweep import Sweep
from wan_tui.session import Session
from wan_tui.settings import Settings
from wan_tui.text import plain
from wan_tui.widgets import trouble
from wan_tui.widgets.ask import Ask
from wan_tui.widgets.choose import Choose
from wan_tui.widgets.file_picker import FilePicker
from wan_tui.widgets.listing import Listing
from wan_tui.widgets.trouble import Trouble
from wan_tui.widgets.typed import AskLine

HOSTILE = (
    "closing [/b] tag",
    "[@click=app.quit]hi[/]",
    "\x1b[31mred\x1b]0;title\x07",
    "שלום \u202eover\u202c",
    "👩‍👩‍👧 cat 一只橘猫",
    "e\u0301\u0302\u0303 \x9b31m \x7f",
)


class Desk:
    """The composer as one sits before it."""

    def __init__(self, app: WanApp, pilot: Pilot[Any], place: Composer) -> None:
        self.app, self.pilot, self.place = app, pilot, place

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)

    async def type(self, text: str) -> None:
        """As a terminal sends it; `press` waits after every key."""
        for char in text:
            self.app.post_message(Key(_character_to_key(char), char))
        taken = asyncio.Event()
        self.app.call_later(taken.set)
        await self.until(lambda: taken.is_set() and not self.app._key_works)

    async def tab(self) -> str | None:
        """To the next field; its key."""
        before = self.app.screen.focused
        self.app.post_message(Key("tab", None))
        await until(self.pilot, lambda: self.app.screen.focused is not before)
        return self.place._view.focused_key

    async def paste(self, text: str) -> None:
        assert self.app.screen.focused
        self.app.screen.focused.post_message(Paste(text))
        await self.pilot.pause()

    async def go_to(self, key: str) -> None:
        self.place._view.go_to(key)
        await self.until(lambda: self.place._view.focused_key == key)

    async def until(self, there: Callable[[], object]) -> None:
        await until(self.pilot, there, 60)

    async def settle(self) -> None:
        await self.until(lambda: self.place.settled)

    async def shows(self, kind: type) -> Any:
        await self.until(lambda: isinstance(self.app.screen, kind))
        return self.app.screen

    async def lists(self, *words: str) -> None:
        """The list that is open holds them."""
        await self.until(lambda: all(word in self.screen for word in words))

    @property
    def screen(self) -> str:
        return shown(self.app)

    @property
    def told(self) -> str:
        return "\n".join(said.text for said in self.app.said)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the app is started."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    return here


def compose(steps: Callable[[Desk], Awaitable[None]], size: tuple[int, int] = (120, 40), **settings: Any) -> None:
    async def go() -> None:
        session = Session()
        app = WanApp(session, Settings(**settings))
        async with app.run_test(size=size) as pilot:
            await pilot.press("f4")
            await until(pilot, lambda: isinstance(app.screen, Composer) and app.screen.settled)
            place = app.screen
            assert isinstance(place, Composer)
            await until(pilot, lambda: "seed" in place._view.inputs and (place._options or not place.catalog))
            await until(pilot, lambda: place.query_one("#entries").size.height)
            await steps(Desk(app, pilot, place))
        session.stop("the test is over")

    asyncio.run(go())


def filled(folder: Path, model: Path, **more: str) -> Form:
    form = Form({"model": str(model), "prompt": "a cat", "size": "64*64", "frames": "5", "steps": "1"})
    for key, text in more.items():
        form = form.put(key, text)
    return form


# --- typing -----------------------------------------------------------------------------------------------------------


def test_a_job_is_typed_and_judged_while_it_is_typed(folder: Path) -> None:
    async def steps(desk: Desk) -> None:
        assert "✗" not in desk.screen.splitlines()[3]
        await desk.type("a cat? 2")  # digits and the question mark are text here
        assert desk.place.form.texts["prompt"] == "a cat? 2"
        await desk.go_to("frames")
        await desk.type("7")
        assert "must be 4k+1" in desk.screen and "nearest" in desk.screen
        assert desk.place.problems.keys() == {"frames"}
        await desk.press("ctrl+r")
        assert "4k+1" in desk.told and not desk.app.live.jobs
        await desk.press("backspace", "9", "enter")
        assert desk.place._view.focused_key == "fps" and not desk.place.problems
        await desk.press("up")
        assert desk.place._view.focused_key == "frames"
        await desk.press("ctrl+n")
        assert "frames" not in desk.place.form.texts and desk.place._view.inputs["frames"].text == ""
        await desk.press("escape", "6")
        await desk.until(lambda: desk.app.screen is not desk.place)
        await desk.press("f4")
        assert desk.place.form.texts["prompt"] == "a cat? 2" and "a cat? 2" in desk.screen

    compose(steps)


@pytest.mark.parametrize("size", [(60, 20), (80, 24), (120, 40), (200, 50)], ids=str)
@pytest.mark.sampled(2)
def test_every_family_has_its_form(size: tuple[int, int], folder: Path) -> None:
    catalog = load_catalog()
    families = {spec.family: spec for spec in catalog.models}

    async def steps(desk: Desk) -> None:
        for spec in families.values() if size == (120, 40) else [families["animate"]]:
            desk.place.take_model(spec.id)
            await desk.settle()
            wanted = [one.key for one in fields(spec, desk.place.form)]
            assert [key for key in wanted if not desk.place._view.inputs[key].display] == []
            await desk.lists(spec.id)
            if spec.family != "animate":
                continue
            reached = []
            await desk.go_to("model")
            for _ in wanted:
                reached.append(await desk.tab())
                label = next(one.label for one in desk.place.fields if one.key == reached[-1])
                await desk.lists(f"▸{label}")  # scrolled into sight
            assert reached == wanted

    compose(steps, size)


@pytest.mark.parametrize("text", [*HOSTILE[:1], *(pytest.param(text, marks=pytest.mark.soak) for text in HOSTILE[1:])])
def test_hostile_text_is_shown_as_it_is(text: str, folder: Path) -> None:
    async def steps(desk: Desk) -> None:
        await desk.paste(text)
        await desk.until(lambda: desk.place.form.texts.get("prompt") == text)
        wanted = signs(veiled(text))
        assert wanted.split()[0] in desk.screen and not set("\x1b\x07\x9b\x7f\u202e") & set(desk.screen)
        for key in ("negative_prompt", "inputs.image", "frames", "device", "output.path"):
            await desk.go_to(key)
            await desk.paste(text)
            await desk.until(lambda key=key: desk.place.form.texts.get(key) == text)  # type: ignore[misc]
        desk.place.take_model(text)
        await desk.settle()
        assert wanted.split()[0] in desk.screen and not set("\x1b\x07\x9b\x7f\u202e") & set(desk.screen)
        await desk.press("escape", "v")
        await desk.pilot.pause()
        await desk.press("escape", "s")
        await desk.shows(Sweep)
        await desk.paste(text)
        assert not set("\x1b\x07\x9b\x7f\u202e") & set(desk.screen)

    compose(steps, (200, 50))


def test_what_is_veiled_comes_back() -> None:
    for code in [*range(0x3000), *range(0xD7F0, 0xE010), 0x10FFFF, 0x100FFF]:
        char = chr(code)
        assert (veiled(char) != char) == (plain(char) != char or char == "\t"), hex(code)
        assert unveiled(veiled(char)) == char and len(signs(veiled(char))) == 1
    assert veiled("a\n\tb\r", lines=True)[:4] == "a\n\tb" and unveiled(veiled("\r", lines=True)) == "\r"


def test_a_long_text_is_taken_whole(folder: Path) -> None:
    text = "\n".join(f"line {number} 猫" * 12 for number in range(90))
    assert len(text.encode()) > 10_000

    async def steps(desk: Desk) -> None:
        await desk.paste(text.replace("\n", "\r"))  # as terminals send it
        assert desk.place.form.texts["prompt"] == text
        await desk.settle()
        assert "line 89 猫" in desk.screen and "512 tokens" in desk.screen
        await desk.press("escape", "n")
        await desk.pilot.pause()
        assert desk.place.form == Form() and "line 89" not in desk.screen
        await desk.press("escape", "u")
        assert desk.place.form.texts["prompt"] == text
        await desk.press("i", "x")
        assert desk.place.form.texts["prompt"] == text + "x"

    compose(steps)


# --- choosing ---------------------------------------------------------------------------------------------------------


@pytest.mark.soak
def test_what_there_is_to_choose_is_chosen(folder: Path) -> None:
    async def steps(desk: Desk) -> None:
        await desk.press("shift+tab", "enter")
        await desk.shows(Choose)
        assert "to download" in desk.screen and "does not run yet" in desk.screen
        await desk.type("ti2v-5B")
        await desk.press("enter")
        await desk.settle()
        assert desk.place.form.model == "ti2v-5B@2.2.0" and "1280*704" in desk.screen
        await desk.go_to("size")
        await desk.press("enter")
        await desk.shows(Choose)
        await desk.press("down", "enter")
        assert desk.place.form.texts["size"] == "704*1280"
        await desk.go_to("memory.profile")
        await desk.press("right")
        assert desk.place.form.texts["memory.profile"] == "resident"
        await desk.go_to("device")
        await desk.press("enter")
        await desk.shows(Choose)
        await desk.type("cpu")
        await desk.press("enter")
        assert desk.place.form.texts["device"] == "cpu"
        await desk.go_to("seed")
        await desk.press("ctrl+y")
        assert desk.place.form.seed_mode == "fixed" and "fixed" in desk.screen
        await desk.press("enter")
        await desk.shows(Choose)
        await desk.type("incr")
        await desk.press("enter")
        assert desk.place.form.seed_mode == "increment"

    compose(steps)


@pytest.mark.soak
def test_files_are_walked_to(folder: Path, tmp_path: Path) -> None:
    for name in ("a.png", "b [x].PNG", ".hidden.png", "notes.txt"):
        (folder / name).write_bytes(b"x")
    (folder / "sub").mkdir()
    (folder / "sub" / "\x1b[31m.png").write_bytes(b"x")

    async def steps(desk: Desk) -> None:
        await desk.go_to("inputs.image")
        await desk.press("enter")
        picker = await desk.shows(FilePicker)
        await desk.lists("sub/", "a.png", "b [x].PNG")
        assert "notes.txt" not in desk.screen and ".hidden" not in desk.screen
        await desk.press("full_stop")
        await desk.lists(".hidden.png")
        await desk.press("a")
        await desk.lists("notes.txt")
        await desk.press("slash", *"[x]", "enter")
        assert [row.key for row in picker.query_one(Listing).rows] == ["b [x].PNG"]
        await desk.press("h")
        await desk.lists("here/", "home/")
        assert picker.query_one(Listing).row.key == "here"  # where one came from
        await desk.press("enter")
        await desk.lists("sub/")
        await desk.press("g", "enter")
        await desk.lists("\\x1b[31m.png")
        await desk.press("g", "enter")
        await desk.until(lambda: desk.app.screen is desk.place)
        assert desk.place.form.texts["inputs.image"] == "sub/\x1b[31m.png"
        assert "sub/␛[31m.png" in desk.screen and "control character" in desk.place.problems["inputs.image"]
        desk.place.change(desk.place.form.put("inputs.image", "gone/x.png"))
        await desk.press("enter")
        await desk.shows(FilePicker)
        await desk.lists("No such file")
        await desk.press("h")
        await desk.lists("a.png")
        await desk.press("escape")
        assert desk.app.screen is desk.place and desk.place.form.texts["inputs.image"] == "gone/x.png"

    compose(steps, (80, 24))


@pytest.mark.soak
def test_a_folder_of_a_model_is_walked_to(folder: Path, tiny_model: Callable[[str], Path]) -> None:
    (folder / "models").mkdir()
    (folder / "models" / "tiny").symlink_to(tiny_model("i2v-clip"))

    async def steps(desk: Desk) -> None:
        await desk.press("shift+tab", "enter")
        await desk.shows(Choose)
        await desk.type("a folder on this")
        await desk.press("enter")
        await desk.shows(FilePicker)
        await desk.lists("models/")
        await desk.press("G", "enter")
        await desk.lists("tiny/")
        await desk.press("G", "enter")
        await desk.lists("vae/")
        await desk.press("g", "enter")
        await desk.until(lambda: desk.app.screen is desk.place)
        await desk.until(lambda: desk.place.settled and desk.place.spec)
        assert desk.place.spec and desk.place.spec.family == "i2v"
        assert desk.place.prospect and desk.place.prospect.problem  # it wants an image
        await desk.lists("▸Model", "Image", "✗")

    compose(steps)


# --- running ----------------------------------------------------------------------------------------------------------


@pytest.mark.early
@pytest.mark.soak
def test_a_clip_is_made_and_the_form_stays(folder: Path, tiny_model: Callable[[str], Path]) -> None:
    model = tiny_model("t2v")

    async def steps(desk: Desk) -> None:
        await desk.type("a cat")
        await desk.press("shift+tab")
        await desk.paste(str(model))
        for key, text in (("size", "64*64"), ("frames", "5"), ("steps", "1"), ("seed", "41"), ("device", "cpu")):
            await desk.go_to(key)
            await desk.type(text)
        desk.place.change(desk.place.form.with_seed_mode("increment"))
        await desk.settle()
        await desk.until(lambda: "✓ Ready: ^r" in desk.screen and "staged" in desk.screen)
        before = desk.place.form
        over: list[Any] = []
        desk.app.session.bus.subscribe(lambda e: over.append(e) if isinstance(e, JobFinished | JobFailed) else None)
        await desk.press("ctrl+r")
        await desk.until(lambda: "Queued: 1 clip, 'a cat'. F5" in desk.told)
        assert desk.app.screen is desk.place and desk.place.form == before.put("seed", "42")
        await desk.until(lambda: over)
        assert over[0].seed == 41 and Path(over[0].output).parent == folder / "clips"
        assert Path(over[0].output).stat().st_size > 0
        sidecar = Path(over[0].output).with_suffix(".job.toml")
        desk.app.compose_job(sidecar.read_text(), str(sidecar))
        await desk.until(lambda: "Loaded" in desk.told)
        assert desk.place.form.texts["steps"] == "1" and desk.place.form.seed_mode == "fixed"
        await desk.press("escape", "u")
        assert desk.place.form == before.put("seed", "42")

    compose(steps, output="clips")


def test_what_is_missing_can_be_had(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trouble, "_REST_S", 60.0)

    async def steps(desk: Desk) -> None:
        desk.app.compose_with("t2v-1.3B@2.1.0")
        await desk.until(lambda: desk.place.form.model != "auto")
        await desk.type("a cat")
        await desk.settle()
        await desk.lists("✗", "ownload")
        before = desk.place.form
        await desk.press("ctrl+r")
        await desk.shows(Trouble)
        assert "1 Download t2v-1.3B" in desk.screen
        await desk.type("1q1")  # somebody who goes on typing does not begin a download
        assert isinstance(desk.app.screen, Trouble) and not desk.app.session.transfers
        await desk.press("escape")
        assert desk.app.screen is desk.place and desk.place.form == before
        desk.place.take_model("s2v-14B@2.2.0")
        await desk.settle()
        assert "does not run this model yet" in (desk.place.known.remark or "")
        await desk.lists("! This version does not run")

    compose(steps)


def test_a_sweep_is_queued(folder: Path, tiny_model: Callable[[str], Path]) -> None:
    async def steps(desk: Desk) -> None:
        desk.place.change(filled(folder, tiny_model("t2v"), device="cpu"))
        await desk.go_to("steps")
        await desk.press("f11")
        await desk.shows(Sweep)
        await desk.type("1..2")
        assert "2 combinations: 2 steps" in desk.screen
        await desk.type(",x")
        assert "steps = 'x' must be" in desk.screen
        await desk.press("backspace", "backspace", "ctrl+n", "enter")
        await desk.shows(Choose)
        await desk.type("prompt what is to be")
        await desk.press("enter")
        await desk.paste("\n".join(f"a [cat] {number}" for number in range(6)))
        await desk.lists("12 combinations: 2 steps x 6 prompt")
        await desk.press("ctrl+r")
        await desk.shows(Ask)
        assert "Queue 12 clips?" in desk.screen
        await desk.press("n")
        assert not desk.app.live.jobs
        await desk.go_to("guidance")
        await desk.press("f11")
        await desk.shows(Sweep)
        await desk.type("1,2")
        await desk.press("ctrl+r")
        await desk.until(lambda: "Queued: 2 clips" in desk.told)
        queued = [tomllib.loads(row.job_toml)["guidance"] for row in desk.app.session.journal().rows()]
        assert sorted(queued) == [1.0, 2.0]

    compose(steps)


# --- files, presets, the draft ----------------------------------------------------------------------------------------


def test_a_job_is_saved_and_opened(folder: Path) -> None:
    (folder / "job.toml").write_text("old = 1")

    async def steps(desk: Desk) -> None:
        await desk.press("f12")
        assert "prompt is missing" in desk.told
        await desk.paste("a [/b] cat\nand a dog")
        await desk.press("f12")
        await desk.shows(AskLine)
        await desk.press("ctrl+u", *"job", "enter")
        assert "ends in .toml" in desk.screen
        await desk.press(*".toml", "enter")
        await desk.shows(Ask)
        await desk.press("n")
        assert (folder / "job.toml").read_text() == "old = 1"
        await desk.press("f12", "enter")
        await desk.shows(Ask)
        await desk.press("y")
        await desk.until(lambda: "Saved" in desk.told)
        assert read_job(folder / "job.toml").prompt == "a [/b] cat\nand a dog"
        (folder / "later.toml").write_text('prompt = "loaded"\nsteps = 3\n[memory]\nallow_lossy = true\n')
        (folder / "z.toml").write_text("steps = 'many'\n")
        await desk.press("ctrl+o")
        await desk.shows(FilePicker)
        await desk.lists("job.toml", "later.toml")
        await desk.press("j", "enter")
        await desk.until(lambda: "Loaded later.toml. The form does not show" in desk.told)
        assert desk.place.form.texts == {"prompt": "loaded", "steps": "3"} and "loaded" in desk.screen
        await desk.press("ctrl+o")
        await desk.shows(FilePicker)
        await desk.lists("z.toml")
        await desk.press("G", "enter")
        await desk.shows(Trouble)
        assert "steps" in desk.screen
        await desk.press("escape", "escape", "u")
        assert desk.place.form.texts == {"prompt": "a [/b] cat\nand a dog"}

    compose(steps)


@pytest.mark.soak
def test_presets_are_saved_and_taken(folder: Path) -> None:
    async def steps(desk: Desk) -> None:
        await desk.type("mine")
        await desk.go_to("steps")
        await desk.type("12")
        await desk.press("ctrl+l")
        await desk.shows(Choose)
        await desk.type("save these")
        await desk.press("enter")
        await desk.shows(AskLine)
        await desk.press(*"../x", "enter")
        assert "The name begins" in desk.screen
        await desk.press("ctrl+u", *"quick", "enter")
        await desk.until(lambda: "Saved preset quick" in desk.told)
        (presets_folder() / "bad.toml").write_text("steps = [")
        await desk.press("backspace", "backspace")
        await desk.press("ctrl+l")
        await desk.shows(Choose)
        assert "bad.toml is not valid TOML" in desk.told
        await desk.type("quick")
        await desk.press("enter")
        assert desk.place.form.texts == {"prompt": "mine", "steps": "12"}
        assert "Preset quick: steps 12." in desk.told

    compose(steps)


def test_nothing_typed_is_lost_over_a_restart(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def first(desk: Desk) -> None:
        await desk.type("a cat")
        await desk.go_to("inputs.image")
        await desk.type("x.png")
        desk.place.change(desk.place.form.with_seed_mode("increment"))

    async def second(desk: Desk) -> None:
        assert desk.place.form.texts == {"prompt": "a cat", "inputs.image": str(folder / "x.png")}
        assert desk.place.form.seed_mode == "increment" and "a cat" in desk.screen

    compose(first)
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    compose(second)


@pytest.mark.parametrize(
    "found",
    [b"{", b"\xff", b"[]", b'{"here": 1}', b"[" * 100_000]
    + [
        json.dumps({"here": "/", "seed_mode": mode, "texts": texts, "kept": kept}).encode()
        for mode, texts, kept in (
            ("random", {"nonsense": "1"}, {}),
            ("random", {"prompt": 1}, {}),
            ("never", {}, {}),
            ("random", {}, {"segments": 3}),
            ([], {}, {}),
        )
    ],
)
def test_a_broken_draft_is_a_sentence(found: bytes, folder: Path) -> None:
    (state_dir() / "draft.json").write_bytes(found)
    draft = load_draft(folder)
    assert draft.form == Form() and "draft.json, is damaged" in (draft.problem or "")


def test_the_newest_draft_is_kept(folder: Path) -> None:
    keeper = Keeper(folder)
    older, newer = keeper.number(), keeper.number()
    form = Form(dict.fromkeys(KEYS, "� 猫\n"), "fixed", {"memory.window": 81})
    keeper.keep(form, newer)
    keeper.keep(Form(), older)
    assert load_draft(folder).form == form
    (state_dir() / "draft.json").unlink()
    assert load_draft(folder).form == Form()
    assert os.listdir(state_dir()).count("draft.json") == 0


@pytest.mark.soak
def test_a_broken_manifest_is_told_and_the_form_works(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = tmp_path / "mine.toml"
    manifest.write_text("[models")
    monkeypatch.setenv("WAN_MODELS_MANIFEST", str(manifest))

    async def steps(desk: Desk) -> None:
        await desk.type("a cat")
        await desk.settle()
        assert "Correct the" in desk.screen  # what stands before it, a path, may be broken anywhere
        await desk.press("ctrl+r")
        await desk.shows(Trouble)
        await desk.press("escape", "shift+tab", "enter")
        assert desk.app.screen is desk.place and desk.place.form.texts == {"prompt": "a cat"}
        manifest.write_text("")
        await desk.press("f6", "f4")
        await desk.until(lambda: desk.place.catalog and desk.place.settled)

    compose(steps)


# --- keys -------------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["typing", "not typing"])
def typing(request: pytest.FixtureRequest) -> Iterator[bool]:
    yield request.param == "typing"


@pytest.mark.sampled(2)
def test_every_action_does_something_or_says_why_not(typing: bool, folder: Path) -> None:
    async def steps(desk: Desk) -> None:
        for action in ACTIONS:
            while desk.app.screen is not desk.place:
                await desk.press("escape")
            if not typing:
                await desk.press("escape")
            before = (desk.place.form, desk.told, desk.app.screen, desk.place.focused)
            await desk.app.perform(action.id)
            await desk.until(
                lambda before=before: (  # type: ignore[misc]
                    before != (desk.place.form, desk.told, desk.app.screen, desk.place.focused)
                    or (action.id == "composer.write" and typing)  # noqa: B023  (there already)
                )
            )
        assert all(action.help.endswith(".") for action in ACTIONS)

    compose(steps)


def test_the_plan_is_shown_in_full(folder: Path) -> None:
    async def steps(desk: Desk) -> None:
        await desk.type("a cat")
        await desk.press("escape", "d")
        assert "Go to the field" in desk.told
        desk.place.take_model("demo@1")
        await desk.settle()
        await desk.press("escape", "v")
        sheet = await desk.shows(PlanSheet)
        text = str(sheet.query_one("VerticalScroll Static", Static).content)
        assert "demo@1" in text and "Ready" in text and "demo@1" in desk.screen
        await desk.press("escape")
        assert desk.app.screen is desk.place

    compose(steps, (80, 24))


@pytest.mark.soak  # another process loads torch
def test_a_model_nobody_planned_with_is_traced_meanwhile(
    folder: Path, tiny_model: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))  # where nothing was kept
    model = tiny_model("t2v")

    async def steps(desk: Desk) -> None:
        await desk.type("a cat")
        desk.place.take_model(str(model))
        await desk.go_to("device")
        await desk.type("cpu")
        await desk.settle()
        await desk.until(lambda: desk.place.predicting and "predicting" in desk.screen)
        await until(desk.pilot, lambda: "(fits)" in desk.screen and "✓ Ready" in desk.screen, 90)
        plan = desk.place.prospect and desk.place.prospect.plan
        assert plan and plan.fits and plan.ram_bytes and not desk.place.predicting
        assert "predicting" not in desk.screen

    compose(steps)


def test_what_does_not_fit_is_refused_with_what_would(folder: Path, tiny_model: Callable[[str], Path]) -> None:
    model = tiny_model("t2v")
    unknown.main(str(model), 2, False)

    async def steps(desk: Desk) -> None:
        await desk.type("a cat")
        desk.place.take_model(str(model))
        for key, text in (("device", "cpu"), ("size", "4096*4096"), ("frames", "90001")):
            await desk.go_to(key)
            await desk.type(text)
        await desk.settle()
        assert "(does not fit)" in desk.screen and "✗ The job does not fit on" in desk.screen
        known = desk.place.prospect
        assert known and known.plan and known.plan.alternatives
        await desk.press("ctrl+r")
        await desk.shows(Trouble)
        await desk.until(lambda: "it fits" in desk.screen)
        assert "Queued" not in desk.told
        await asyncio.sleep(trouble._REST_S)  # a digit is no longer meant for the field
        await desk.press("1")
        first = known.plan.alternatives[0].set
        await desk.until(lambda: desk.place.form == changed(desk.place.form, first))
        await desk.settle()
        assert "(fits)" in desk.screen and "✓ Ready" in desk.screen
        await desk.press("escape", "u")
        await desk.settle()
        assert desk.place.form.texts["frames"] == "90001"
        await desk.press("a")
        await desk.shows(Choose)
        await desk.press("enter")
        await desk.until(lambda: desk.place.form == changed(desk.place.form, first))

    compose(steps)


def test_without_a_terminal_the_editor_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDITOR", "true")
    monkeypatch.delenv("VISUAL", raising=False)

    async def steps(desk: Desk) -> None:
        await desk.type("a cat")
        await desk.press("ctrl+g")
        assert "There is no terminal to lend." in desk.told and desk.place.form.texts == {"prompt": "a cat"}

    compose(steps)


@pytest.mark.parametrize("turns", [1, 2, 3, 4])
@pytest.mark.sampled(2)
def test_keys_that_come_faster_than_the_form_is_judged_are_all_there(turns: int, folder: Path) -> None:
    """A form shown at an older letter was put over the newer ones: on a slow line keys come in bursts."""
    text = "a ginger cat walks along the wall"

    async def steps(desk: Desk) -> None:
        await desk.go_to("prompt")
        for char in text:
            desk.app.post_message(Key(_character_to_key(char), char))
            for _ in range(turns):  # of the loop
                await asyncio.sleep(0)
        await desk.until(lambda: desk.place.form.texts.get("prompt") == text)
        assert desk.place._view.inputs["prompt"].typed == text  # type: ignore[union-attr]

    compose(steps)
