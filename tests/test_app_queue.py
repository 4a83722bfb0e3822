"""The place `queue`, by its keys, with real jobs of a tiny model and real processes."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from engine.jobfile import read_job
from engine.runtime.journal import Journal, State
from engine.runtime.prepare import Checked, prepare
from tests.app import Keyboard, shown, until
from tests.runs import Running, job_file
from wan_tui.actions import ACTIONS
from wan_tui.app import WanApp
from wan_tui.screens.queue import Queue
from wan_tui.screens.queue_sheet import Over
from wan_tui.session import Session
from wan_tui.settings import Settings
from wan_tui.text import one_line

TinyModel = Callable[[str], Path]
LONG: dict[str, object] = {"steps": 900, "frames": 33, "width": 192, "height": 192}  # it runs until it is cancelled
HOSTILE = (
    "closing [/b] tag",
    "[@click=app.quit]quit[/]",
    "\x1b[31mred\x1b[0m",
    "left \u202eright\u202c",
    "一只红色的圆圈向右移动",
    "e\u0301 👩‍👩‍👧",
    "two\nlines",
)
LONG_PROMPT = "x[/b]" * 2000


class Desk(Keyboard):
    """The app at its queue, and the jobs that it is given."""

    def __init__(self, app: WanApp, pilot: Pilot[Any], folder: Path) -> None:
        super().__init__(app, pilot)
        self.folder = folder

    @property
    def place(self) -> Queue:
        place = self.app.screen_stack[0]
        assert isinstance(place, Queue)
        return place

    @property
    def keys(self) -> list[str]:
        return [row.key for row in self.place.listing.rows if not row.heading]

    @property
    def states(self) -> dict[str, str]:
        """What the list says of each job."""
        rows = self.place.listing.rows
        return {row.key: cell if isinstance(cell := row.cells[0], str) else cell[0] for row in rows if not row.heading}

    @property
    def told(self) -> str:
        return "\n".join(said.text for said in self.app.said)

    async def until(self, there: Callable[[], object]) -> None:
        await until(self.pilot, there, 60)

    async def select(self, key: str) -> None:
        await self.until(lambda: self.place.listing.go_to(key) and key in shown(self.app))

    async def submit(self, model: Path, *jobs: dict[str, object]) -> list[str]:
        """Their ids, once they are listed."""
        before = set(self.app.live.jobs)
        self.app.submit(lambda: [self.checked(model, n, values) for n, values in enumerate(jobs, len(before) + 1)])
        await self.until(lambda: len(self.app.live.jobs) == len(before) + len(jobs))
        ids = [id for id in self.app.live.jobs if id not in before]
        await self.until(lambda: set(ids) <= set(self.keys))
        return ids

    def checked(self, model: Path, seed: int, values: dict[str, object]) -> Checked:
        from engine.catalog import load_catalog

        file = job_file(self.folder, model, f"{seed}.toml", **{"seed": seed, **values})
        return prepare(read_job(file), file, load_catalog())

    async def running(self, id: str) -> None:
        await self.until(lambda: (now := self.app.live.running) and now.id == id and now.progress)

    async def over(self, id: str, state: str) -> None:
        await self.until(lambda: state in self.states.get(id, ""))


def at_the_queue(folder: Path, go: Callable[[Desk], Awaitable[None]], size: tuple[int, int] = (80, 24)) -> None:
    async def run() -> None:
        app = WanApp(Session(), Settings())
        async with app.run_test(size=size) as pilot:
            try:
                await pilot.press("f6")
                await until(pilot, lambda: isinstance(app.screen, Queue) and app.screen.reading.entries is not None)
                await go(Desk(app, pilot, folder))
            finally:
                await asyncio.to_thread(app.session.stop, "user")

    asyncio.run(run())


def past(states: Sequence[str] = ("finished",), prompt: str = "a red circle", **columns: object) -> list[str]:
    """Jobs of this process's journal that are over."""
    journal, ids = Journal(), []
    for state in states:
        toml = 'model = "m"\nwidth = 832\nheight = 480\nframes = 81\nsteps = 40\nseed = 7\n[[segments]]\nframes = 5\n'
        id = journal.accept(model="owner/m", task="text", prompt=prompt, job_toml=toml)
        journal.start(id)
        if state == "finished":
            journal.finish(id, output="/videos/[/b].mp4", seconds=187.0, recorded=columns)
        elif state == "failed":
            error = {"code": "out-of-memory", "message": "No memory [/b].", "cause": "The GPU is full.",
                     "suggestions": ["Use fewer frames."], "actions": []}  # fmt: skip
            journal.fail(id, error)
        else:
            journal.cancelled(id)
        ids.append(id)
    return ids


# A journey: three jobs watched, put in another order, cancelled, run again


@pytest.mark.early
def test_jobs_are_watched_moved_cancelled_and_run_again(tmp_path: Path, tiny_model: TinyModel) -> None:
    async def go(desk: Desk) -> None:
        first, second, third = await desk.submit(tiny_model("t2v"), LONG, {"prompt": "the second"}, {})
        await desk.running(first)
        await desk.until(lambda: desk.states == {
            first: "▶ denoise", second: "· waiting 1", third: "· waiting 2"
        })  # fmt: skip
        screen = shown(desk.app)
        assert "Running" in screen
        assert "2 jobs" in screen
        assert " left" in screen

        await desk.select(third)
        assert "Number 2 in line" in shown(desk.app)
        await desk.press("K")
        await desk.until(lambda: desk.keys == [first, third, second])
        assert desk.app.session.waiting == (third, second)
        await desk.until(lambda: "Number 1 in line" in shown(desk.app))  # the cursor stays on its job
        await desk.press("J")
        await desk.until(lambda: desk.app.session.waiting == (second, third))

        await desk.press("x")
        await desk.over(third, "cancelled")
        assert desk.app.session.waiting == (second,)
        assert Journal().row(third).state is State.CANCELLED

        await desk.select(first)
        await desk.press("x")
        await desk.until(lambda: "What was computed of it is lost" in shown(desk.app))
        await desk.press("n")
        assert desk.app.live.jobs[first].state == "running"
        await desk.press("x", "y")
        await desk.over(first, "cancelled")
        await desk.over(second, "finished")

        await desk.select(second)
        await desk.press("y")
        assert desk.app.clipboard == Journal().row(second).output
        await desk.press("r", "enter")
        await desk.until(lambda: len(desk.keys) == 4)
        again = desk.keys[0]
        await desk.over(again, "finished")
        one, other = Journal().row(second), Journal().row(again)
        assert one.job_toml == other.job_toml
        assert one.output != other.output

        await desk.select(second)
        await desk.press("r", "down", "enter")
        await desk.until(lambda: len(desk.keys) == 5)
        await desk.over(desk.keys[0], "finished")
        anew = Journal().row(desk.keys[0])
        seed = (anew.recorded or {})["seed"]
        assert seed != 2
        assert str(anew.output).endswith(f"-{seed}.mp4"), "named by its own seed"

    at_the_queue(tmp_path, go)


def test_a_failure_tells_what_why_and_what_to_do(tmp_path: Path, tiny_model: TinyModel) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_model("t2v"), model)

    async def go(desk: Desk) -> None:
        first, second = await desk.submit(model, LONG, {})
        await desk.running(first)
        weights = next((model / "vae").glob("*.safetensors"))
        weights.write_bytes(weights.read_bytes()[:100])
        await desk.select(first)
        await desk.press("x", "y")
        await desk.over(second, "failed")
        row = Journal().row(second)
        assert row.error
        await desk.select(second)
        assert one_line(str(row.error["message"]))[:60] in shown(desk.app)
        await desk.press("enter")
        await desk.until(lambda: f"[{row.error and row.error['code']}]" in shown(desk.app))
        assert "do   " in shown(desk.app)
        await desk.press("escape", "l")
        await desk.until(lambda: "What the job said" in shown(desk.app))
        await desk.press("escape", "r", "enter")
        await desk.until(lambda: type(desk.app.screen).__name__ == "Trouble")
        assert len(desk.keys) == 2, "refused before it was queued"

    at_the_queue(tmp_path, go)


# Other processes


def test_jobs_of_another_process_are_shown_asked_to_stop_and_told_as_interrupted(
    tmp_path: Path, tiny_model: TinyModel
) -> None:
    files = [job_file(tmp_path, tiny_model("t2v"), f"{n}.toml", prompt=f"number {n}", **LONG) for n in range(3)]

    async def go(desk: Desk) -> None:
        other = await asyncio.to_thread(Running, "--run", *files)
        try:
            await asyncio.to_thread(other.until, "progress", stage="denoise")
            await desk.until(lambda: len(desk.keys) == 3)  # found without a key
            running, waiting, last = desk.keys
            assert desk.states == {running: "▶ running", waiting: "· waiting 1", last: "· waiting 2"}
            pid = f"pid {other.process.pid}"
            assert shown(desk.app).count(pid) == 3
            await desk.select(waiting)
            assert "It belongs to another program" in shown(desk.app)
            assert "Earlier" not in shown(desk.app)
            await desk.press("x")
            await desk.over(waiting, "cancelled")
            assert "was asked to stop" in desk.told
            os.kill(other.process.pid, signal.SIGKILL)
            await asyncio.to_thread(other.process.wait)
            await desk.press("R")
            await desk.over(running, "interrupted")
            await desk.over(last, "interrupted")
            await desk.select(running)
            assert "Its process ended before it did" in shown(desk.app)
        finally:
            other.process.kill()

    at_the_queue(tmp_path, go)


# What is shown


@pytest.mark.parametrize("size", [(60, 20), (200, 50)])
def test_foreign_text_is_shown_as_it_is(size: tuple[int, int], tmp_path: Path) -> None:
    for prompt in (*HOSTILE, LONG_PROMPT):
        past(["failed"], prompt)

    async def go(desk: Desk) -> None:
        for key in desk.keys:
            await desk.select(key)
            row = Journal().row(key)
            beginning = one_line(row.prompt.splitlines()[0])[:6]
            await desk.until(lambda said=beginning: shown(desk.app).count(said) >= 2)  # type: ignore[misc]
            await desk.press("enter")
            await desk.until(lambda: isinstance(desk.app.screen, Over))
            await desk.until(
                lambda: "No memory [/b]." in shown(desk.app) and "why  The GPU is full." in shown(desk.app)
            )
            await desk.press("G", "escape")
            await desk.until(lambda: isinstance(desk.app.screen, Queue))

    at_the_queue(tmp_path, go, size)


def test_figures_come_from_the_job_and_not_from_its_segments(tmp_path: Path) -> None:
    past()

    async def go(desk: Desk) -> None:
        assert "832x480 · 81 frames · 40 steps · seed 7" in shown(desk.app)
        assert "took 3:07" in shown(desk.app)

    at_the_queue(tmp_path, go)


def test_t_shows_all_then_what_failed_then_what_finished(tmp_path: Path) -> None:
    finished, failed, cancelled = past(["finished", "failed", "cancelled"])

    async def go(desk: Desk) -> None:
        for keys in ([cancelled, failed, finished], [failed], [finished], [cancelled, failed, finished]):
            await desk.until(lambda keys=keys: desk.keys == keys)
            await desk.press("t")

    at_the_queue(tmp_path, go)


@pytest.mark.parametrize("size", [(60, 20), (200, 50)])
def test_an_empty_queue_says_how_to_fill_it(size: tuple[int, int], tmp_path: Path) -> None:
    async def go(desk: Desk) -> None:
        assert "No jobs yet. F4 asks for a video" in shown(desk.app)
        for action in ACTIONS:
            if action.place == "queue" and action.id != "queue.open":
                await desk.press(action.keys.split(",")[0])
                assert isinstance(desk.app.screen, Queue)
        assert "Run again" not in shown(desk.app)

    at_the_queue(tmp_path, go, size)


def test_a_job_that_is_over_cannot_be_cancelled(tmp_path: Path) -> None:
    past(["failed"])

    async def go(desk: Desk) -> None:
        assert "x Cancel" not in shown(desk.app)
        await desk.press("x", "y", "l")
        assert isinstance(desk.app.screen, Queue)
        assert "This job has no video (yet)." in desk.told
        assert "kept only while the program that ran it is open" in desk.told

    at_the_queue(tmp_path, go)


# A journal that is not as it should be


def test_a_journal_that_cannot_be_read_is_told_with_its_remedy_until_it_can(tmp_path: Path, own_home: Path) -> None:
    journal = own_home / "state" / "wan-tui" / "journal.sqlite3"
    journal.mkdir(parents=True)

    async def run() -> None:
        app = WanApp(Session(), Settings())
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda: "cannot be used" in shown(app))  # the app tells of it wherever one is
            await pilot.press("escape", "f6")
            await until(pilot, lambda: "The journal could not be read." in shown(app))
            await until(pilot, lambda: "cannot be used" in shown(app))
            assert "set XDG_STATE_HOME to another folder" in " ".join(shown(app).split())
            journal.rmdir()
            await pilot.press("R")
            await until(pilot, lambda: "No jobs yet." in shown(app))
            assert "cannot be used" not in shown(app)

    asyncio.run(run())


def test_a_damaged_journal_is_told(tmp_path: Path) -> None:
    path = Journal().path
    path.write_bytes(b"no database" * 1000)

    async def go(desk: Desk) -> None:
        await desk.until(lambda: "The journal was damaged" in shown(desk.app))
        assert "No jobs yet." in shown(desk.app)

    at_the_queue(tmp_path, go)
