"""Text of strangers, everywhere: shown as it is, controls as signs, no line an odd width; and nothing of it is done."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from textual.events import Paste
from textual.pilot import Pilot

from engine.errors import WanError
from engine.events import Failed, JobFailed, JobQueued, JobStarted, Notice, PlanMade
from tests import staged
from tests.app import Keyboard, Watched, painted, ragged, shown, until
from wan_tui.composing.presets import presets_folder
from wan_tui.screens.composer import Composer
from wan_tui.screens.gallery import Gallery
from wan_tui.screens.library import Library
from wan_tui.screens.queue import Queue
from wan_tui.session import Session
from wan_tui.settings import Settings
from wan_tui.text import plain
from wan_tui.themes import theme_folder
from wan_tui.widgets.ask import Ask
from wan_tui.widgets.choose import Choose, Option
from wan_tui.widgets.trouble import Trouble, Way

SIZES = [(80, 24), *(pytest.param(one, marks=pytest.mark.soak) for one in ((60, 20), (200, 50)))]
# What is short enough to be seen whole wherever it stands: each has a mark of its own to be looked for.
HOSTILE = {
    "markup": "[/b]",
    "action": "[@click=app.quit]x[/]",
    "ansi": "\x1b[31mred\x1b[0m",
    "osc": "\x1b]52;c;AAAA\x07",
    "c1": "\x9b2Jc1",
    "hebrew": "שלום",
    "arabic": "مرحبا",
    "override": "\u202eover\u202c",
    "family": "👨‍👩‍👧‍👦🇩🇪",
    "chinese": "一只红猫",
    "wide": "ＦＵＬＬ",
    "combining": "e\u0301\u0302\u0323z\u0335",
    "lines": "two\nlines",
    "nul": "n\x00ul",
    "half": "ha\udcfflf",
}
LONG = "x[/b]一" * 1600  # some 10 kB
# In file names nothing but NUL and the slash is forbidden.
NAMES = {kind: text.replace("/", "∕") for kind, text in HOSTILE.items() if kind != "nul"}
# What TOML can hold.
WORDS = {kind: text for kind, text in HOSTILE.items() if kind != "half"}
# A manifest refuses controls, and says so.
TITLES = {kind: text for kind, text in WORDS.items() if plain(text) == text and "\n" not in text}
Steps = Callable[["Guest"], Awaitable[None]]


def sign(text: str) -> str:
    """How it stands in one line."""
    return plain(" ⏎ ".join(text.splitlines()) if "\n" in text else text)


class Guest(Keyboard):
    def __init__(self, app: Watched, pilot: Pilot[int]) -> None:
        super().__init__(app, pilot)
        self.app: Watched = app

    async def whole(self, *texts: str) -> None:
        """What is shown holds these texts, and is whole, and stays so."""
        await until(self.pilot, lambda: all(text in shown(self.app) for text in texts))
        await self.even()
        links = [
            s for line in painted(self.app) for s in line if s.style and ("@click" in s.style.meta or s.style.link)
        ]
        assert links == []

    async def even(self) -> None:
        """Every line is as wide as the terminal, once all of it is painted."""
        end = time.monotonic() + 3
        while wrong := ragged(self.app):
            assert time.monotonic() < end, wrong
            await asyncio.sleep(0.02)

    async def every(self, list_keys: str = "j", count: int = 40) -> str:
        """All that is shown while one goes down a list, line by line."""
        seen = []
        for _ in range(count):
            await self.even()
            seen.append(shown(self.app))
            await self.press(list_keys)
            end = time.monotonic() + 0.3  # at the end of a list nothing changes
            while shown(self.app) == seen[-1] and time.monotonic() < end:
                await asyncio.sleep(0.01)
        return "\n".join(seen)


def visit(steps: Steps, size: tuple[int, int] = (80, 24), **settings: Any) -> None:
    async def go() -> None:
        app = Watched(Session(), Settings(**settings))
        async with app.run_test(size=size, notifications=True) as pilot:
            try:
                await steps(Guest(app, pilot))
                assert "quit" not in [name for _, name in app.performed]
                assert app.clipboard == ""
                await asyncio.sleep(0.3)  # the last key has done its work
            finally:
                await asyncio.to_thread(app.session.stop, "user")
        assert app.crash is None

    asyncio.run(go())


def flat(text: str) -> str:
    """Without the blanks and borders that breaking it into lines puts in."""
    return re.sub(r"[\s│╭╮╰╯─▁▂▃▄▅▆▇█▌▎]+", "", text)


# What the app says


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("text", [*HOSTILE.values(), LONG], ids=[*HOSTILE, "long"])
@pytest.mark.sampled(4)
def test_what_is_said_asked_and_failed(text: str, size: tuple[int, int]) -> None:
    async def steps(guest: Guest) -> None:
        app = guest.app
        error = WanError("bad-thing", f"m{text}", cause=f"c{text}", suggestions=[f"s{text}"])
        looked_for = flat(plain(text[:40].splitlines()[0]))
        for screen in (
            Ask(f"q{text}", f"d{text}", yes="do it"),
            Trouble(error, [Way("x", f"w{text}")], title=f"t{text}"),
            Choose(f"c{text[:60]}", [Option("a", f"l{text}", f"d{text}", f"n{text}")]),
        ):
            app.push_screen(screen)
            await until(guest.pilot, lambda screen=screen: app.screen is screen)  # type: ignore[misc]
            await until(guest.pilot, lambda: looked_for[:20] in flat(shown(app)))
            await guest.whole()
            await guest.leave()
        app.tell(f"t{text}", "error")
        await until(guest.pilot, lambda: looked_for[:20] in flat(shown(app)))
        await guest.whole()
        await guest.press("f8")
        await guest.whole("│")
        await guest.leave()

    if size == (80, 24) or text in (LONG, HOSTILE["family"], HOSTILE["chinese"]):
        visit(steps, size)


# Files of strangers


def manifest(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Models with such titles, in folders of such names; the titles."""
    models, titles = {}, []
    for number, (kind, text) in enumerate(TITLES.items()):
        place = folder / NAMES[kind]
        (place / "vae").mkdir(parents=True)
        (place / "model_index.json").write_text('{"_class_name": "[/b]\\u001b[31m"}')
        titles.append(f"t{text}")
        models[f"m{number}@1.0"] = {"title": titles[-1], "family": "t2v", "path": str(place)}
    file = folder / "manifest.toml"
    file.write_text(tomli_w.dumps({"models": models}), encoding="utf-8")
    monkeypatch.setenv("WAN_MODELS_MANIFEST", str(file))
    return titles


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.soak
def test_models_and_folders(size: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    titles = manifest(tmp_path, monkeypatch)

    async def steps(guest: Guest) -> None:
        library = guest.app.screen
        assert isinstance(library, Library)
        await until(guest.pilot, lambda: library.settled)
        for number, title in enumerate(titles):
            library.listing.go_to(f"m{number}@1.0")
            await guest.whole(sign(title))
        library.listing.go_to("m1@1.0")
        await guest.press("enter")
        await guest.whole(sign(titles[1]))
        await guest.leave()
        for number in range(0, len(titles), 3):
            guest.app.diagnose(f"m{number}@1.0")
            await until(
                guest.pilot, lambda number=number: f"m{number}@1.0" in "".join(shown(guest.app).splitlines()[1:2])
            )  # type: ignore[misc]
            await guest.whole()
        composer: Composer = await guest.go_to("f4", Composer)
        await until(guest.pilot, lambda: composer.settled)
        composer._view.go_to("model")
        await guest.press("enter")
        await until(guest.pilot, lambda: isinstance(guest.app.screen, Choose))
        seen = await guest.every("down", 45)
        for title in titles:
            assert sign(title)[:16] in seen
        await guest.leave()

    visit(steps, size)


def test_a_manifest_that_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "[b]\x1b[31m.toml"
    file.write_text('[models."[@click=app.quit]x[/]\\u001b"]\nfamily = "[/b]\\u202e"\n')
    monkeypatch.setenv("WAN_MODELS_MANIFEST", str(file))

    async def steps(guest: Guest) -> None:
        await until(guest.pilot, lambda: "cannot be shown" in shown(guest.app))
        await guest.whole("cannot be shown")
        assert "[b]\\x1b[31m.toml" in flat(shown(guest.app))
        await guest.press("f3")
        await guest.whole("The list of models")
        await guest.press("f4")
        await guest.whole("Prompt")

    visit(steps)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.sampled(3)
def test_the_journal(size: tuple[int, int]) -> None:
    rows = []
    for number, text in enumerate([*WORDS.values(), LONG]):
        error = WanError("bad-thing", f"m{text}", cause=f"c{text}", suggestions=[f"s{text}"]).as_dict()
        rows.append({
            "id": f"2024030{number % 10}-0914-{number:04}", "state": ("failed", "finished", "interrupted")[number % 3],
            "created": f"2024-03-01T09:{number:02}:00.000+00:00", "prompt": f"p{text}", "model": f"o/{text}",
            "output": f"/v/{text}.mp4", "error": staged.json.dumps(error), "file": f"/f/{text}", "device": f"d{text}",
        })  # fmt: skip
    staged.write_jobs(rows)

    async def steps(guest: Guest) -> None:
        queue: Queue = await guest.go_to("f6", Queue)
        await until(guest.pilot, lambda: queue.reading.entries)
        seen = await guest.every("j", 18)
        for text in WORDS.values():
            assert f"p{sign(text)}"[:12] in seen
        for row in rows:
            queue.listing.go_to(str(row["id"]))
            await guest.press("enter")
            await until(guest.pilot, lambda: "Esc close" in shown(guest.app))
            await guest.even()
            await guest.leave()
        for key in ("l", "e"):
            await guest.press(key)
            await guest.even()

    visit(steps, size)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.soak
def test_clips(size: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outputs").mkdir()
    for number, (kind, name) in enumerate(NAMES.items()):
        file = tmp_path / "outputs" / f"c{name}.mp4"
        file.write_bytes(b"no video")
        prompt = LONG if kind == "half" else f"p{HOSTILE[kind]}"
        job = {"model": f"o/{sign(name)}", "prompt": prompt, "width": 64, "height": 32, "frames": 5, "seed": number}
        file.with_suffix(".job.toml").write_text(tomli_w.dumps(job), encoding="utf-8")

    async def steps(guest: Guest) -> None:
        gallery: Gallery = await guest.go_to("f7", Gallery)
        await until(guest.pilot, lambda: gallery.found and len(gallery.found.clips) == len(NAMES))
        seen = ""
        for row in gallery.listing.rows:
            gallery.listing.go_to(row.key)
            name = flat(sign(Path(row.key).name))
            await until(guest.pilot, lambda name=name: name[:18] in flat(shown(guest.app)))  # type: ignore[misc]
            await guest.even()
            seen += shown(guest.app)
        for kind in NAMES:
            assert flat(f"p{sign(HOSTILE[kind])}")[:12] in flat(seen) or kind == "half"
        for key in ("D", "m", "r"):
            await guest.press(key)
            await asyncio.sleep(0.2)
            await guest.even()
            await guest.press("escape")

    visit(steps, size)


@pytest.mark.soak
def test_job_files_presets_and_themes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in (presets_folder(), theme_folder()):
        folder.mkdir(parents=True, exist_ok=True)
        for name in NAMES.values():
            (folder / f"n{name}.toml").write_text("steps = 4\n", encoding="utf-8")
    for kind, name in NAMES.items():
        (tmp_path / f"n{name}").mkdir()
        prompt = HOSTILE["nul"] if kind == "half" else HOSTILE[kind]
        (tmp_path / f"j{name}.toml").write_text(tomli_w.dumps({"prompt": f"p{prompt}"}), encoding="utf-8")

    async def steps(guest: Guest) -> None:
        await guest.whole("is no theme")  # each is told
        composer: Composer = await guest.go_to("f4", Composer)
        await until(guest.pilot, lambda: composer.settled)
        await guest.press("ctrl+o")
        await until(guest.pilot, lambda: "Open a job" in shown(guest.app))
        seen = await guest.every("j", len(NAMES) * 2 + 6)
        for name in NAMES.values():
            assert f"n{sign(name)}" in seen and f"j{sign(name)}.toml" in seen
        await guest.leave()
        for kind, name in NAMES.items():
            file = tmp_path / f"j{name}.toml"
            composer.load_text(file.read_text(encoding="utf-8"), str(file))
            text = HOSTILE["nul"] if kind == "half" else HOSTILE[kind]
            taken = f"p{text}"
            await until(
                guest.pilot,
                lambda taken=taken: (  # type: ignore[misc]
                    composer.form.texts.get("prompt") == taken or isinstance(guest.app.screen, Trouble)
                ),
            )
            await guest.even()
            if isinstance(guest.app.screen, Trouble):  # controls are refused, and told
                await guest.leave()
        for keys in (("ctrl+l",), ("ctrl+t",)):
            await guest.press(*keys)
            await until(guest.pilot, lambda: isinstance(guest.app.screen, Choose))
            await guest.every("down", 12)
            await guest.leave()
        await guest.press("f8")
        await guest.every("j", 50)
        await guest.leave()

    visit(steps, theme="[/b]")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.sampled(3)
def test_prompts(size: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    async def steps(guest: Guest) -> None:
        composer: Composer = await guest.go_to("f4", Composer)
        await until(guest.pilot, lambda: composer.settled)
        for text in (*WORDS.values(), LONG):
            for key in ("prompt", "image"):
                if composer._view.field(key) is None:
                    continue
                composer._view.go_to(key)
                await until(guest.pilot, lambda key=key: composer._view.focused_key == key)  # type: ignore[misc]
                assert guest.app.screen.focused
                guest.app.screen.focused.post_message(Paste(text))
                await until(guest.pilot, lambda key=key: composer.form.texts.get(key))  # type: ignore[misc]
                await guest.even()
            assert text in composer.form.texts["prompt"]
            await guest.press("escape", "v")
            await asyncio.sleep(0.1)
            await guest.even()
            await guest.press("escape", "n")
            await until(guest.pilot, lambda: "prompt" not in composer.form.texts)

    visit(steps, size)


# What the engine and the driver say


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.soak
def test_events(size: tuple[int, int]) -> None:
    async def steps(guest: Guest) -> None:
        app = guest.app
        await guest.press("f5")
        for number, (kind, text) in enumerate([*HOSTILE.items(), ("long", LONG)]):
            job, now = f"job{text[:40]}{number}", time.time()
            staged.sampled(app, staged.gpu(name=f"g{text}", problem=f"p{text}"), notice=f"n{text}")
            device = {"name": f"d{text}", "uuid": "x"}
            staged.publish(app, [
                JobQueued(job=job, file=None, model=f"m{text}", seed=1),
                JobStarted(job=job, device=f"d{text}"),
                PlanMade(job=job, profile=f"p{text}", fits=None, device=device, vram_bytes=None, ram_bytes=None,
                         seconds=None, reasons=(f"r{text}",)),
                Notice(job=job, code="x", message=f"w{text}"),
            ])  # fmt: skip
            looked_for = flat(f"m{sign(text)}")[:8]
            await until(guest.pilot, lambda looked_for=looked_for: looked_for in flat(shown(app)), 90)  # type: ignore[misc]
            for key in ("c", "escape", "l", "escape"):
                await guest.press(key)
                await guest.even()
            staged.publish(app, [
                JobFailed(job=job, time=now, code=f"c{kind}", message=f"f{text}", cause=text, suggestions=(text,),
                          actions=()),
                Failed(job=f"i{text}", id=f"i{text}", code="x", message=f"l{text}", cause=text, suggestions=(text,),
                       actions=()),
            ])  # fmt: skip
            await until(guest.pilot, lambda job=job: app.live.jobs[job].over)  # type: ignore[misc]
            await guest.even()
        for key in ("f2", "f6", "f8"):
            await guest.press(key)
            await asyncio.sleep(0.2)
            await guest.even()

    visit(steps, size)
