"""Clips as small frames, frames as cells, and the widget that plays them without holding anything up."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest
from textual.app import App, ComposeResult
from textual.geometry import Region
from textual.screen import Screen
from textual.strip import Strip

from engine.control import Control
from engine.errors import Cancelled, JobError
from engine.video import thumbnail
from engine.video.thumbnail import Frame, frames, still
from engine.video.write import open_writer
from tests.runs import decoders
from wan_tui.pictures import Colours, colours_for, half_blocks
from wan_tui.widgets.picture import Picture

RED, WHITE, BLACK = (255, 0, 0), (255, 255, 255), (0, 0, 0)
KINDS = ["clip.mp4", "clip.webm", "clip.gif", "clip"]


def write(path: Path, count: int = 6, width: int = 64, height: int = 32, fps: int = 10) -> Path:
    """A clip that is red, and darker frame by frame."""
    with open_writer(path, width=width, height=height, fps=fps) as writer:
        for number in range(count):
            picture = np.zeros((1, height, width, 3), np.uint8)
            picture[..., 0] = 250 - 200 * number // count
            writer.write(picture)
        return writer.finish(lambda _: "")


def reds(picture: Frame) -> float:
    return sum(picture.rgb[::3]) / (picture.width * picture.height)


# Small frames


@pytest.mark.parametrize("name", KINDS)
def test_frames_come_in_order_at_the_pace_asked_for(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name)
    seen = [*frames(path, 20, 20, 10, Control(), folder_fps=10)]
    assert len(seen) in (6, 7)  # a container's clock may round the last frame up
    assert {(one.width, one.height, len(one.rgb)) for one in seen} == {(20, 10, 600)}
    levels = [reds(one) for one in seen]
    assert levels == sorted(levels, reverse=True)
    assert levels[0] > 235 > 110 > levels[-1]
    assert len([*frames(path, 20, 20, 5, Control(), folder_fps=10)]) == 3
    assert reds(still(path, 20, 20)) == levels[0]


@pytest.mark.parametrize(
    ("box", "size"), [((200, 200), (200, 100)), ((200, 10), (20, 10)), ((1, 1), (1, 1)), ((10, 3), (6, 3))]
)
def test_a_frame_fits_its_box_and_keeps_its_shape(tmp_path: Path, box: tuple[int, int], size: tuple[int, int]) -> None:
    one = still(write(tmp_path / "clip.mp4"), *box)
    assert (one.width, one.height) == size


def test_a_strip_of_a_clip_still_has_a_height(tmp_path: Path) -> None:
    one = still(write(tmp_path / "clip.mp4", width=1024, height=16), 40, 40)
    assert (one.width, one.height) == (40, 1)


def test_odd_names_are_only_names(tmp_path: Path) -> None:
    for name in ("100%05d", "-i", "a:b\n'c.mp4", "concat:a|b.mp4", "[x]%.mp4"):
        assert reds(still(write(tmp_path / name, count=1), 8, 8)) > 200


def refused(path: Path) -> str:
    with pytest.raises(JobError) as caught:
        still(path, 8, 8)
    assert caught.value.code == "bad-input-video"
    assert str(path) in caught.value.message
    return caught.value.cause or ""


def test_what_is_no_clip_is_refused_with_its_cause(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe.mp4")
    write(tmp_path / "clip.mp4")
    (tmp_path / "list.mp4").write_text("ffconcat version 1.0\nfile clip.mp4\n")  # leads to other files
    assert "no such file" in refused(tmp_path / "absent.mp4")
    assert "empty" in refused(tmp_path / "empty.mp4")
    assert refused(tmp_path / "text.mp4")
    assert "00001.png" in refused(tmp_path / "folder")
    assert "pipe" in refused(tmp_path / "pipe.mp4")
    assert refused(tmp_path / "list.mp4")
    assert decoders() == []


def test_a_clip_cut_short_shows_what_there_is(tmp_path: Path) -> None:
    path = write(tmp_path / "clip.mp4", count=40)
    path.write_bytes(path.read_bytes()[:-400])
    assert 0 < len([*frames(path, 8, 8, 10, Control())]) <= 40


def test_ffmpeg_goes_with_the_iterator(tmp_path: Path) -> None:
    path = write(tmp_path / "clip.mp4", count=300)
    playing = frames(path, 64, 32, 10, Control())
    next(playing)
    assert len(decoders()) == 1
    playing.close()
    assert decoders() == []


def test_a_cancel_ends_even_a_wait_for_a_frame_that_never_comes(tmp_path: Path) -> None:
    path = write(tmp_path / "clip", count=2)
    (path / "00002.png").unlink()
    os.mkfifo(path / "00002.png")  # ffmpeg waits for its writer
    control = Control()
    playing = frames(path, 64, 32, 100, control, folder_fps=1)
    threading.Timer(0.3, control.cancel).start()
    with pytest.raises(Cancelled):
        next(playing)
    assert decoders() == []


# Kept stills


def test_a_still_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "clip.mp4", count=1)
    first = still(path, 8, 8)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", "/nowhere")
    assert still(path, 8, 8) == first
    with pytest.raises(JobError):
        still(path, 9, 9)
    path.touch()  # another file, for all that is known
    with pytest.raises(JobError):
        still(path, 8, 8)


@pytest.mark.parametrize("damage", [b"", b"P6\n8 4\n255\n", b"P6\n99999 99999\n255\n" + bytes(96), b"x"])
def test_a_damaged_still_is_made_again(tmp_path: Path, damage: bytes) -> None:
    path = write(tmp_path / "clip.mp4", count=1)
    first = still(path, 8, 8)
    (kept,) = thumbnail._store().iterdir()
    kept.write_bytes(damage)
    assert still(path, 8, 8) == first


def test_the_oldest_stills_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thumbnail, "KEPT_BYTES", 400)
    path = write(tmp_path / "clip.mp4", count=1)
    for width in range(4, 12):
        newest = still(path, width, width)
    kept = sorted(file.stat().st_size for file in thumbnail._store().iterdir())
    assert 0 < sum(kept) <= 400
    assert kept[-1] > len(newest.rgb)


def test_no_cache_is_no_matter(tmp_path: Path, own_home: Path) -> None:
    (own_home / "cache" / "wan-tui" / "stills").mkdir(parents=True)
    (own_home / "cache" / "wan-tui" / "stills").chmod(0o500)
    assert still(write(tmp_path / "clip.mp4", count=1), 8, 8).width == 8


# Cells


def pixels_of(strips: list[Strip]) -> list[list[tuple[object, object]]]:
    """What an eye sees of each cell: its upper and its lower half."""
    lines = []
    for strip in strips:
        line: list[tuple[object, object]] = []
        for text, style, _ in strip:
            assert style
            back = style.bgcolor and (style.bgcolor.number or style.bgcolor.triplet)
            front = style.color and (style.color.number or style.color.triplet)
            halves = {" ": (back, back), "█": (front, front), "▀": (front, back), "▄": (back, front)}
            line += [halves[sign] for sign in text]
        lines.append(line)
    return lines


@pytest.mark.parametrize("palette", [2, 3, 1000])
@pytest.mark.parametrize("height", [1, 2, 7, 8])
def test_every_pixel_is_in_its_place(palette: int, height: int) -> None:
    dice = random.Random(palette * height)
    shades = [tuple(dice.randrange(256) for _ in range(3)) for _ in range(palette)]
    picture = [[dice.choice(shades) for _ in range(40)] for _ in range(height)]
    rgb = bytes(itertools.chain(*itertools.chain(*picture)))
    strips = half_blocks(rgb, 40, height, "truecolor")
    assert [strip.cell_length for strip in strips] == [40] * ((height + 1) // 2)
    rows = picture + picture[-1:] * (height % 2)
    assert pixels_of(strips) == [[*zip(rows[y], rows[y + 1], strict=True)] for y in range(0, len(rows), 2)]


def test_two_colours_make_one_run() -> None:
    picture = [RED, WHITE, RED, WHITE, RED, RED, RED, WHITE, WHITE, RED]  # 5 x 2, every kind of cell
    (strip,) = half_blocks(bytes(itertools.chain(*picture)), 5, 2, "truecolor")
    assert len([*strip]) == 1
    assert strip.text[-1] in "▀▄ █"


@pytest.mark.parametrize(
    ("colours", "colour", "number"),
    [
        *(("256", WHITE, 231), ("256", RED, 196), ("256", (98, 98, 98), 241), ("256", BLACK, 16)),
        *(("16", WHITE, 15), ("16", (255, 80, 90), 9), ("16", (180, 10, 0), 1), ("16", (0, 0, 160), 4)),
    ],
)
def test_palettes_get_the_nearest_colour(colours: Colours, colour: tuple[int, int, int], number: int) -> None:
    (strip,) = half_blocks(bytes(colour * 4), 2, 2, colours)
    ((text, style, _),) = strip
    assert text == "  "
    assert style and style.bgcolor and style.bgcolor.number == number
    assert style.color is None


def test_fewer_bits_make_fewer_runs_and_keep_black_and_white() -> None:
    ramp = bytes(itertools.chain(*((x, x, x) for _ in range(2) for x in range(256))))
    (fine,), (coarse,) = (half_blocks(ramp, 256, 2, "truecolor", bits) for bits in (8, 3))
    assert len(pixels_of([coarse])[0]) == 256
    assert len({*pixels_of([fine])[0]}) == 256
    assert len({*pixels_of([coarse])[0]}) == 8
    assert {(BLACK, BLACK), (WHITE, WHITE)} <= {*pixels_of([coarse])[0]}


def test_without_colours_light_is_ink() -> None:
    strips = half_blocks(bytes([*BLACK, *WHITE, *RED] * 3), 3, 3, "none")
    assert [strip.text for strip in strips] == [" @:", " @:"]
    assert all(strip.text.isascii() and next(iter(strip)).style is None for strip in strips)


def test_colours_follow_the_terminal() -> None:
    assert [colours_for(name) for name in ("truecolor", "256", "standard", "windows", None)] == [
        *("truecolor", "256", "16", "16", "none")
    ]
    assert colours_for("truecolor", blocks=False) == colours_for("truecolor", no_color=True) == "none"


# The widget


class Slow(Picture):
    """One whose screen takes three frames' time for one. `drawn` holds what it drew."""

    pause = 0.0

    def __init__(self) -> None:
        super().__init__(colours="truecolor")
        self.drawn: list[list[Strip]] = []
        self.told = 0

    def on_picture_news(self, news: Picture.News) -> None:
        self.told += 1

    def _draw(self, strips: list[Strip]) -> None:
        time.sleep(self.pause)
        self.drawn.append(strips)
        super()._draw(strips)


class Shown(App[None]):
    def compose(self) -> ComposeResult:
        yield Slow()


def run(journey: Callable[[Shown, Slow], Awaitable[None]], app: Shown | None = None) -> None:
    async def whole() -> None:
        shown = app or Shown()
        async with shown.run_test(size=(20, 8)):
            await journey(shown, shown.query_one(Slow))

    asyncio.run(whole())
    assert until_true_now(lambda: decoders() == [])


def until_true_now(true: Callable[[], bool]) -> bool:
    return any(true() or time.sleep(0.02) for _ in range(500))


async def until(true: Callable[[], object]) -> None:
    for _ in range(500):
        if true():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it did not come")


def screen_text(picture: Picture) -> str:
    lines = picture.render_lines(Region(0, 0, *picture.size))
    assert [line.cell_length for line in lines] == [picture.size.width] * picture.size.height
    return " ".join(" ".join(line.text for line in lines).split())


def test_a_still_stands_in_the_middle(tmp_path: Path) -> None:
    path = write(tmp_path / "clip.mp4")

    async def journey(app: Shown, picture: Slow) -> None:
        assert screen_text(picture) == "Nothing to show."
        picture.still(path)
        assert screen_text(picture) == "Loading…"
        await until(lambda: picture.drawn)
        lines = picture.render_lines(Region(0, 0, 20, 8))
        (red,) = {cell[0] for cell in pixels_of([strip.crop(0, 20) for strip in lines[1:6]])[2]}  # 20 x 10 pixels
        assert isinstance(red, tuple) and red[0] > 235
        assert lines[0] == lines[7] != lines[2]
        assert not picture.playing
        picture.clear()
        assert screen_text(picture) == "Nothing to show."

    run(journey)


def test_a_clip_plays_to_its_last_frame(tmp_path: Path) -> None:
    path = write(tmp_path / "clip.mp4", count=4)

    async def journey(app: Shown, picture: Slow) -> None:
        picture.play(path)
        assert picture.playing
        await until(lambda: not picture.playing)
        assert len(picture.drawn) >= 4
        shades = [pixels_of(strips)[0][0][0] for strips in picture.drawn]
        assert shades == sorted(shades, reverse=True)
        assert picture._strips == picture.drawn[-1]

    run(journey)


def test_a_slow_screen_drops_frames_and_ends_with_the_last(tmp_path: Path) -> None:
    path = write(tmp_path / "clip.mp4", count=16)

    async def journey(app: Shown, picture: Slow) -> None:
        picture.pause = 0.35
        picture.play(path)
        await until(lambda: not picture.playing)
        assert len(picture.drawn) < 12
        assert picture.told <= len(picture.drawn) + 1
        last = [*frames(path, 20, 16, 10, Control())][-1]
        assert picture.drawn[-1] == half_blocks(last.rgb, last.width, last.height, "truecolor", 5)

    run(journey)


@pytest.mark.parametrize("how", ["stop", "remove", "hide", "another screen", "another clip", "quit"])
def test_nothing_goes_on_decoding_unseen(tmp_path: Path, how: str) -> None:
    path = write(tmp_path / "clip.mp4", count=600)
    other = write(tmp_path / "other.mp4", count=1)

    async def journey(app: Shown, picture: Slow) -> None:
        picture.play(path)
        await until(lambda: picture.drawn)
        assert len(decoders()) == 1
        if how == "stop":
            picture.stop()
            assert not picture.playing
            assert picture._strips  # what is shown stays
        elif how == "remove":
            await picture.remove()
        elif how == "hide":
            picture.display = False
        elif how == "another screen":
            await app.push_screen(Screen())
        elif how == "another clip":
            picture.still(other)
        if how != "quit":
            await until(lambda: decoders() == [])
            assert not picture.playing

    run(journey)


def test_a_picture_that_leaves_may_be_asked_for_more_than_it_has(tmp_path: Path) -> None:
    path = write(tmp_path / "clip.mp4", count=2)

    async def journey(app: Shown, picture: Slow) -> None:
        picture.still(path)
        await until(lambda: picture.drawn)
        width, height = picture.size
        lines = picture.render_lines(Region(0, 0, width, height + 3))
        assert len(lines) == height + 3 and lines[-1] == Strip.blank(width)

    run(journey)


@pytest.mark.parametrize("name", ["clip.mp4", "clip"])
def test_a_clip_that_vanishes_while_it_plays(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, count=80, width=512, height=512)

    async def journey(app: Shown, picture: Slow) -> None:
        picture.play(path, folder_fps=100)
        await until(lambda: picture.drawn)
        path.rename(tmp_path / "gone")
        if name == "clip":
            await until(lambda: not picture.playing)
        picture.play(path)
        await until(lambda: not picture.playing)
        assert "there is no such file" in screen_text(picture)

    run(journey)


def test_a_failure_is_told_as_plain_text(tmp_path: Path) -> None:
    path = tmp_path / "[b]x[b] \x1b[2J.mp4"
    path.write_text("no video")

    async def journey(app: Shown, picture: Slow) -> None:
        await picture.remove()
        await app.mount(big := Slow())
        big.styles.height = 8
        big.still(path)
        await until(lambda: "cannot" in str(big.render()))
        said = str(big.render())
        assert "[b]x[b]" in said
        assert "\x1b" not in said

    run(journey)


def test_another_size_shows_it_anew(tmp_path: Path) -> None:
    path = write(tmp_path / "clip.mp4")

    async def journey(app: Shown, picture: Slow) -> None:
        picture.still(path)
        await until(lambda: picture.drawn)
        assert picture.drawn[-1][0].cell_length == 20
        picture.styles.width = 10
        await until(lambda: picture.drawn[-1][0].cell_length == 10)

    run(journey)


def test_without_colours_the_picture_is_made_of_characters_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "clip.mp4")
    monkeypatch.setenv("NO_COLOR", "1")

    async def journey(app: Shown, picture: Slow) -> None:
        picture._colours = None
        picture.styles.background = "red"
        picture.still(path)
        await until(lambda: picture.drawn)
        lines = picture.render_lines(Region(0, 0, *picture.size))
        assert any(sign in lines[3].text for sign in ".:-=+*#%@")
        backs = {style.bgcolor.triplet for line in lines for _, style, _ in line if style and style.bgcolor}
        assert backs and all(back and back.red == back.green == back.blue for back in backs)

    run(journey)
