"""The real app on real terminals: what becomes of the job that runs, and of the terminal, whatever happens."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.runtime.journal import JobRow, Journal
from tests.pty_run import LEFT, TAKEN, OnTerminal, until
from tests.runs import PROGRAM

Opens = Callable[..., OnTerminal]
ROOT = Path(__file__).parent.parent
F9, CTRL_Q, DOWN = "\x1b[20~", "\x11", "\x1b[B"


@pytest.fixture
def state(own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The state folder of somebody who has been greeted, on a slow line, in a folder of his own."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    configure(own_home, "low_bandwidth = true")
    folder = own_home / "state" / "wan-tui"
    folder.mkdir()
    (folder / "welcome").touch()
    return folder


@pytest.fixture
def opened(state: Path) -> Iterator[Opens]:
    """`opened(…)` is the app on a terminal, ended with the test."""
    ours: list[OnTerminal] = []

    def open_(*arguments: object, **more: Any) -> OnTerminal:
        ours.append(OnTerminal([*PROGRAM, *arguments], **more))
        return ours[-1]

    yield open_
    for one in ours:
        one.clean()


def configure(home: Path, text: str) -> None:
    (home / "config" / "wan-tui").mkdir(exist_ok=True)
    (home / "config" / "wan-tui" / "config.toml").write_text(text + "\n", encoding="utf-8")


def shows(run: OnTerminal, *texts: str) -> None:
    """Wait until each was written, in any order."""
    for text in texts:
        run.sees(text.encode())


def started(opens: Opens, *arguments: object, **more: Any) -> OnTerminal:
    run = opens(*arguments, **more)
    shows(run, "Library", "t2v-A14B@2.2.0")
    return run


def job() -> JobRow:
    (row,) = Journal().rows()
    return row


def denoising(opens: Opens, **more: Any) -> OnTerminal:
    """The app while its demo job computes."""
    run = started(opens, **more)
    run.type(F9)
    until(lambda: any(row.state == "running" for row in Journal().rows()), "the job to run")
    shows(run, "Monitor", "denoise")
    until(lambda: run.settings() != run.before, "the terminal to be taken")
    return run


def assert_left(run: OnTerminal) -> None:
    """The terminal is as it was."""
    until(lambda: all(words in run.said for words in LEFT), "the screen to be left")
    for taken, left in zip(TAKEN, LEFT, strict=True):
        assert run.said.rfind(taken) < run.said.rfind(left)
    assert run.settings() == run.before


def assert_finished() -> None:
    row = job()
    assert row.state == "finished"
    assert row.output and Path(row.output).stat().st_size > 1000
    assert Path(row.output).with_suffix(".job.toml").exists()


# A job that runs


@pytest.mark.early
def test_a_lost_line_loses_no_video(opened: Opens, state: Path) -> None:
    run = denoising(opened)
    run.hang_up()
    assert run.end() == 0
    assert_finished()


def test_sigterm_cancels_and_restores(opened: Opens, state: Path) -> None:
    run = denoising(opened)
    run.process.terminate()
    assert run.end() == 143
    assert_left(run)
    row = job()
    assert (row.state, (row.error or {}).get("reason", "terminated")) == ("cancelled", "terminated")
    assert list(Path("outputs").glob("*")) == []


@pytest.mark.sampled(2)
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSEGV])
def test_after_a_sudden_end_the_next_start_tells_of_it(how: signal.Signals, opened: Opens, state: Path) -> None:
    run = denoising(opened)
    run.process.send_signal(how)
    assert run.end() == -how
    run.sees(b"wan-tui ended unexpectedly. The log is " + os.fsencode(state / "wan-tui.log"))
    assert_left(run)
    assert ("Segmentation fault" in (state / "fault.log").read_text()) == (how == signal.SIGSEGV)
    again = started(opened)
    shows(again, "was interrupted:")
    assert job().state == "interrupted"
    again.type(CTRL_Q)
    assert again.end() == 0


NOISY = """
import os, subprocess, threading, time
def noise():
    while not os.readlink("/proc/self/fd/2").endswith("noise.log"):
        time.sleep(0.05)
    while True:
        os.write(2, b"NOISE of the process\\n")
        subprocess.run(["sh", "-c", "echo NOISE of a child; echo NOISE of a child >&2"])
        time.sleep(0.2)
if not os.environ.get("QUIET"):
    os.environ["QUIET"] = "1"  # for the children
    threading.Thread(target=noise, daemon=True).start()
"""


@pytest.mark.soak
def test_a_stalled_reader_and_noise_do_not_disturb_the_job(opened: Opens, state: Path, tmp_path: Path) -> None:
    """Nobody takes what is written from before the first step until the job is over; then all is shown."""
    (tmp_path / "sitecustomize.py").write_text(NOISY)
    run = denoising(opened, size=(200, 60), PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    stall(run, 2.0)
    assert_finished()
    run.stall(still=False)
    run.type(CTRL_Q)
    assert run.end() == 0
    assert_left(run)
    assert b"NOISE" not in run.said
    noise = (state / "noise.log").read_text()
    assert "NOISE of the process\n" in noise
    assert "NOISE of a child\n" in noise


def stall(run: OnTerminal, seconds: float) -> None:
    """Take nothing for so long, and until the job is over. Each change of size paints everything."""
    run.stall(still=True)
    end = time.monotonic() + seconds
    while job().state == "running" or time.monotonic() < end:
        for width in (190, 200):
            run.resize(width, 60)
            time.sleep(0.1)


@pytest.mark.soak
def test_a_quit_asks_and_the_job_can_be_finished_without_a_screen(opened: Opens, state: Path) -> None:
    run = denoising(opened)
    run.type(CTRL_Q)
    shows(run, "ork is under way", "Stay", "Leave, and let it finish", "Stop it, and leave")  # on its W is the cursor
    at = len(run.said)
    run.type("\r")  # stay
    run.rests()
    assert TAKEN[0] not in run.said[at:] and run.process.poll() is None
    assert job().state == "running"
    run.type(CTRL_Q)
    at = run.sees(b"Stop it, and leave", at)
    run.type(DOWN)
    run.type("\r")
    run.sees(b"What is running is being finished; Ctrl-C cancels it.", at)
    assert_left(run)
    assert run.end() == 0
    assert_finished()


@pytest.mark.soak
def test_a_quit_can_stop_the_job(opened: Opens, state: Path) -> None:
    run = denoising(opened)
    run.type(CTRL_Q)
    at = run.sees(b"Stop it, and leave")
    run.type(DOWN + DOWN)
    run.type("\r")
    run.sees(b"Cancelling what is running", at)
    assert run.end() == 0
    assert_left(run)
    assert job().state == "cancelled"


# Terminals


PLACES = {
    "Diagnostics": "\x1bOR",
    "Composer": "\x1bOS",
    "Monitor": "\x1b[15~",
    "Queue": "\x1b[17~",
    "Gallery": "\x1b[18~",
    "Library": "\x1bOQ",
}
_NONE = r"[0123479]|2[2-9]|39|49"  # bold, reverse, … and the terminal's own colours: never black on black
_SIXTEEN = rf"{_NONE}|[349][0-7]|10[0-7]"


def colours(said: bytes) -> set[str]:
    """The parameters of every SGR sequence."""
    return {found.decode() for found in re.findall(rb"\x1b\[([\d;]*)m", said)}


def walk(run: OnTerminal) -> None:
    """Through every place."""
    for place, key in PLACES.items():
        at = len(run.said)
        run.type(key)
        run.sees(place.encode(), at)
        run.rests()


@pytest.mark.parametrize(
    ("env", "allowed"),
    [
        ({"NO_COLOR": "1"}, _NONE),
        pytest.param({"TERM": "vt100"}, _NONE, marks=pytest.mark.soak),
        pytest.param({"TERM": "linux", "COLORTERM": ""}, _SIXTEEN, marks=pytest.mark.soak),
        ({"LANG": "C"}, rf"{_NONE}|[34]8;5;\d+"),  # low_bandwidth spares the rest
    ],
)
def test_every_place_with_the_means_of_the_terminal(env: dict[str, str], allowed: str, opened: Opens) -> None:
    """No other colours, and only ASCII where UTF-8 is not to be had."""
    run = started(opened, **env)
    walk(run)
    run.type(CTRL_Q)
    assert run.end() == 0
    assert_left(run)
    assert [one for one in colours(run.said) if not re.fullmatch(rf"(?:(?:{allowed})(?:;|$))*", one)] == []
    assert "NO_COLOR" in env or run.said.isascii()


def test_a_dumb_terminal_is_refused_in_one_message(opened: Opens, state: Path) -> None:
    run = opened(TERM="dumb")
    assert run.end() == 2
    run.sees(b"wan-tui --run job.toml")
    assert run.said.startswith(b"error: The app needs a terminal.")
    assert run.said.count(b"error:") == 1 and b"\x1b" not in run.said and b"Traceback" not in run.said


def test_sizes_storm_down_to_too_small_and_back(opened: Opens, state: Path) -> None:
    run = started(opened)
    for number in range(60):
        run.resize(20 + number * 3, 5 + number % 50)
    at = len(run.said)
    run.resize(20, 5)
    run.sees(b"60x20", at)
    run.rests()
    at = len(run.said)
    run.type(PLACES["Queue"])  # keys work meanwhile
    run.rests()
    run.resize(59, 24)
    run.sees(b"This needs a terminal of 60x20 or more.", at)
    at = len(run.said)
    run.resize(80, 24)
    run.sees(b"No jobs yet", run.sees(b"Queue", at))
    at = len(run.said)
    run.type(PLACES["Library"])
    run.sees(b"t2v-A14B@2.2.0", at)
    run.type(CTRL_Q)
    assert run.end() == 0
    assert_left(run)


@pytest.mark.soak
@pytest.mark.parametrize("mouse", [True, False])
def test_the_mouse_is_left_to_the_terminal_when_asked(mouse: bool, opened: Opens, state: Path) -> None:
    run = started(opened, *([] if mouse else ["--no-mouse"]))
    run.type(CTRL_Q)
    assert run.end() == 0
    assert (re.search(rb"\x1b\[\?100[0-36]h", run.said) is not None) == mouse


@pytest.mark.soak
def test_input_from_nowhere_and_output_elsewhere(opened: Opens, state: Path, tmp_path: Path) -> None:
    with (tmp_path / "out").open("w") as out, Path(os.devnull).open() as nothing:
        run = started(opened, files={"stdin": nothing, "stdout": out})
    at = len(run.said)
    run.type(PLACES["Monitor"])
    run.sees(b"Devices", at)
    run.type(CTRL_Q)
    assert run.end() == 0
    assert_left(run)
    assert (tmp_path / "out").read_text() == ""


# What the user's folders hold


@pytest.mark.soak
def test_a_broken_config_is_told_and_its_defaults_hold(opened: Opens, own_home: Path, state: Path) -> None:
    configure(own_home, "theme = [broken")
    run = started(opened)
    shows(run, "config.toml", "valid", "TOML")
    walk(run)
    run.type(CTRL_Q)
    assert run.end() == 0


def test_keys_of_the_user_are_shown_and_obeyed(opened: Opens, own_home: Path, state: Path) -> None:
    configure(own_home, '[keys]\n"app.queue" = "f12"\n"library.download" = "z"\n"app.quit" = "ctrl+x"\n"no.such" = "q"')
    run = started(opened)
    shows(run, "no.such")
    at = len(run.said)
    run.resize(100, 24)
    run.rests()
    told = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", run.said[at:].decode())
    assert ("F12 Queue" in told, "z Download" in told, "F6" in told) == (True, True, False), told
    at = len(run.said)
    run.type("\x1b[24~")
    run.sees(b"No jobs yet", at)
    run.type(CTRL_Q + PLACES["Queue"])  # no longer what they were
    run.rests()
    assert run.process.poll() is None
    run.type("\x18")
    assert run.end() == 0


@pytest.mark.soak
@pytest.mark.parametrize("how", ["a file", "read-only"])
def test_without_a_state_folder_the_app_can_be_used(how: str, opened: Opens, state: Path) -> None:
    for file in state.iterdir():
        file.unlink()
    state.rmdir()
    if how == "a file":
        state.write_text("")
    else:  # even for root
        state.symlink_to("/proc/nothing")
    run = opened()
    shows(run, "journal-unavailable")
    for _ in range(2):
        run.type("\x1b")
        run.rests()
    walk(run)
    run.type(CTRL_Q)
    assert run.end() == 0
    assert_left(run)
    assert b"Traceback" not in run.said


# Repeats


@pytest.mark.soak
@pytest.mark.parametrize("number", range(20))
@pytest.mark.parametrize("how", ["hang up", "kill", "fault", "terminate"])
def test_repeats(how: str, number: int, opened: Opens, state: Path) -> None:
    """At another moment of the job each time."""
    run = denoising(opened)
    time.sleep(number * 0.15)
    if how == "hang up":
        run.hang_up()
        assert run.end() == 0
        assert_finished()
        return
    given = {"kill": signal.SIGKILL, "fault": signal.SIGSEGV, "terminate": signal.SIGTERM}[how]
    run.process.send_signal(given)
    assert run.end() == (143 if how == "terminate" else -given)
    assert_left(run)
    assert Journal().recover() or how == "terminate"
    assert job().state == ("cancelled" if how == "terminate" else "interrupted")


@pytest.mark.soak
def test_a_reader_stalled_for_six_seconds(opened: Opens, state: Path) -> None:
    run = denoising(opened, size=(200, 60))
    stall(run, 6.0)
    assert_finished()
    run.stall(still=False)
    run.type(CTRL_Q)
    assert run.end() == 0
    assert_left(run)
