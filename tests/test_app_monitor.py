"""The place `monitor`, by its keys: boxes of every kind under a stand-in driver, and a real job of a tiny model."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.events import JobFailed, JobFinished, JobQueued, JobStarted, Notice, PlanMade, Progress, Stage
from engine.jobfile import read_job
from engine.runtime.prepare import Checked, prepare
from engine.sampling.sampler import Sampler
from tests.app import shown, until
from tests.nvml import GIB, ROOT, Box, a_4090, build
from tests.runs import job_file
from wan_tui.app import WanApp
from wan_tui.ascii import in_ascii
from wan_tui.now import JobNow, Spell
from wan_tui.screens.monitor import Monitor
from wan_tui.screens.monitor_figures import curve, shares
from wan_tui.screens.monitor_job import Around, job_lines
from wan_tui.screens.monitor_lines import Lines, changed
from wan_tui.session import Session
from wan_tui.settings import Settings
from wan_tui.text import one_line

pytestmark = pytest.mark.sampled(3)

TinyModel = Callable[[str], Path]
SIZES = ((80, 24), (120, 40))
HOSTILE = ("closing [/b] tag", "[@click=app.quit]quit[/]", "\x1b[31mred", "a\u202eb", "一只红色的圆圈", "e\u0301👩‍👩‍👧")
_SHOW = """
import asyncio, json, os, sys
from tests.app import shown, until
from wan_tui.app import WanApp
from wan_tui.session import Session
from wan_tui.settings import Settings

async def walk(size, steps):
    app = WanApp(Session(), Settings())
    async with app.run_test(size=tuple(size)) as pilot:
        await pilot.press("f5")
        for kind, what in steps:
            if kind == "driver":
                with open(os.environ["FAKE_NVML"] + ".new", "w") as file:
                    file.write(what)
                os.replace(file.name, os.environ["FAKE_NVML"])
            elif kind == "until":
                await until(pilot, lambda: what in shown(app))
            else:
                await pilot.press(what)
                await pilot.pause()
        return shown(app)

for line in sys.stdin:
    try:
        answer = {"shown": asyncio.run(walk(*json.loads(line)))}
    except AssertionError as error:
        answer = {"waited in vain": str(error)}
    print(json.dumps(answer), flush=True)
"""


def a_uuid(number: int) -> str:
    return f"GPU-{number:08x}-1111-2222-3333-444444444444"


def a_part(card: int, number: int, used: int) -> dict[str, object]:
    of = f"{card}.{number}"
    return {
        f"{of}.uuid": f"MIG-{number}",
        f"{of}.name": f"NVIDIA A100-SXM4-80GB MIG {number + 3}g.40gb",
        f"{of}.memory_v2": f"{40 * GIB} {used * GIB} {(40 - used) * GIB}",
    }


class Shown:
    """A program that shows the Monitor on a box whose driver is ours; every walk is a new app in it."""

    def __init__(self, library: Path, folder: Path) -> None:
        self.box = Box(library, folder)
        homes = ("HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "HF_HOME")
        self._program = subprocess.Popen(
            [sys.executable, "-c", _SHOW],
            cwd=ROOT,
            env={**self.box.environment, **{name: str(folder) for name in homes}},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def walk(self, size: tuple[int, int], *steps: tuple[str, str]) -> str:
        """Go to the Monitor, then: change what the `driver` answers, wait `until` a text is shown, `press` a key."""
        assert self._program.stdin and self._program.stdout
        self._program.stdin.write(json.dumps([size, steps]) + "\n")
        self._program.stdin.flush()
        answer: dict[str, str] = json.loads(self._program.stdout.readline())
        assert "shown" in answer, answer["waited in vain"]
        return answer["shown"]

    def table(self, *cards: dict[str, object], **system: object) -> str:
        """What `Box.has` makes of them."""
        self.box.has(*cards, **system)
        return self.box.file.read_text()

    def close(self) -> None:
        self._program.communicate()
        assert self._program.returncode == 0


@pytest.fixture(scope="module")
def on_box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    program = Shown(build(tmp_path_factory.mktemp("nvml")), tmp_path_factory.mktemp("box"))
    yield program
    program.close()


# Devices


@pytest.mark.parametrize("size", SIZES)
def test_one_card_with_everything(on_box: Shown, size: tuple[int, int]) -> None:
    on_box.box.has(a_4090(0, a_uuid(0), processes=""))
    text = on_box.walk(size, ("until", "RTX 4090"))
    assert "driver 580.82.07, CUDA up to 13.0" in text
    assert re.search(r"cuda:0 +NVIDIA GeForce RTX 4090 .*GPU-00000000", text)
    assert re.search(r"VRAM █*▌+░+ +ours +0 B +others +8.6 GB +free +16.1 GB of +25.8 GB", text)
    assert "busy  97 %" in text and "71 °C" in text and "390 W of 450 W" in text and "slowed: power cap" in text
    assert ("memory bus  41 %" in text and "2520 MHz" in text and "P2" in text) or size[0] < 100
    assert "▸" not in text  # nothing to choose
    full = on_box.walk(size, ("until", "RTX 4090"), ("press", "enter"))
    for told in (a_uuid(0), "00000000:01:00.0", "8.9", "memory bus 41 %", "2520 MHz, P2", "by power cap", "heat"):
        assert told in full
    assert "— in use, — reserved, peak —" in full  # this process has used no CUDA


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.sampled(2)
def test_four_cards_and_the_keys_among_them(on_box: Shown, size: tuple[int, int]) -> None:
    cards = [a_4090(index, a_uuid(index), utilization=f"{11 * index} 41", throttle="0") for index in range(4)]
    on_box.box.has(*cards)
    text = on_box.walk(size, ("until", "cuda:3"))
    for index in range(4):
        assert re.search(rf"cuda:{index} .*RTX 4090", text)
        assert f"busy {11 * index:>3} %" in text
    assert "▸cuda:0" in text and "slowed" not in text
    assert "▸cuda:2" in on_box.walk(size, ("until", "cuda:3"), ("press", "j"), ("press", "n"))
    last = on_box.walk(size, ("until", "cuda:3"), ("press", "G"), ("press", "enter"), ("until", a_uuid(3)))
    assert "cuda:2" not in last
    assert a_uuid(2) in on_box.walk(size, ("until", "cuda:3"), ("press", "G"), ("press", "c"), ("press", "p"))


@pytest.mark.parametrize("size", ((60, 20), *SIZES))
@pytest.mark.sampled(3)
def test_more_cards_than_fit_are_scrolled_to(on_box: Shown, size: tuple[int, int]) -> None:
    on_box.box.has(*(a_4090(index, a_uuid(index)) for index in range(32)))
    text = on_box.walk(size, ("until", "cuda:1 "))
    assert "cuda:31" not in text and "Host" in text and "Job" in text
    assert "▸cuda:31" in on_box.walk(size, ("until", "cuda:1 "), ("press", "G"), ("until", "cuda:31"))


@pytest.mark.parametrize("size", SIZES)
def test_what_is_unknown_is_no_zero(on_box: Shown, size: tuple[int, int]) -> None:
    on_box.box.has({"0.uuid": "GPU-x", "0.memory": "!4", "0.memory_v2": "!4"})
    text = on_box.walk(size, ("until", "GPU-x"))
    assert "let this user see its memory" in text and "busy     —" in text and "— of —" in text
    devices = text[text.index("GPU-x") : text.index("Host")]
    assert "0" not in devices
    full = on_box.walk(size, ("until", "GPU-x"), ("press", "c"))
    assert "— used, — free of —; ours —" in full and "slowed   —" in full


@pytest.mark.parametrize("size", SIZES)
def test_memory_that_is_shared_with_the_cpu(on_box: Shown, size: tuple[int, int]) -> None:
    on_box.box.has(a_4090(0, a_uuid(0), name="NVIDIA GB10", memory=None, memory_v2=None, limit=None))
    text = on_box.walk(size, ("until", "GB10"))
    assert "shared (system) memory" in text and "390 W of —" in text and "VRAM" not in text


@pytest.mark.parametrize("size", SIZES)
def test_parts_stand_under_the_card_that_is_split(on_box: Shown, size: tuple[int, int]) -> None:
    whole = a_4090(0, a_uuid(0), name="NVIDIA A100-SXM4-80GB", memory="!4", memory_v2="!4", utilization=None)
    on_box.box.has({**whole, "0.mig": 1, **a_part(0, 0, 9), **a_part(0, 1, 1)})
    lines = on_box.walk(size, ("until", "4g.40gb")).splitlines()
    at = [next(number for number, line in enumerate(lines) if name in line) for name in ("A100", "3g.40", "4g.40")]
    assert at == sorted(at)
    assert "└" in lines[at[1]] and "MIG 3g.40gb" in lines[at[1]]
    assert "9.7 GB" in lines[at[1] + 1] or "33.3 GB" in lines[at[1] + 1]


@pytest.mark.parametrize("size", SIZES)
def test_a_card_that_falls_off_the_bus_keeps_its_last_figures_with_their_age(
    on_box: Shown, size: tuple[int, int]
) -> None:
    lost = on_box.table(a_4090(0, a_uuid(0)), a_4090(1, a_uuid(1), utilization="!15", memory_v2="!15"))
    on_box.box.has(a_4090(0, a_uuid(0)), a_4090(1, a_uuid(1)))
    text = on_box.walk(size, ("until", "cuda:1"), ("driver", lost), ("until", "lost, figures "))
    assert re.search(r"lost, figures [1-9] s old", text)
    assert text.count("RTX 4090") == 2


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("system", "told"),
    [
        ({"init": "!9"}, "installed but not loaded"),
        ({"init": "!18"}, "restart the box"),
        ({"init": "!4"}, "may not use the NVIDIA driver"),
        ({}, "sees no GPU"),
    ],
)
@pytest.mark.sampled(3)
def test_a_driver_without_devices_says_why(
    on_box: Shown, size: tuple[int, int], system: dict[str, object], told: str
) -> None:
    on_box.box.has(**system)
    text = on_box.walk(size, ("until", "driver"))
    assert told in " ".join(text.split())
    assert re.search(r"RAM +█+▌*░+ +ours +\d", text) and re.search(r"load +\d", text)
    assert "Card" not in text.splitlines()[-2]  # no key for what is not there


def test_a_driver_that_goes_away_while_it_is_watched(on_box: Shown) -> None:
    on_box.box.has(a_4090(0, a_uuid(0)))
    text = on_box.walk((80, 24), ("until", "RTX 4090"), ("driver", "init !9\ncount !9\n"), ("until", "does not answer"))
    assert "looked for every 10 seconds" in " ".join(text.split())
    assert re.search(r"lost, figures \d+ s old", text)


# The host, and the job


async def on_place(
    check: Callable[[WanApp, Monitor, Any], Awaitable[None]], size: tuple[int, int] = (80, 24), **settings: Any
) -> None:
    app = WanApp(Session(), Settings(**settings))
    async with app.run_test(size=size) as pilot:
        await pilot.press("f5")
        await until(pilot, lambda: "free" in shown(app))
        place = app.screen
        assert isinstance(place, Monitor)
        await check(app, place, pilot)
        app.session.stop("user")


@pytest.mark.parametrize("size", ((60, 20), (80, 24), (120, 40), (200, 50)))
@pytest.mark.sampled(2)
def test_a_box_without_a_driver(size: tuple[int, int]) -> None:
    async def check(app: WanApp, place: Monitor, pilot: Any) -> None:
        text = shown(app)
        assert "No NVIDIA driver was found" in text and "Looking" not in text
        assert "F4 asks for a video, F9 renders the demo." in text
        assert "models" in text and "CPUs" in text
        for key in ("c", "n", "p", "enter", "j", "k", "g", "G", "l", "x"):  # each does something, or says why not
            await pilot.press(key)
        assert app.screen is place and "Cancel" not in shown(app)  # no key for what is not there
        await pilot.press("ctrl+k")
        assert "No job runs." in [one.text for one in app.said]
        await pilot.press("o")
        assert app.current_mode == "queue"

    asyncio.run(on_place(check, size))


def a_job(model: Path, folder: Path, **values: object) -> list[Checked]:
    from engine.catalog import load_catalog

    file = job_file(folder, model, **values)
    return [prepare(read_job(file), file, load_catalog())]


def test_a_job_is_watched_and_cancelled_by_key(tiny_model: TinyModel, tmp_path: Path) -> None:
    model = tiny_model("t2v")
    prompt = "a cat [/b] [@click=app.quit] a\u202eb 一只猫"

    async def check(app: WanApp, place: Monitor, pilot: Any) -> None:
        long = {"steps": 900, "frames": 33, "width": 192, "height": 192}
        app.submit(lambda: a_job(model, tmp_path, prompt=prompt, **long))
        await until(pilot, lambda: "▶ denoise" in shown(app) and re.search(r"step +\d+ of 900", shown(app)), 60)
        text = shown(app)
        assert one_line(prompt) in text
        assert re.search(r"✓ check \d+\.\d s  ✓ encode", text) and "· decode" in text and "· write" in text
        assert re.search(r"\d+\.\d\d s a step", text)
        assert re.search(r"denoise: \d+:\d\d left   in all: \d+:\d\d left   predicted: \d+:\d\d", text)
        assert re.search(r"RAM peak +\d.*, predicted \d", text) and "VRAM peak" not in text  # it runs on the CPU
        assert "Cancel" in text.splitlines()[-2]
        await pilot.press("l")
        await until(pilot, lambda: "loaded text_encoder in" in shown(app))
        assert "Devices" not in shown(app)
        await pilot.press("escape")
        assert "Devices" in shown(app)
        await pilot.press("x")
        await until(pilot, lambda: "Cancel the job" in shown(app))
        await pilot.press("y")
        await until(pilot, lambda: "– cancelled" in shown(app), 30)
        assert "✓ encode" in shown(app) and "▶" not in shown(app)

    asyncio.run(on_place(check))


@pytest.mark.soak
def test_a_job_that_is_done_shows_its_result(tiny_model: TinyModel, tmp_path: Path) -> None:
    model = tiny_model("t2v")

    async def check(app: WanApp, place: Monitor, pilot: Any) -> None:
        app.submit(lambda: a_job(model, tmp_path))
        await until(pilot, lambda: "✓ finished" in shown(app), 60)
        text = shown(app)
        assert "9 frames   64x64   seed 7" in text and "✓ decode" in text and "✓ write" in text
        assert ".mp4" in text

    asyncio.run(on_place(check, (120, 40)))


@pytest.mark.parametrize("size", ((60, 20), (80, 24), (200, 50)))
@pytest.mark.parametrize("hostile", (*HOSTILE, "x[/b]" * 2000))
@pytest.mark.sampled(4)
def test_foreign_text_is_shown_as_it_is(size: tuple[int, int], hostile: str) -> None:
    async def check(app: WanApp, place: Monitor, pilot: Any) -> None:
        bus = app.session.bus
        bus.publish(JobQueued(job="j", file=None, model=hostile, seed=1))
        bus.publish(JobStarted(job="j", device=hostile))
        bus.publish(Notice(job="j", code="c", message=hostile))
        bus.publish(Stage(job="j", name="encode", state="started"))
        bus.publish(Stage(job="j", name="load", state="started", component=hostile))
        start = one_line(hostile)[:8]
        await until(pilot, lambda: f"▶ load {start}" in shown(app) and f"! {start}" in shown(app))
        bus.publish(JobFailed(job="j", code="c", message=hostile, cause=None, suggestions=(), actions=()))
        await until(pilot, lambda: "✗ failed" in shown(app))
        await pilot.press("l")
        end = one_line(hostile)[-4:]  # the log is shown from its end
        await until(pilot, lambda: "Devices" not in shown(app) and end in shown(app))
        assert "\x1b" not in shown(app) and "\u202e" not in shown(app)

    asyncio.run(on_place(check, size))


def test_what_is_left_of_stages_that_have_not_begun_is_the_plans() -> None:
    """By the plan a step of two experts is one stage, and so is all that comes before it."""
    stages = (("text", 4.0), ("condition", 2.0), ("denoise", 60.0), ("denoise", 40.0), ("decode", 30.0))
    plan = PlanMade(
        job="j", profile="staged", fits=True, device={}, vram_bytes=1, ram_bytes=1, seconds=136.0, reasons=(),
        stages=tuple({"name": name, "seconds": seconds} for name, seconds in stages),
    )  # fmt: skip
    job = JobNow("j", "running", plan=plan, started=1000.0)

    def told(job: JobNow, now: float) -> str:
        lines = job_lines(job, Around("a cat", 0, {}, now), 100)
        return next(text for line in lines if "in all" in (text := "".join(_text(piece) for piece in line)))

    def progress(stage: str, eta: float) -> Progress:
        return Progress(job="j", stage=stage, done=1, total=9, eta_s=eta, seconds_per_unit=None, vram_bytes=None,
                        rss_bytes=None)  # fmt: skip

    assert "in all: 2:16 left   predicted: 2:16   encode 0:06, denoise 1:40, decode 0:30" in told(job, 1000.0)
    encoding = replace(job, stage="encode", spells=(Spell("encode", 1000.0),))
    assert "encode: —   in all: 2:12 left" in told(encoding, 1004.0)
    assert "in all: 2:10 left" in told(encoding, 1500.0)  # longer than planned: it may be over at any moment
    spells = (Spell("encode", 1000.0, 9.0), Spell("denoise", 1009.0))
    denoising = replace(job, stage="denoise", spells=spells, progress=progress("denoise", 200.0))
    assert "denoise: 3:20 left   in all: 3:50 left   predicted: 2:16   decode 0:30" in told(denoising, 1010.0)
    unknown = replace(plan, stages=(*plan.stages[:-1], {"name": "decode", "seconds": None}))
    assert "in all: —   predicted: 2:16   decode not known yet" in told(replace(denoising, plan=unknown), 1010.0)


def _text(piece: str | tuple[str, str]) -> str:
    return piece if isinstance(piece, str) else piece[0]


def test_what_is_left_is_told_only_where_it_follows() -> None:
    async def check(app: WanApp, place: Monitor, pilot: Any) -> None:
        bus, job = app.session.bus, "j"
        bus.publish(JobQueued(job=job, file=None, model="m", seed=1))
        await until(pilot, lambda: "▶ starts" in shown(app) and "loading the libraries" in shown(app))
        await until(pilot, lambda: "x Cancel" in shown(app))  # it may wait long for a device
        await pilot.press("x")
        await until(pilot, lambda: "Cancel the job" in shown(app))
        await pilot.press("escape")
        bus.publish(JobStarted(job=job, device="NVIDIA X"))
        plan = PlanMade(
            job=job, profile="p", fits=None, device={}, vram_bytes=9 * 10**9, ram_bytes=None, seconds=200.0, reasons=()
        )
        bus.publish(plan)
        bus.publish(Stage(job=job, name="encode", state="started"))
        bus.publish(Stage(job=job, name="load", state="started", component="tokenizer"))
        await until(pilot, lambda: "load tokenizer (the screen may stand still" in shown(app))
        assert "predicted 9.0 GB" in shown(app) and "predicted: 3:20" in shown(app)
        bus.publish(Stage(job=job, name="load", state="finished", component="tokenizer", seconds=0.5))
        bus.publish(Stage(job=job, name="denoise", state="started"))
        now = {"total": 40, "seconds_per_unit": None, "vram_bytes": None, "rss_bytes": None}
        bus.publish(Progress(job=job, stage="denoise", done=0, eta_s=None, **now))
        await until(pilot, lambda: "— s a step" in shown(app))
        assert "denoise: —   in all: —" in shown(app) and "peak        —" in shown(app)
        bus.publish(Stage(job=job, name="decode", state="started"))
        bus.publish(Progress(job=job, stage="decode", done=10, eta_s=30.0, **now))
        await until(pilot, lambda: "decode: 0:30 left   in all: 0:30 left" in shown(app))
        assert "not known yet" not in shown(app)
        bus.publish(JobFinished(job=job, output="/v/a.mp4"))
        await until(pilot, lambda: "/v/a.mp4" in shown(app))

    asyncio.run(on_place(check))


# The line


def test_the_sampler_sleeps_while_the_place_is_hidden_and_ends_with_the_app() -> None:
    samplers: list[Sampler] = []

    async def check(app: WanApp, place: Monitor, pilot: Any) -> None:
        sampler = app.sampling.sampler
        assert sampler and not sampler._paused
        samplers.append(sampler)
        await pilot.press("f6")
        assert sampler._paused
        before = place.query_one("#monitor-host", Lines)._lines
        sampler.resume()  # somebody else does
        seen = sampler.latest
        await until(pilot, lambda: sampler.latest is not seen)
        assert place.query_one("#monitor-host", Lines)._lines == before
        await pilot.press("f5")
        await until(pilot, lambda: place.query_one("#monitor-host", Lines)._lines != before)
        await pilot.press("question_mark")
        assert sampler._paused and not sampler._stopped

    asyncio.run(on_place(check))
    assert samplers[0]._stopped


def test_nothing_is_painted_where_nothing_is_new() -> None:
    async def check(app: WanApp, place: Monitor, pilot: Any) -> None:
        app.sampling.look_away()
        await pilot.pause()
        place.show()
        painted: list[object] = []
        for lines in place.query(Lines):
            lines.refresh = lambda *regions, **_: painted.extend(regions)  # type: ignore[assignment, method-assign]
        place.show()
        assert painted == []

    asyncio.run(on_place(check))


def test_old_figures_are_said_to_be_old() -> None:
    async def check(app: WanApp, place: Monitor, pilot: Any) -> None:
        app.sampling.look_away()
        sampler = app.sampling.sampler
        assert sampler and sampler.latest
        sampler.latest = replace(sampler.latest, time=time.monotonic() - 12)
        place.refresh_all()
        await pilot.pause()
        assert re.search(r"these figures are 1[2-5] s old", shown(app))

    asyncio.run(on_place(check))


def test_where_bytes_are_dear_one_sample_in_five_is_shown() -> None:
    async def check(app: WanApp, place: Monitor, pilot: Any) -> None:
        sampler = app.sampling.sampler
        assert sampler
        shown_first, seen = place._sample, sampler.latest
        await until(pilot, lambda: sampler.latest is not seen)
        seen = sampler.latest
        await until(pilot, lambda: sampler.latest is not seen)
        place.news([])  # a job's progress brings no new figures either
        await pilot.pause()
        assert place._sample is shown_first

    asyncio.run(on_place(check, low_bandwidth=True))


def test_a_terminal_without_utf_8_tells_bars_apart() -> None:
    assert len({in_ascii(sign) for sign in "█▌░"}) == 3


def test_only_the_cells_that_are_others_are_sent() -> None:
    assert list(changed(("busy  97 %   71 °C",), ("busy  98 %   71 °C",), 80)) == [(7, 8)]
    assert list(changed(("a" * 30,), ("b" + "a" * 28 + "c",), 80)) == [(0, 1), (29, 30)]
    assert list(changed((("x", "dim"),), (("x", "good"),), 80)) == [(0, 1)]
    assert list(changed(("abc",), ("abc  ",), 80)) == []
    assert list(changed(("abc",), ("猫bc",), 80)) == [(0, 80)]


def test_curves_move_on_when_a_cell_is_full() -> None:
    figures = [float(at % 7 * 10) for at in range(240)]
    one, two = (curve(figures[second : second + 120], 30, 60, phase=second + 119)[0] for second in (1, 2))
    assert one[1:-1] == two[1:-1] and len(one) == 30  # the second begins no new cell
    assert curve([None] * 120, 30, 100)[0].strip() == "—"
    assert curve([None] * 119 + [0], 30, 100)[0].strip() == "▁"
    assert [line[-1] for line in curve([50.0] * 120, 30, 100, rows=4)] == [" ", " ", "█", "█"]


def test_a_bar_shows_a_little_of_ours_and_nothing_where_nothing_is_known() -> None:
    assert [text for text, _ in shares(10, 100, 50, 1)] == ["█", "▌▌▌▌", "░░░░░"]  # type: ignore[misc]
    assert [text for text, _ in shares(10, 100, 50, None)] == ["", "▌▌▌▌▌", "░░░░░"]  # type: ignore[misc]
    assert shares(4, 100, None, 5) == (("····", "dim"),)
