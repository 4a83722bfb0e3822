"""Stills as sixels: the real app on a terminal that answers and shows as xterm and foot do."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import struct
import termios
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.video.thumbnail import Frame
from tests.pty_run import LEFT, OnTerminal, until
from tests.stills import CTRL_Q, F6, F7, At, Cells, clip, gallery
from wan_tui.graphics import MOST_PIXELS, Room
from wan_tui.terminal.answers import Answers
from wan_tui.terminal.sixel import MOST_BYTES, MOST_SIDE, drawing

Picture = NDArray[np.int16]  # rows, columns, channels; -1 where nothing was drawn
ASKED = "\x1b[16t\x1b[?1;1;0S\x1b[c"
CELL, MANY = "\x1b[6;20;10t", "\x1b[?1;0;1024S"
XTERM, FOOT, NONE = "\x1b[?63;1;2;4;6;9;15;16;22;28c", "\x1b[?62;4;22c", "\x1b[?64;1;2;6;22c"
CTRL_T = "\x14"
SIGN = re.compile(r"#(\d+);2;(\d+);(\d+);(\d+)|#(\d+)|(?:!(\d+))?([?-~])|([$-])")


@lru_cache(8)
def decoded(data: str) -> Picture:
    """The picture a terminal makes of sixels."""
    head = re.match(r'0;1;0q"1;1;(\d+);(\d+)', data)
    assert head
    width, height = map(int, head.groups())
    bands = -(-height // 6)
    picture = np.full((bands * 6, width, 3), -1, np.int16)
    colours: dict[int, list[int]] = {}
    column = top = 0
    colour = [-1] * 3
    at = head.end()
    while sign := SIGN.match(data, at):
        at = sign.end()
        told, red, green, blue, chosen, count, pixels, move = sign.groups()
        if told:
            colours[int(told)] = [round(int(one) * 255 / 100) for one in (red, green, blue)]
        elif chosen:
            colour = colours[int(chosen)]
        elif pixels:
            rows = [top + bit for bit in range(6) if ord(pixels) - 63 >> bit & 1]
            assert column + int(count or 1) <= width
            assert (picture[rows, column : column + int(count or 1)] == -1).all(), "each pixel is drawn once"
            picture[rows, column : column + int(count or 1)] = colour
            column += int(count or 1)
        else:
            column, top = 0, top + 6 * (move == "-")
    assert at == len(data)
    return picture


class Vt340(Cells):
    """A terminal that has sixels: they lie over the cells until something is written on those."""

    CELL = (10, 20)

    def __init__(self, said: str, columns: int = 1000) -> None:
        self.pixels: dict[At, Picture] = {}
        self.sent = 0
        super().__init__(said, columns)
        self.pixels = {at: one for at, one in self.pixels.items() if at[1] < columns}

    def draw(self, kind: str, data: str) -> None:
        if kind != "P":
            return
        self.sent += 1
        picture, (wide, high), (row, column) = decoded(data), self.CELL, self.at
        for down in range(0, picture.shape[0], high):
            for across in range(0, picture.shape[1], wide):
                at = row + down // high, column + across // wide
                self.pixels[at] = picture[down : down + high, across : across + wide]
        self.at = row + picture.shape[0] // high, column  # below it

    def printed(self, at: At) -> None:
        self.pixels.pop(at, None)

    def cleared(self) -> None:
        self.pixels.clear()

    @property
    def seen(self) -> Picture | None:
        """The one picture that is seen, whole."""
        if not self.pixels:
            return None
        (top, left), (bottom, right) = min(self.pixels), max(self.pixels)
        lines = [
            [self.pixels.get((row, column)) for column in range(left, right + 1)] for row in range(top, bottom + 1)
        ]
        if len(self.pixels) != len(lines) * len(lines[0]) or any(one is None for line in lines for one in line):
            return None
        return np.vstack([np.hstack([one for one in line if one is not None]) for line in lines])


@lru_cache(1)
def made_of(said: bytes, columns: int) -> Vt340:
    return Vt340(said.decode(errors="ignore"), columns)


def look(run: OnTerminal) -> Vt340:
    return made_of(bytes(run.said), os.get_terminal_size(run.master).columns)


def as_of(channel: int) -> Callable[[Picture], bool]:
    """Whether a picture is that of the clip `channel` is bright in: 250 below its edge, 120 above."""

    def holds(picture: Picture) -> bool:
        across, down = np.meshgrid(np.linspace(0, 63, picture.shape[1]), np.linspace(0, 31, picture.shape[0]))
        wanted = np.zeros(picture.shape)
        wanted[..., channel] = np.where(across > 2 * down + 8, 120, 250)
        return bool(np.abs(picture - wanted).mean() < 8 and abs(picture.shape[1] / picture.shape[0] - 2) < 0.15)

    return holds


red, blue = as_of(0), as_of(2)


@pytest.fixture
def opened(own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., OnTerminal]]:
    with gallery(own_home, tmp_path / "here", monkeypatch) as open_:
        yield open_


def asked(run: OnTerminal, answer: str = CELL + MANY + FOOT) -> OnTerminal:
    run.sees(ASKED.encode())
    run.type(answer)
    return run


def sees(run: OnTerminal, which: Callable[[Picture], bool]) -> Vt340:
    """Wait until that picture is seen, whole, and nothing of any other."""

    def shown() -> Vt340 | None:
        terminal = look(run)
        seen = terminal.seen
        return terminal if seen is not None and which(seen) else None

    found = until(shown, "the picture")
    assert isinstance(found, Vt340)
    return found


# What is sent


def sixels(pixels: NDArray[np.uint8], room: Room) -> tuple[str, Picture]:
    made = drawing(Frame(pixels.shape[1], pixels.shape[0], pixels.tobytes()), room)
    assert made
    assert (made.sequence, made.forget, made.cell) == ("", "", room.cell)
    return made.over, decoded(made.over.removeprefix("\x1bP").removesuffix("\x1b\\"))


@pytest.mark.parametrize("size", [(60, 42), (61, 36), (1, 6), (200, 120)])
def test_what_is_sent_is_the_picture(size: tuple[int, int]) -> None:
    random = np.random.default_rng(0)
    colours = random.integers(0, 256, (60, 3), np.uint8)
    pixels = colours[random.integers(0, 60, size[::-1])]
    pixels[size[1] // 2 :] = colours[0]  # runs of one colour
    _, sent = sixels(pixels, Room(1, 1, size))
    assert sent.shape == pixels.shape
    assert np.abs(sent - pixels.astype(int)).max() <= 2  # a colour is told in hundredths


def test_a_picture_of_many_colours_is_near() -> None:
    across, down = np.meshgrid(range(240), range(120))
    pixels = np.stack([across, down * 2, 255 - across], -1).astype(np.uint8)
    for count, near in ((256, 6), (16, 20)):
        _, sent = sixels(pixels, Room(24, 6, (10, 20), count))
        assert len(np.unique(sent.reshape(-1, 3), axis=0)) <= count
        assert np.abs(sent - pixels.astype(int)).mean() < near


@pytest.mark.parametrize(
    ("room", "shape", "size"),
    [
        (Room(40, 20, (10, 20)), (64, 32), (400, 198)),  # whole bands of six rows
        (Room(40, 20, (9, 18)), (32, 64), (180, 360)),
        (Room(300, 100, (20, 40)), (64, 32), (MOST_SIDE, 480)),
        (Room(1, 1, (4, 8)), (64, 32), (4, 6)),
        (Room(30, 20, (12, 19)), (64, 32), (360, 168)),
    ],
)
def test_it_fills_the_room_and_none_but_its_cells(room: Room, shape: tuple[int, int], size: tuple[int, int]) -> None:
    pixels = np.full((shape[1], shape[0], 3), 99, np.uint8)
    made = drawing(Frame(*shape, pixels.tobytes()), room)
    _, sent = sixels(pixels, room)
    assert (sent >= 0).all()
    assert made
    assert (sent.shape[1], sent.shape[0]) == size
    columns, rows = made.cells[0].cell_length, len(made.cells)
    assert columns <= room.columns and rows <= room.rows
    assert sent.shape[1] == columns * room.cell[0]
    assert rows * room.cell[1] - 6 < sent.shape[0] <= rows * room.cell[1]


@pytest.mark.soak
def test_no_more_bytes_are_sent_than_are_worth_it() -> None:
    random = np.random.default_rng(0)
    coarse = np.kron(random.integers(0, 256, (72, 128, 3), np.uint8), np.ones((5, 5, 1), np.uint8))
    over, _ = sixels(coarse, Room(64, 18, (10, 20)))
    assert 0.3 * MOST_BYTES < len(over) <= MOST_BYTES
    noise = random.integers(0, 256, (360, 640, 3), np.uint8)
    assert noise[..., 0].size == MOST_PIXELS
    assert drawing(Frame(640, 360, noise.tobytes()), Room(64, 18, (10, 20))) is None


# What is answered


def listening(term: str = "xterm-256color", window: At | None = None, **environ: str) -> tuple[Answers, list[str]]:
    answers, written = Answers(lambda: window), list[str]()
    answers.ask({"TERM": term, **environ}, written.append)
    answers.ask({"TERM": term, **environ}, written.append)
    return answers, written


@pytest.mark.parametrize("at", range(len(CELL + MANY + FOOT) + 3))
def test_answers_are_kept_from_the_keys_wherever_they_are_cut(at: int) -> None:
    answers, written = listening()
    assert written == [ASKED]
    text = f"a{CELL}b{MANY}{FOOT}c"
    assert answers.kept_from(text[:at]) + answers.kept_from(text[at:]) == "abc"
    assert (answers.way("truecolor"), answers.way("256"), answers.way("16")) == ("sixel", "sixel", None)
    assert (answers.cell, answers.colours, answers.rest()) == ((10, 20), 256, "")


@pytest.mark.parametrize(
    ("said", "window", "way"),
    [
        (CELL + XTERM, None, "sixel"),
        (CELL + FOOT, None, "sixel"),
        (FOOT, (9, 18), "sixel"),
        (CELL + "\x1b[?1;3;0S" + FOOT, None, "sixel"),  # it does not tell how many colours
        (FOOT, None, None),  # nor how large a cell is
        ("\x1b[6;0;0t" + FOOT, None, None),
        (CELL + "\x1b[?1;0;4S" + FOOT, None, None),  # four greys
        (CELL + NONE, None, None),
        (CELL + "\x1b[?6c", None, None),
        (CELL + "\x1b[?4;6c", None, None),  # that is its class
        (CELL + "\x1b[?62;14;24c", None, None),
        (CELL + "\x1b[?62;4;22", None, None),
        ("", None, None),
    ],
)
def test_only_terminals_that_have_sixels_and_tell_a_cell_are_drawn_in(
    said: str, window: At | None, way: str | None
) -> None:
    answers, _ = listening(window=window)
    assert answers.way("truecolor") is None
    answers.kept_from(said)
    assert answers.way("truecolor") == way


def test_a_cell_is_as_told_until_the_window_tells_of_another() -> None:
    window = (10, 19)  # a border counts
    answers = Answers(lambda: window)
    answers.ask({"TERM": "xterm-256color"}, lambda _: None)
    answers.kept_from(f"\x1b[6;18;9t{MANY}{XTERM}")
    assert answers.cell == (9, 18)
    window = (12, 24)
    assert answers.cell == (12, 24)


def test_no_key_waits_once_the_terminal_has_answered() -> None:
    answers, _ = listening()
    assert answers.kept_from("\x1b[6~\x1b") == "\x1b[6~"
    assert answers.kept_from(f"OA{NONE}\x1b") == "\x1bOA\x1b"
    assert answers.kept_from("\x1b[") == "\x1b["


def test_no_key_waits_for_ever_where_it_does_not() -> None:
    answers, _ = listening()
    assert (answers.kept_from("\x1b"), answers.rest()) == ("", "\x1b")
    for _ in range(30):
        assert answers.rest() == ""
    assert answers.kept_from("\x1b") == "\x1b"
    assert answers.kept_from(f"a{CELL}{FOOT}b") == "ab"  # late, and heard nevertheless
    assert answers.way("256") == "sixel"


# The app


@pytest.mark.soak  # the same of another kind of picture in `test_graphics.py`
def test_a_still_is_seen_while_it_is_looked_at(opened: Callable[..., OnTerminal]) -> None:
    run = asked(opened())
    assert sees(run, red).blocks == 0
    run.type("j")
    sees(run, blue)
    run.rests()
    sent, marked = look(run).sent, look(run).text.count("blue.mp4")

    run.type("m")  # what is painted beside it is not its business
    until(lambda: look(run).text.count("blue.mp4") == marked + 1, "a mark")
    run.rests()
    assert sees(run, blue).sent == sent

    run.type(F6)
    until(lambda: not look(run).pixels, "another place")
    run.type(F7)
    sees(run, blue)

    run.type("D")
    until(lambda: not (below := look(run)).pixels and below.blocks, "half blocks below the question")
    run.type("n")
    sees(run, blue)

    run.type(CTRL_T)
    until(lambda: not look(run).pixels, "the themes")
    since = len(run.said)
    run.type("\x1b[B\r")
    until(lambda: run.said.find(b"\x1bP0;1;0q", since) > 0, "the picture in another theme")
    assert sees(run, blue).blocks == 0

    run.rests()
    sent = look(run).sent
    run.process.send_signal(signal.SIGSTOP)
    run.process.send_signal(signal.SIGCONT)
    until(lambda: look(run).sent > sent, "the picture to be sent again")
    before = sees(run, blue).seen
    assert before is not None

    run.resize(90, 40)
    run.process.send_signal(signal.SIGWINCH)
    until(lambda: (now := look(run).seen) is not None and now.shape[1] < before.shape[1], "a smaller one")
    sees(run, blue)

    run.type(" ")
    until(lambda: (playing := look(run)).blocks and not playing.pixels, "the clip to be played in half blocks")
    run.type(" k")
    sees(run, red)
    run.rests()
    end = len(run.said)
    run.type(CTRL_Q)
    assert run.end() == 0
    until(lambda: all(words in run.said for words in LEFT), "the screen to be left")
    assert run.said.find(b"\x1bP", end) < 0
    assert run.settings() == run.before


@pytest.mark.soak
def test_a_still_that_was_begun_before_the_answer_is_drawn_after_it(opened: Callable[..., OnTerminal]) -> None:
    run = opened()
    run.sees(ASKED.encode())
    until(lambda: look(run).blocks, "half blocks")
    run.rests()
    run.type(CELL + MANY + XTERM)
    assert sees(run, red).blocks == 0


@pytest.mark.soak
def test_a_clip_that_was_made_again_is_drawn_again(opened: Callable[..., OnTerminal]) -> None:
    run = asked(opened())
    sees(run, red)
    clip(Path("other.mp4"), 2)
    Path("other.mp4").rename("outputs/red.mp4")
    run.type("R")
    sees(run, blue)


@pytest.mark.soak
def test_nothing_is_drawn_over_what_lies_over_it(opened: Callable[..., OnTerminal]) -> None:
    run = asked(opened(size=(100, 24)))
    sees(run, red)
    run.rests()
    sent = look(run).sent
    run.type("yyyy")  # sentences in the corner, up to the picture
    until(lambda: not (below := look(run)).pixels and below.blocks, "half blocks below the sentences")
    run.rests()
    assert look(run).sent == sent
    sees(run, red)  # when they have gone


def of_cells(run: OnTerminal, wide: int, high: int) -> None:
    """Have the terminal tell how large its window is in pixels."""
    fcntl.ioctl(run.master, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 120 * wide, 40 * high))


@pytest.mark.soak
def test_nothing_is_drawn_with_cells_of_another_size(opened: Callable[..., OnTerminal]) -> None:
    run = opened()
    of_cells(run, 10, 20)
    asked(run)
    sees(run, red)
    of_cells(run, 8, 16)
    run.process.send_signal(signal.SIGWINCH)
    until(lambda: not (now := look(run)).pixels and now.blocks, "half blocks")


@pytest.mark.parametrize(
    ("answer", "more"),
    [
        ("", {}),
        (CELL + MANY + NONE, {}),
        (MANY + FOOT, {}),
        (CELL + MANY + FOOT, {"config": 'theme = "ansi-dark"'}),
    ],
)
@pytest.mark.sampled(4)
def test_without_the_right_answer_there_are_half_blocks(
    opened: Callable[..., OnTerminal], answer: str, more: dict[str, str]
) -> None:
    run = asked(opened(**more), answer)
    until(lambda: look(run).blocks, "half blocks")
    run.rests()
    assert b"\x1bP" not in run.said
    assert look(run).blocks


@pytest.mark.parametrize(
    ("config", "env"),
    [
        ("", {"TERM": "xterm", "COLORTERM": ""}),
        ("", {"NO_COLOR": "1"}),
        ("", {"TMUX": "/tmp/tmux-0/default,1,0"}),
        ('preview = "halfblock"', {}),
        ("low_bandwidth = true", {}),
    ],
)
@pytest.mark.sampled(5)
def test_elsewhere_nothing_is_asked(opened: Callable[..., OnTerminal], config: str, env: dict[str, str]) -> None:
    run = opened(config, **env)
    run.sees(b"red.mp4")
    run.rests()
    assert b"\x1b[c" not in run.said
    assert b"\x1b[16t" not in run.said
