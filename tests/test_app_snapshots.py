"""Every place in every state, as a picture that is compared exactly: `captures.py` tells how to read and renew them."""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from engine.catalog import load_catalog
from engine.errors import WanError
from engine.events import Download, Event, Failed
from engine.hardware import Device
from engine.library import locate
from engine.paths import shipped
from engine.runtime.check import _check_item, subject
from engine.runtime.owner import Owner
from engine.runtime.testload import LoadTest, Tried
from tests import staged
from tests.app import Keyboard, composer, ragged, shown, until
from tests.captures import Album, captured
from tests.staged import H100, gpu, machine
from wan_tui.actions import BY_ID
from wan_tui.app import WanApp
from wan_tui.composing.examine import Prospect
from wan_tui.greeting import Prospect as Promise
from wan_tui.screens import diagnostics, library_read
from wan_tui.screens.composer import Composer
from wan_tui.screens.diagnostics import Diagnostics, Found
from wan_tui.screens.diagnostics_smoke import SmokeNow
from wan_tui.screens.gallery import Gallery
from wan_tui.screens.library import Library
from wan_tui.screens.monitor import Monitor
from wan_tui.screens.queue import Queue
from wan_tui.screens.welcome import Welcome
from wan_tui.session import Session
from wan_tui.settings import Settings
from wan_tui.widgets.ask import Ask
from wan_tui.widgets.trouble import Trouble, Way
from wan_tui.widgets.words import Words

SIZES = [(80, 24), (200, 50)]
SMALL = (60, 20)


@pytest.fixture(autouse=True)
def fixed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home whose path is always as long, one time zone, and one machine below."""
    folder = Path(tempfile.mkdtemp(prefix="wan-", dir="/tmp"))
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "HF_HOME"):
        (folder / name).mkdir()
        monkeypatch.setenv(name, str(folder / name))
    for name, value in {"TZ": "UTC", "TERM": "xterm-256color", "COLORTERM": "truecolor"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(platform, "release", lambda: "6.12.0")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(platform, "python_version", lambda: "3.11.0")
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    monkeypatch.delenv("SSH_CONNECTION", raising=False)
    monkeypatch.delenv("SSH_TTY", raising=False)
    time.tzset()
    monkeypatch.setattr(Owner, "__str__", lambda _: "process 4711 on box")
    monkeypatch.setattr(library_read, "free_bytes", lambda *_: 512 * 10**9)
    known = diagnostics.gather
    monkeypatch.setattr(
        diagnostics, "gather", lambda: tuple(replace(one, outlook=one.outlook and "fits") for one in known())
    )
    (folder / "outputs").mkdir()
    (folder / "XDG_DATA_HOME" / "demo").symlink_to(shipped("demo"))
    monkeypatch.setattr(locate, "shipped", lambda name: folder / "XDG_DATA_HOME" / name)
    monkeypatch.chdir(folder)
    yield folder
    monkeypatch.undo()
    time.tzset()
    shutil.rmtree(folder)


class Visit(Keyboard):
    """The app, and the album of what it shows."""

    def __init__(self, app: WanApp, pilot: Pilot[Any], album: Album, hide: dict[str, str]) -> None:
        super().__init__(app, pilot)
        self._album, self._hide = album, hide

    async def sees(self, *texts: str) -> None:
        await until(self.pilot, lambda: all(text in shown(self.app) for text in texts))

    async def take(self, state: str, *texts: str) -> None:
        """A picture of it, once it shows these texts and stands still."""
        await self.sees(*texts)
        before = ""
        while not (now := captured(self.app, self._hide)) or now != before:
            before = now
            await asyncio.sleep(0.1)
        assert ragged(self.app) == []
        self._album.take(self.app, state)


Steps = Callable[[Visit], Awaitable[None]]


def visit(folder: Path, where: str, about: str, size: tuple[int, int], steps: Steps, **more: Any) -> None:
    token = folder.name.removeprefix("wan-")
    hide = {rf"/tmp/wan-{token[:n]}(?![a-z0-9_])": f"/tmp/wan-{'0' * n}" for n in range(8, 0, -1)}
    hide |= {rf"([…│]|│\w{{1,2}}-){token[8 - n :]}/": rf"\g<1>{'0' * n}/" for n in range(8, 0, -1)}
    hide |= {r"\b12:3\d\b": "12:34", r"\b\d\d:\d\d:\d\d\b": "00:00:00"}

    async def go() -> None:
        album = Album(where, about, hide)
        app = WanApp(Session(), Settings(), **more)
        async with app.run_test(size=size, notifications=about == "everywhere") as pilot:
            app.sampling.stop()  # the box itself is not looked at
            try:
                await steps(Visit(app, pilot, album, hide))
            finally:
                await asyncio.to_thread(app.session.stop, "user")
        album.close()

    asyncio.run(go())


def key_of(id: str) -> str:
    return BY_ID[id].keys.split(",")[0]


def named(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


# The library


async def a_library(see: Visit) -> Library:
    await until(see.pilot, lambda: isinstance(see.app.screen, Library) and see.app.screen.settled)
    library = see.app.screen
    assert isinstance(library, Library)
    library._machine = machine(H100)
    library.reload()
    await until(see.pilot, lambda: library.settled)
    return library


def here(folder: Path, id: str, repo: str) -> None:
    """Some of a model's files, in a folder of their own."""
    place = folder / "models" / repo
    (place / "vae").mkdir(parents=True)
    (place / "model_index.json").write_text("{}")
    (place / "vae" / "config.json").write_text("{}")


@pytest.mark.parametrize("size", SIZES, ids=named)
def test_library(size: tuple[int, int], fixed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELS_ROOT", str(fixed / "models"))
    here(fixed, "t2v-1.3B@2.1.0", "Wan-AI/Wan2.1-T2V-1.3B-Diffusers")
    id = "ti2v-5B@2.2.0"

    async def steps(see: Visit) -> None:
        library = await a_library(see)
        await see.take("list", "Library", "absent")
        library.listing.go_to("t2v-1.3B@2.1.0")
        await see.take("damaged", "▸t2v-1.3B")
        await see.press("enter")
        await see.take("card", "Esc close")
        await see.leave()
        await see.press("g", "slash")
        await until(see.pilot, lambda: isinstance(see.app.focused, Words))
        await see.press(*"i2v")
        await until(
            see.pilot, lambda: {row.key for row in library.listing.rows}.isdisjoint({"t2v-A14B@2.2.0", "# On disk"})
        )
        library.listing.go_to("i2v-A14B@2.2.0")
        await see.take("filter", "i2v")
        await see.press(*"qz")
        await see.take("nothing-matches", "Nothing matches")
        await see.press("escape", key_of("library.show"))
        await see.take("on-disk", "only")
        await see.press(key_of("library.show"), key_of("library.show"))
        session, until_stopped = see.app.session, lambda control: control.wait(600)
        session.transfer(id, until_stopped, lambda _: None, "download")
        whole, part = 34 * 10**9, 12 * 10**9
        for name, done in (
            ("transformer/diffusion_pytorch_model-00001-of-00003.safetensors", 4),
            ("vae/config.json", 0),
        ):
            staged.publish(see.app, [
                Download(job=id, id=id, file=name, done=done * 10**9, total=10**10, rate=3e7, all_done=part,
                         all_total=whole, all_rate=4.2e7, eta_s=523.0),
            ])  # fmt: skip
        library.listing.go_to(id)
        await see.take("downloading", "42.0 MB/s", "vae/config.json")
        await see.press("ctrl+q")
        await see.take("leaving", "Work is under way")
        await see.leave()
        session.stop_transfer(id)
        await until(see.pilot, lambda: not session.busy)
        staged.publish(see.app, [broken(id)])
        library.touch({id})
        await see.take("failed", "✗")
        await see.press(key_of("library.explain"))
        await see.take("explained", "Esc close")
        await see.leave()
        (fixed / "manifest.toml").write_text('[models."x@1.0"]\nfamily = "none"\n')
        monkeypatch.setenv("WAN_MODELS_MANIFEST", str(fixed / "manifest.toml"))
        library.reload()
        await see.take("broken-manifest", "cannot be shown")

    visit(fixed, named(size), "library", size, steps)


def broken(id: str) -> Event:
    return Failed(
        job=id,
        id=id,
        code="hub-unreachable",
        message="The Hub cannot be reached.",
        cause="No route to host.",
        suggestions=("See whether this box has a network, then download again: it goes on where it stopped.",),
        actions=("download",),
    )


# Diagnostics


@pytest.mark.parametrize("size", SIZES, ids=named)
def test_diagnostics(size: tuple[int, int], fixed: Path) -> None:
    async def steps(see: Visit) -> None:
        place = await a_box(see)
        await see.take("box", "NVIDIA H100", "demo@1")
        await see.press("enter")
        await see.take("box-in-full", "Software")
        place._have_machine(machine(torch_for="cpu"))
        await see.take("box-without-gpu", "no GPU")
        place._have_machine(machine(*[H100] * 8))
        await see.press("escape")
        await see.take("box-with-eight", "NVIDIA H100")
        place._have_machine(machine(H100))
        for name in ("demo@1", "t2v-1.3B@2.1.0", "flf2v-14B-720P@2.1.0"):
            reported(place, name)
            await see.take(f"report-{name.partition('@')[0]}", name)
        reported(place, "demo@1")
        smoked(place, "demo@1")
        await see.take("smoke-runs", "denoise, 1 of 2")
        tried = Tried(
            "vae", "AutoencoderKLWan", "failed", 0.4, error=WanError("bad-weights", "vae: a tensor is missing.")
        )
        parts = (Tried("transformer", "WanTransformer3DModel", "loaded", 1.5, 14_300, ("fp32",), 2 * 10**9), tried)
        cpu = Device("cpu", "cpu", "CPU", 128 * 10**9, 96 * 10**9)
        place._work._smokes["demo@1"] = SmokeNow("failed", done=LoadTest("demo@1", "runs", cpu, parts, None, 4.5))
        place.show_pane()
        await see.take("smoke-failed", "a tensor is missing")
        await see.press("o")
        await see.take("which-folder", "Which folder")

    visit(fixed, named(size), "diagnostics", size, steps)


async def a_box(see: Visit) -> Diagnostics:
    place: Diagnostics = await see.go_to("f3", Diagnostics)
    await until(see.pilot, lambda: place._machine and place._known)
    box = machine(H100)
    while place._machine is not box:  # it looks twice: made, and shown
        place._have_machine(box)
        await asyncio.sleep(0.15)
    return place


def reported(place: Diagnostics, reference: str) -> None:
    """The report of a model, for the box that stands here always."""
    catalog = load_catalog()
    about = subject(reference, catalog)
    assert about.item
    report = _check_item(about.item.id, about.item, None, catalog, machine(H100))
    place._have(about.item.id, Found(about.item.id, about, report))
    place.read(about.item.id)


def smoked(place: Diagnostics, key: str) -> None:
    log = ("transformer: loaded in 1.5 s", "every component loads; now the smallest clip")
    place._work._smokes[key] = SmokeNow("running", "denoise, 1 of 2", log)
    place.show_pane()


# The composer


async def promised(place: Composer, **more: Any) -> None:
    """What is known of the job, on a box that is always the same."""
    found = place.prospect
    known = Prospect(
        found.problem if found else None,
        found.field if found else None,
        found.job if found else None,
        model="t2v-1.3B@2.1.0",
        device=H100.name,
        total_bytes=H100.total_bytes,
        free_bytes=H100.free_bytes,
        plan=staged.plan(),
    )
    ours = replace(known, **more)
    while place.prospect is not ours or place.examining:  # an answer about this box may still be on its way
        place.prospect = ours
        await asyncio.sleep(0.2)
    place.show_form()


@pytest.mark.parametrize("size", SIZES, ids=named)
def test_composer(size: tuple[int, int], fixed: Path) -> None:
    async def steps(see: Visit) -> None:
        place = await composer(see)
        await promised(place, problem=None, model="demo@1")
        await see.take("empty", "Compose")
        job = f'model = "t2v-1.3B"\nprompt = "{staged.PROMPT}"\nsize = "830*480"\nsteps = 40\nseed = 7\n'
        place.load_text(job, str(fixed / "cat.toml"))
        await see.sees("ginger cat")
        await until(see.pilot, lambda: place.settled)
        await promised(place)
        await see.take("problem", "830")
        for key, state, text in (
            ("ctrl+o", "open", "Open a job"),
            ("ctrl+l", "presets", "Presets"),
            ("f11", "sweep", "Sweep"),
        ):
            for folder in fixed.iterdir():
                os.utime(folder, (1_710_000_000, 1_710_000_000))
            await see.press(key)
            await see.take(state, text)
            await see.leave()
            await until(see.pilot, lambda: place.settled)
            await promised(place)
        place._view.go_to("model")
        await see.press("enter")
        await see.take("models", "t2v-A14B")
        await see.leave()
        await see.press("escape")
        await until(see.pilot, lambda: see.app.focused is None and place.settled)
        await promised(place)
        await see.press("v")
        await see.take("plan", "Esc")

    visit(fixed, named(size), "composer", size, steps)


# The monitor


@pytest.mark.parametrize("size", SIZES, ids=named)
def test_monitor(size: tuple[int, int], fixed: Path) -> None:
    async def steps(see: Visit) -> None:
        place: Monitor = await see.go_to("f5", Monitor)
        await see.take("looking", "Looking")

        def has(*gpus: Any, notice: str | None = None) -> None:
            staged.sampled(see.app, *gpus, notice=notice)
            place._sampled()

        has()
        await see.take("no-gpu", "No GPU was found")
        has(gpu())
        await see.take("one", "RTX 4090")
        await see.press("c")
        await see.take("card", "00000000:01")
        await see.press("escape")
        has(*(gpu(at) for at in range(4)))
        await see.take("four", "cuda:3")
        has(*staged.parts())
        await see.take("mig", "MIG")
        has(gpu(), gpu(1, problem="The driver does not tell this user of it.", used_bytes=None, free_bytes=None,
                       utilization=None, our_bytes=None))  # fmt: skip
        await see.take("partly-unknown", "—")
        has(notice="The NVIDIA driver does not answer: no figures of its cards.")
        await see.take("driver-gone", "does not answer")
        has(gpu())
        staged.write_jobs([{**staged.history()[4], "id": "20240305-0914-5a2b"}])
        staged.publish(see.app, staged.happened("20240305-0914-5a2b", time.time()))
        await see.take("job", "step 12 of 40", "lighthouse")
        await see.press("ctrl+k")
        await see.take("cancel", "y cancel it")
        await see.leave()
        await see.press("l")
        await see.take("log", "longer than 512")
        await see.press("escape")
        staged.publish(see.app, [staged.failed("20240305-0914-5a2b", time.time())])
        await see.take("job-failed", "✗ failed", "too little memory")

    visit(fixed, named(size), "monitor", size, steps)


# The queue


@pytest.mark.parametrize("size", SIZES, ids=named)
def test_queue(size: tuple[int, int], fixed: Path) -> None:
    async def steps(see: Visit) -> None:
        place: Queue = await see.go_to("f6", Queue)
        await see.take("empty", "Queue")
        staged.write_jobs(staged.history())
        place.reading.look(anew=True)
        await see.take("mixed", "✗ failed", "waiting")
        place.listing.go_to("20240302-0914-2a2b")
        await see.take("failed", "▸✗ failed")
        await see.press("enter")
        await see.take("detail", "too little memory", "Esc close")
        await see.leave()
        await see.press(key_of("queue.again"))
        await see.take("again", "With a new seed")
        await see.leave()

    visit(fixed, named(size), "queue", size, steps)


# The gallery


@pytest.mark.parametrize("size", SIZES, ids=named)
def test_gallery(size: tuple[int, int], fixed: Path) -> None:
    async def steps(see: Visit) -> None:
        place: Gallery = await see.go_to("f7", Gallery)
        await see.take("empty", "No videos")
        staged.clip(fixed / "outputs" / "cat.mp4", 2)
        staged.clip(fixed / "outputs" / "boat.mp4", 3, colour=(30, 90, 200), prompt="A paper boat on a pond")
        staged.clip(fixed / "outputs" / "broken.mp4", 1, prompt="It was cut off").write_bytes(b"no video")
        place.look()
        await see.sees("boat.mp4")
        await until(see.pilot, lambda: place.picture._strips and not place.picture.playing)
        await see.take("clips", "boat.mp4", "▸")
        await see.press(key_of("gallery.mark"))
        await see.take("marked", "boat.mp4")
        await see.press("G")
        await see.take("broken", "cannot be used")
        await see.press(key_of("gallery.delete"))
        await see.take("delete", "y delete it")

    visit(fixed, named(size), "gallery", size, steps)


# What stands over all places


@pytest.mark.parametrize("size", SIZES, ids=named)
def test_everywhere(size: tuple[int, int], fixed: Path) -> None:
    async def steps(see: Visit) -> None:
        await until(see.pilot, lambda: isinstance(see.app.screen, Welcome))
        welcome = see.app.screen
        assert isinstance(welcome, Welcome)
        await see.sees("Predicted for")
        library = see.app.screen_stack[0]
        assert isinstance(library, Library)
        await until(see.pilot, lambda: library.settled)
        library._machine = machine(H100)
        library.reload()
        await until(see.pilot, lambda: library.settled)
        welcome._show(Promise(machine(H100), ("t2v-1.3B", "ti2v-5B (streams)"), ("t2v-A14B",)))
        await see.take("welcome", "H100")
        await see.leave()
        await a_library(see)
        for key, state, text in (
            ("f1", "help", "A list."),
            ("ctrl+p", "palette", "What to do"),
            ("ctrl+t", "themes", "wan-clear"),
        ):
            await see.press(key)
            await see.take(state, text)
            await see.leave()
        await see.press("f8")
        await see.take("messages", "Nothing was said yet")
        await see.leave()
        detail = "What was computed of it is lost; the jobs that wait go on."
        see.app.push_screen(Ask("Cancel the job that runs (t2v-1.3B@2.1.0)?", detail, yes="cancel it"))
        await see.take("ask", "cancel it")
        await see.leave()
        error = WanError("out-of-memory", "The GPU has too little memory.", cause="22.1 GB were in use.",
                         suggestions=["Use fewer frames.", "Use a smaller size."])  # fmt: skip
        see.app.push_screen(Trouble(error, [Way("x", "compose it anew with 49 frames")]))
        await see.take("trouble", "do ")
        await see.leave()
        see.app.tell("Queued: 3 videos.")
        see.app.tell("The job failed: the GPU has too little memory for 121 frames of 1280x704.", "error")
        await see.take("toasts", "Queued")

    visit(fixed, named(size), "everywhere", size, steps, first_start=True)


def test_too_small(fixed: Path) -> None:
    async def steps(see: Visit) -> None:
        await see.take("", "This needs a terminal")

    visit(fixed, "59x19", "too-small", (59, 19), steps)


# Every place at its least size, in other colours, and without colours or letters


LOOKS = [
    "60x20",
    "no-colour",
    *(pytest.param(one, marks=pytest.mark.soak) for one in ("light", "clear", "16", "ascii")),
]


@pytest.mark.parametrize("look", LOOKS)
def test_looks(look: str, fixed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if look == "no-colour":
        monkeypatch.setenv("NO_COLOR", "1")
    staged.write_jobs(staged.history())
    staged.clip(fixed / "outputs" / "cat.mp4", 1)

    async def steps(see: Visit) -> None:
        if look in ("light", "clear", "16"):
            see.app.theme = f"wan-{look}"
        library = await a_library(see)
        library.listing.go_to("t2v-1.3B@2.1.0")
        await see.take("library", "t2v-1.3B@2.1.0")
        await a_box(see)
        await see.take("diagnostics", "H100")
        place = await composer(see)
        await promised(place, problem=None, model="demo@1")
        await see.take("composer", "Compose")
        monitor: Monitor = await see.go_to("f5", Monitor)
        staged.sampled(see.app, gpu(), gpu(1))
        monitor._sampled()
        await see.take("monitor", "cuda:1")
        await see.go_to("f6", Queue)
        await see.take("queue", "failed")
        gallery: Gallery = await see.go_to("f7", Gallery)
        await see.sees("cat.mp4")
        await until(see.pilot, lambda: gallery.picture._strips and not gallery.picture.playing)
        await see.take("gallery", "cat.mp4")
        await see.press("f1")
        await see.take("help", "Finished videos")

    visit(fixed, look, "", SMALL if look == "60x20" else (80, 24), steps, ascii=look == "ascii")
