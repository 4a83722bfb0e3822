"""The place `gallery`, by its keys, with real clips: of a tiny model, and of ffmpeg."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tomli_w

from engine.catalog import load_catalog
from engine.job import Job, Output
from engine.jobfile import read_job
from engine.runtime.journal import Journal
from engine.runtime.prepare import Checked, prepare
from engine.video.write import open_writer
from tests.app import Keyboard, shown, until
from tests.runs import decoders, job_file
from wan_tui.actions import ACTIONS
from wan_tui.app import WanApp
from wan_tui.screens.composer import Composer
from wan_tui.screens.gallery import Gallery
from wan_tui.screens.gallery_compare import Compare
from wan_tui.screens.gallery_detail import from_difference
from wan_tui.screens.gallery_player import Player
from wan_tui.session import Session
from wan_tui.settings import Settings
from wan_tui.widgets.ask import Ask
from wan_tui.widgets.picture import Picture
from wan_tui.widgets.trouble import Trouble

TinyModel = Callable[[str], Path]
JOB = Job(model="demo@1", prompt="a circle", width=64, height=32, frames=5, fps=8, steps=2, guidance=5.0, seed=7)
HOSTILE = "[/b] [@click=app.quit]quit[/] \x1b[31mred \u202eback 一只猫 e\u0301 👩‍👩‍👧 " + "x[/b]" * 2000


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the app is started, under a path that stays on a line; clips lie in `outputs`."""
    with tempfile.TemporaryDirectory() as folder:
        outputs = Path(folder) / "here" / "outputs"
        outputs.mkdir(parents=True)
        monkeypatch.chdir(outputs.parent)
        yield outputs


def clip(path: Path, day: int = 1, *, length: int = 5, job: Job = JOB) -> Path:
    """A clip with its sidecar, as a run writes them; red."""
    job = replace(job, output=Output(path, 18), frames=length)
    text = job.toml({"task": job.task, "started": f"2026-01-{day:02}T10:00:00+00:00", "seconds": {"denoise": 61.0}})
    frames = np.zeros((length, 32, 64, 3), np.uint8)
    frames[..., 0] = 250
    with open_writer(path, width=64, height=32, fps=8, metadata=text) as writer:
        writer.write(frames)
        return writer.finish(lambda _: text)


def entered(path: Path, job: Job = JOB) -> Path:
    """The same path in the journal, as that of a finished job."""
    journal = Journal()
    id = journal.accept(model=job.model, task=job.task, prompt=job.prompt, job_toml=job.toml())
    journal.start(id)
    journal.finish(id, output=path, seconds=187.0, recorded={"frames": job.frames})
    return path


class Visit(Keyboard):
    """The app at its gallery."""

    @property
    def place(self) -> Gallery:
        place = self.app.screen_stack[0]
        assert isinstance(place, Gallery)
        return place

    @property
    def names(self) -> list[str]:
        return [Path(row.key).name for row in self.place.listing.rows]

    @property
    def told(self) -> str:
        return "\n".join(said.text for said in self.app.said)

    async def until(self, there: Callable[[], object]) -> None:
        await until(self.pilot, there, 60)

    async def sees(self, *texts: str) -> None:
        """A text may be broken into lines; none of those looked for holds a blank where it could be."""
        await self.until(lambda: all(text in shown(self.app) for text in texts))

    async def drawn(self) -> None:
        await self.until(lambda: self.picture._strips and not self.picture.playing)

    @property
    def picture(self) -> Picture:
        return self.app.screen.query_one(Picture)


def visit(
    go: Callable[[Visit], Awaitable[None]],
    size: tuple[int, int] = (80, 24),
    settings: Settings | None = None,
    *,
    ascii: bool = False,
    trouble: bool = False,
) -> None:
    """`trouble`: the start tells of some, which is closed first."""

    async def run() -> None:
        app = WanApp(Session(), settings or Settings(), ascii=ascii)
        async with app.run_test(size=size) as pilot:
            try:
                if trouble:
                    await until(pilot, lambda: isinstance(app.screen, Trouble))
                    await pilot.press("escape")
                await pilot.press("f7")
                await until(pilot, lambda: isinstance(here := app.screen_stack[0], Gallery) and here.found)
                await go(Visit(app, pilot))
            finally:
                await asyncio.to_thread(app.session.stop, "user")

    asyncio.run(run())
    end = time.monotonic() + 10
    while decoders():
        assert time.monotonic() < end


# The list


def test_a_video_made_here_comes_into_the_list_is_played_and_composed_again(here: Path, tiny_model: TinyModel) -> None:
    def jobs() -> list[Checked]:
        file = job_file(here.parent, tiny_model("t2v"), output={"path": str(here / "cat.mp4")})
        return [prepare(read_job(file), file, load_catalog())]

    async def go(at: Visit) -> None:
        await at.sees("No videos yet: F4 composes one, F9 renders the demo.")
        at.app.submit(jobs)
        await at.until(lambda: at.names == ["cat.mp4"])
        await at.sees("64x64", "steps  2", "a red circle moving right", "took 0:0")
        await at.drawn()
        await at.press("enter")
        await at.until(lambda: isinstance(at.app.screen, Player))
        await at.until(lambda: at.picture._strips)
        await at.press("escape")
        await at.until(lambda: isinstance(at.app.screen, Gallery))
        await at.press("f6")
        at.app.submit(jobs)
        await at.until(lambda: len([job for job in at.app.live.jobs.values() if job.state == "finished"]) == 2)
        await at.press("f7")
        await at.until(lambda: isinstance(at.app.screen, Gallery) and at.names == ["cat-2.mp4", "cat.mp4"])
        await at.press("r")
        await at.until(lambda: isinstance(at.app.screen, Composer))
        await at.sees("a red circle moving right")

    visit(go)


SIZES = [(60, 20), (80, 24), (120, 40), (200, 50)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.sampled(2)
def test_clips_of_the_journal_and_of_folders_newest_first_at_every_size(here: Path, size: tuple[int, int]) -> None:
    clip(here / "old.webm", 1)
    clip(here / "frames", 3, job=replace(JOB, negative_prompt="blurry", prompt="a wall"))
    entered(clip(here / "new.mp4", 2))

    async def go(at: Visit) -> None:
        assert at.names == ["new.mp4", "frames", "old.webm"]
        await at.sees("new.mp4", "took 3:07", "3 videos", "64x32", "Prompt", "guidance 5.0")
        await at.drawn()
        await at.press("j")
        await at.until(lambda: "a wall" in shown(at.app) and at.place.pictured and at.picture._strips)
        await at.press(*"JJJJ")
        await at.sees("Negative prompt", "blurry")
        await at.press("space")
        await at.until(lambda: at.picture.playing)
        await at.drawn()

    visit(go, size)


def test_foreign_text_is_only_text(here: Path) -> None:
    clip(here / "[b] 猫 \x1b[31m.mp4", job=replace(JOB, prompt=HOSTILE, model="[b]m", negative_prompt=HOSTILE))

    async def go(at: Visit) -> None:
        await at.sees(
            "[/b] [@click=app.quit]quit[/] \\x1b[31mred",
            "\\u202eback",
            "一只猫 e\u0301",
            "[b]m",
            "[b] 猫 \\x1b[31m.mp4",
        )
        await at.press("y")
        await at.until(lambda: "\x1b[31m.mp4" in at.told)
        assert at.app.clipboard == str(here / "[b] 猫 \x1b[31m.mp4")
        await at.press("w")
        await at.sees("[b] 猫 \\x1b[31m.mp4")
        await at.press("escape", "c", "D")
        await at.sees("Delete [b] 猫 \\x1b[31m.mp4?")
        await at.press("n")

    visit(go, (120, 40))


def test_what_is_gone_is_hidden_until_it_is_asked_for(here: Path) -> None:
    entered(clip(here / "here.mp4", 1))
    (here / "gone.job.toml").write_bytes(clip(here / "gone.mp4", 2).with_name("gone.job.toml").read_bytes())
    (here / "gone.mp4").unlink()
    entered(here / "never.mp4")

    async def go(at: Visit) -> None:
        assert at.names == ["here.mp4"]
        await at.sees("1 video,", "2 gone (t lists)")
        await at.press("t")
        await at.until(lambda: len(at.names) == 3)
        at.place.listing.go_to(str(here / "never.mp4"))
        await at.sees("✗", "Its file is gone.")
        await at.press("space", "enter", "delete")
        await at.until(lambda: "gone already" in at.told and "Its file is gone: " in at.told)
        at.place.listing.go_to(str(here / "gone.mp4"))
        await at.press("D")
        await at.sees("Delete what tells of gone.mp4?")
        await at.press("y")
        await at.until(lambda: at.names == ["never.mp4", "here.mp4"])
        assert not (here / "gone.job.toml").exists()
        await at.press("t")
        await at.until(lambda: at.names == ["here.mp4"])
        (here / "here.mp4").unlink()
        await at.press("R")
        await at.sees("No videos here any more. t lists the 2 that are gone.")

    visit(go)


def test_deleting_asks_and_takes_the_video_and_its_settings(here: Path) -> None:
    clip(here / "one.mp4", 2)
    entered(clip(here / "two", 1))

    async def go(at: Visit) -> None:
        assert at.names == ["two", "one.mp4"]
        await at.press("D")
        await at.sees("Delete two?", "two.job.toml")
        await at.press("escape")
        await at.press("D")
        await at.until(lambda: isinstance(at.app.screen, Ask))
        await at.press("y")
        await at.until(lambda: at.names == ["one.mp4"])
        assert "Deleted: two and two.job.toml." in at.told
        assert sorted(os.listdir(here)) == ["one.job.toml", "one.mp4"]
        await at.press("D")
        await at.until(lambda: isinstance(at.app.screen, Ask))
        (here / "one.mp4").write_bytes(b"another file by now")
        await at.press("y")
        await at.sees("is not deleted")
        assert (here / "one.mp4").exists()
        await at.press("escape")

    visit(go)


@pytest.mark.soak
def test_without_a_journal_folders_are_listed_and_the_reason_is_told(here: Path, own_home: Path) -> None:
    clip(here / "one.mp4")
    (own_home / "state" / "wan-tui" / "journal.sqlite3").mkdir(parents=True)

    async def go(at: Visit) -> None:
        assert at.names == ["one.mp4"]
        await at.sees("Only videos in the folders for output are listed", "steps  2")
        await at.drawn()

    visit(go, (120, 40), trouble=True)


def test_a_broken_video_tells_why_in_place_of_its_picture(here: Path) -> None:
    clip(here / "broken.mp4").write_bytes(b"no video")

    async def go(at: Visit) -> None:
        await at.sees("cannot be used as video")
        await at.press("enter")
        await at.until(lambda: isinstance(at.app.screen, Player) and "cannot be used as video" in shown(at.app))

    visit(go)


# Looking


@pytest.mark.parametrize("settings", [Settings(low_bandwidth=True), Settings(preview="off")])
def test_pictures_come_only_when_asked_for(here: Path, settings: Settings) -> None:
    clip(here / "one.mp4")

    async def go(at: Visit) -> None:
        await at.sees("space shows the picture.", "steps  2")
        assert at.place.pictured is None
        await at.press("space")
        await at.drawn()
        assert not at.picture.playing
        await at.press("space")
        await at.until(lambda: at.picture.playing)
        await at.press("space")
        await at.until(lambda: not at.picture.playing)
        await at.press("w")
        await at.until(lambda: isinstance(at.app.screen, Player) and at.picture.playing != settings.low_bandwidth)

    visit(go, settings=settings)


@pytest.mark.soak
def test_leaving_ends_what_plays(here: Path) -> None:
    clip(here / "long.mp4", length=401)

    async def go(at: Visit) -> None:
        await at.drawn()
        for key in ("space", "enter"):
            await at.press(key)
            await at.until(lambda: at.picture.playing and len(decoders()) == 1)
            await at.press("escape", "f6")
            await at.until(lambda: not isinstance(at.app.screen_stack[0], Gallery) and not decoders())
            await at.press("f7")
            await at.until(lambda: isinstance(at.app.screen, Gallery))
        await at.press("space")
        await at.until(decoders)

    visit(go)


def test_two_clips_are_compared(here: Path) -> None:
    clip(here / "one.mp4", 3)
    long = "the same long beginning of a prompt, "
    clip(here / "two.mp4", 2, job=replace(JOB, seed=8, prompt=long + "a dog"))
    clip(here / "three.mp4", 1, job=replace(JOB, prompt=long + "a cat"))

    async def go(at: Visit) -> None:
        await at.press("equals_sign", "m")
        await at.sees("● one.mp4")
        await at.press("m")
        await at.until(lambda: at.place.marked is None)
        await at.press("j", "m", "j", "equals_sign")
        await at.until(lambda: isinstance(at.app.screen, Compare) and "…" in shown(at.app))
        await at.sees("two.mp4", "three.mp4", "…a prompt, a dog", "…a prompt, a cat", "seed")
        assert "steps" not in shown(at.app)
        await at.until(lambda: all(picture._strips for picture in at.app.screen.query(Picture)))
        await at.press("space", "r", "escape")
        await at.until(lambda: isinstance(at.app.screen, Gallery))

    visit(go)


def test_texts_are_shown_from_where_they_part() -> None:
    assert from_difference("a cat", "a dog") == ("a cat", "a dog")
    assert from_difference("x" * 30 + "1", "x" * 30 + "22", 3) == ("…xxx1", "…xxx22")
    assert from_difference("x" * 30, "x" * 30 + "2", 3) == ("…xxx", "…xxx2")


def test_ascii_terminals_get_a_picture_of_signs(here: Path) -> None:
    clip(here / "one.mp4")

    async def go(at: Visit) -> None:
        await at.drawn()
        await at.sees(":" * 20)
        assert shown(at.app).isascii()

    visit(go, ascii=True)


# Its settings


def test_settings_are_copied_as_a_job_that_can_be_run(here: Path) -> None:
    path = clip(here / "one.mp4")

    async def go(at: Visit) -> None:
        await at.press("c")
        await at.until(lambda: "Copied: the settings" in at.told)
        assert at.app.clipboard == tomli_w.dumps(
            {**{n: getattr(JOB, n) for n in ("model", "prompt", "width", "height", "frames", "fps", "steps")}}
            | {"guidance": 5.0, "seed": 7, "count": 1, "device": "auto"}
            | {"memory": {"profile": "auto", "allow_lossy": False}, "output": {"path": str(path), "crf": 18}}
        )

    visit(go)


@pytest.mark.soak
def test_too_much_for_the_clipboard_is_said_not_to_be_copied(here: Path) -> None:
    clip(here / "one.mp4", job=replace(JOB, prompt="x" * 90_000))

    async def go(at: Visit) -> None:
        await at.press("c")
        await at.until(lambda: any("too long" in one.message for one in at.app._notifications))
        assert "Copied" not in at.told

    visit(go)


def test_with_no_clip_no_key_fails_and_those_of_clips_are_not_shown(here: Path) -> None:
    async def go(at: Visit) -> None:
        for action in ACTIONS:
            if action.place == "gallery":
                for key in action.keys.split(","):
                    await at.press(key)
                    assert isinstance(at.app.screen, Gallery)
        assert "Play" not in shown(at.app)
        clip(here / "one.mp4", 2)
        await at.press("R")
        await at.sees("one.mp4", "Play")

    visit(go)
