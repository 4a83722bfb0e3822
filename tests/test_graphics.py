"""Stills in kitty's graphics: the real app on a terminal that answers and shows as kitty does."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import termios
import unicodedata
import zlib
from base64 import b64decode
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from rich.cells import cell_len

from engine.video.thumbnail import Frame
from tests.pty_run import LEFT, OnTerminal, until
from tests.stills import CTRL_Q, F6, F7, Cells, gallery
from wan_tui.graphics import MOST_PIXELS, Room
from wan_tui.terminal.answers import Answers, cell_pixels
from wan_tui.terminal.kitty import MARKS, drawing

PLACEHOLDER = "\U0010eeee"
NAME, OK = "\x1bP>|kitty(0.35.2)\x1b\\", "\x1b_Gi=31;OK\x1b\\"


class Kitty(Cells):
    """A terminal with kitty's graphics: its cells, and the pictures it keeps."""

    def __init__(self, said: str, columns: int = 1000) -> None:
        self.images: dict[int, tuple[dict[str, str], bytes]] = {}
        self.sent = 0
        self._begun: dict[str, str] | None = None
        self._data = ""
        super().__init__(said, columns)

    def draw(self, kind: str, data: str) -> None:
        assert kind == "_" and data[0] == "G"
        words, _, data = data[1:].partition(";")
        keys = dict(pair.split("=") for pair in words.split(","))
        if self._begun is None and keys.get("a") == "q":
            return
        if self._begun is None and keys.get("a") == "d":
            assert keys.pop("d") == "I"
            self.images.pop(int(keys["i"]))
            return
        assert len(data) <= 4096
        self._begun, self._data = self._begun or keys, self._data + data
        if keys["m"] == "0":
            (begun, data), self._begun, self._data = (self._begun, self._data), None, ""
            assert begun["a"] == "T" and begun["U"] == "1" and begun["q"] == "2"
            self.images[int(begun["i"])] = (begun, zlib.decompress(b64decode(data)))
            self.sent += 1

    def cleared(self) -> None:
        self.images.clear()

    @property
    def seen(self) -> tuple[int, int, bytes] | None:
        """Columns, rows and pixels of the one picture that is seen, whole and upright."""
        parts = {at: cell for at, cell in self.cells.items() if cell[0].startswith(PLACEHOLDER)}
        if not parts:
            return None
        number, *others = {colour for _, colour in parts.values()}
        if others or number not in self.images:
            return None
        head, pixels = self.images[number]
        columns, rows = int(head["c"]), int(head["r"])
        top, left = min(parts)
        whole = {
            (top + row, left + column): PLACEHOLDER + MARKS[row] + MARKS[column]
            for row in range(rows)
            for column in range(columns)
        }
        if {at: text for at, (text, _) in parts.items()} != whole:
            return None
        assert len(pixels) == int(head["s"]) * int(head["v"]) * 3
        return columns, rows, pixels[:3]


@lru_cache(1)
def made_of(said: bytes, columns: int) -> Kitty:
    return Kitty(said.decode(errors="ignore"), columns)


def look(run: OnTerminal) -> Kitty:
    return made_of(bytes(run.said), os.get_terminal_size(run.master).columns)


def red(shade: bytes) -> bool:
    return shade[0] > 200 and shade[1] < 40


def blue(shade: bytes) -> bool:
    return shade[2] > 200 and shade[1] < 40


@pytest.fixture
def opened(own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., OnTerminal]]:
    with gallery(own_home, tmp_path / "here", monkeypatch, TERM="xterm-kitty") as open_:
        yield open_


def asked(run: OnTerminal, answer: str = NAME + OK) -> OnTerminal:
    run.sees(b"\x1b[>q\x1b_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA\x1b\\")
    run.type(answer)
    return run


def sees(run: OnTerminal, shade: Callable[[bytes], bool]) -> Kitty:
    """Wait until one picture is seen and no other is kept."""

    def shown() -> Kitty | None:
        terminal = look(run)
        seen = terminal.seen
        return terminal if seen and shade(seen[2]) and len(terminal.images) == 1 else None

    found = until(shown, "the picture")
    assert isinstance(found, Kitty)
    return found


# What is sent


def test_marks_are_those_of_the_protocol_and_take_no_cell() -> None:
    assert len(MARKS) == len({*MARKS}) == 297
    assert [hex(ord(MARKS[number])) for number in (0, 4, 100, 296)] == ["0x305", "0x312", "0x7eb", "0x1d244"]
    assert {cell_len(PLACEHOLDER + mark + mark) for mark in MARKS} == {1}
    assert all(map(unicodedata.combining, MARKS))


@pytest.mark.parametrize(
    ("room", "shape", "taken"),
    [
        (Room(40, 20, (10, 20)), (400, 400), (40, 20)),
        (Room(40, 20, (10, 20)), (400, 100), (40, 5)),
        (Room(40, 20, (10, 20)), (10, 400), (1, 20)),
        (Room(40, 20, (10, 20)), (1000, 10), (40, 1)),
        (Room(40, 20, (8, 8)), (32, 16), (40, 20)),
        (Room(400, 10, (10, 20)), (4000, 20), (400, 1)),
        (Room(400, 10, (10, 20)).within(297, 5), (3000, 20), (297, 1)),
    ],
)
def test_a_picture_is_as_large_as_fits(room: Room, shape: tuple[int, int], taken: tuple[int, int]) -> None:
    assert room.taken(*shape) == taken


def test_no_more_pixels_are_sent_than_are_worth_it() -> None:
    assert Room(20, 5, (10, 20)).pixels == (200, 100)
    width, height = Room(200, 50, (10, 20)).pixels
    assert 0.98 * MOST_PIXELS < width * height <= MOST_PIXELS
    assert abs(width / height - 2) < 0.01


def test_what_is_sent_is_the_picture() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, 60 * 40 * 3, np.uint8).tobytes()
    made = drawing(Frame(60, 40, pixels), Room(30, 20, (10, 20)))
    terminal = Kitty(made.sequence)
    ((head, sent),) = terminal.images.values()
    assert (head["c"], head["r"], head["s"], head["v"]) == ("30", "10", "60", "40")
    assert sent == pixels
    assert made.sequence.count("\x1b_G") > 1
    assert [strip.cell_length for strip in made.cells] == [30] * 10
    assert Kitty(made.sequence + made.forget).images == {}
    assert made.cells[3].crop(7, 9).text == "".join(PLACEHOLDER + MARKS[3] + MARKS[column] for column in (7, 8))


# What is answered


def listening(term: str = "xterm-kitty", **environ: str) -> tuple[Answers, list[str]]:
    answers, written = Answers(), list[str]()
    answers.ask({"TERM": term, **environ}, written.append)
    answers.ask({"TERM": term, **environ}, written.append)
    return answers, written


@pytest.mark.parametrize("at", range(len(NAME + OK) + 3))
def test_answers_are_kept_from_the_keys_wherever_they_are_cut(at: int) -> None:
    answers, written = listening()
    assert len(written) == 1
    text = f"a{NAME}b{OK}c"
    assert answers.kept_from(text[:at]) + answers.kept_from(text[at:]) == "abc"
    assert answers.way("truecolor") == "kitty"
    assert answers.way("256") is None  # the number of a picture is a colour
    assert answers.rest() == ""


def test_what_only_begins_like_an_answer_is_a_key() -> None:
    answers, _ = listening()
    assert (answers.kept_from("a\x1b"), answers.rest(), answers.rest()) == ("a", "\x1b", "")
    assert answers.kept_from("\x1b[A\x1bPx\x1b_x") == "\x1b[A\x1bPx\x1b_x"
    assert answers.kept_from("\x1b_G" + "x" * 500) == "\x1b_G" + "x" * 500


@pytest.mark.parametrize(
    ("name", "draws"),
    [
        *(("kitty(0.28.0)", True), ("kitty(1.0.0)", True), ("ghostty 1.1.3", True)),
        *(("kitty(0.26.5)", False), ("tmux 3.4", False), ("WezTerm 2024", False), ("", False)),
    ],
)
def test_only_terminals_with_placeholders_are_drawn_in(name: str, draws: bool) -> None:
    answers, _ = listening()
    answers.kept_from(f"\x1bP>|{name}\x1b\\")
    assert not answers.way("truecolor")
    answers.kept_from("\x1b_Gi=31;EINVAL\x1b\\")
    assert not answers.way("truecolor")
    answers.kept_from(OK)
    assert answers.way("truecolor") == ("kitty" if draws else None)


@pytest.mark.parametrize(
    "environ", [{"term": "xterm"}, {"term": "vt340"}, {"term": "tmux-256color"}, {"TMUX": "1"}, {"STY": "1"}]
)
def test_others_are_asked_nothing_and_lose_no_key(environ: dict[str, str]) -> None:
    answers, written = listening(**environ)
    assert written == []
    assert answers.kept_from(f"{NAME}{OK}\x1b") == f"{NAME}{OK}\x1b"
    assert not answers.way("truecolor")


def test_a_cell_has_the_size_the_terminal_tells() -> None:
    master, slave = pty.openpty()
    for told, size in (((40, 120, 1080, 800), (9, 20)), ((40, 120, 0, 0), None), ((0, 0, 9, 9), None)):
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", *told))
        assert cell_pixels(slave) == size
    os.close(slave)
    os.close(master)
    assert cell_pixels(slave) is None


# The app


def test_a_still_is_seen_in_its_own_pixels_while_it_is_looked_at(opened: Callable[..., OnTerminal]) -> None:
    run = asked(opened())
    terminal = sees(run, red)
    assert terminal.blocks == 0
    run.type("j")
    terminal = sees(run, blue)
    assert terminal.sent == 2

    run.type(F6)
    until(lambda: look(run).seen is None, "another place")
    run.type(F7)
    assert sees(run, blue).sent == 2  # it had stayed in the terminal's memory

    run.type("D")
    until(lambda: (below := look(run)).seen is None and below.blocks, "half blocks below the question")
    run.type("n")
    assert sees(run, blue).sent == 2

    run.process.send_signal(signal.SIGSTOP)
    run.process.send_signal(signal.SIGCONT)
    until(lambda: look(run).sent == 3, "the picture to be sent again")
    before = sees(run, blue).seen

    run.resize(90, 40)
    run.process.send_signal(signal.SIGWINCH)
    until(lambda: (now := look(run).seen) and before and now[0] < before[0], "a smaller one")
    sees(run, blue)

    run.type(" ")
    until(lambda: (playing := look(run)).blocks and not playing.images, "the clip to be played in half blocks")
    run.type(" k")
    sees(run, red)
    run.rests()
    end = len(run.said)
    run.type(CTRL_Q)
    assert run.end() == 0
    until(lambda: all(words in run.said for words in LEFT), "the screen to be left")
    assert end <= run.said.rfind(b"\x1b_Ga=d,d=I,") < run.said.rfind(b"\x1b[?1049l")
    assert run.said.count(b"\x1b_G", end) == 1
    assert run.settings() == run.before


@pytest.mark.parametrize("answer", ["", "\x1bP>|kitty(0.26.5)\x1b\\" + OK, NAME, "\x1bP>|kit"])
@pytest.mark.sampled(4)
def test_without_the_right_answer_there_are_half_blocks(opened: Callable[..., OnTerminal], answer: str) -> None:
    run = asked(opened(), answer)
    until(lambda: look(run).blocks, "half blocks")
    assert run.said.count(b"\x1b_G") == 1


@pytest.mark.parametrize(
    ("config", "env"),
    [
        ("", {"TERM": "xterm-256color"}),
        ("", {"TMUX": "/tmp/tmux-0/default,1,0"}),
        ('preview = "halfblock"', {}),
    ],
)
@pytest.mark.sampled(3)
def test_elsewhere_nothing_is_asked(opened: Callable[..., OnTerminal], config: str, env: dict[str, str]) -> None:
    run = opened(config, **env)
    until(lambda: look(run).blocks, "half blocks")
    assert b"\x1b_G" not in run.said
    assert b"\x1b[>q" not in run.said


def test_a_slow_line_is_spared(opened: Callable[..., OnTerminal]) -> None:
    run = opened("low_bandwidth = true")
    run.sees(b"shows the picture.")
    run.type(" ")
    until(lambda: look(run).blocks, "half blocks")
    assert b"\x1b_G" not in run.said
