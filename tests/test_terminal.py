"""How an app comes to a terminal and leaves it, whatever happens: real processes, each on a terminal of its own."""

from __future__ import annotations

import base64
import inspect
import os
import re
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.pty_app import TICK_S
from tests.pty_run import LEFT, TAKEN, OnTerminal, app, until
from tests.runs import environment
from wan_tui.terminal.clipboard import MOST_BYTES, osc52
from wan_tui.terminal.means import Means, means, prepare_environment
from wan_tui.terminal.noise import MOST_BYTES as MOST_NOISE
from wan_tui.terminal.noise import trim

pytestmark = pytest.mark.sampled(3)

Opens = Callable[..., OnTerminal]
ROOT = Path(__file__).parent.parent
ENDLESS = 100_000


@pytest.fixture
def steps(tmp_path: Path) -> Path:
    """What the engine writes down."""
    return tmp_path / "steps"


@pytest.fixture
def state(own_home: Path) -> Path:
    return own_home / "state" / "wan-tui"


@pytest.fixture
def opened() -> Iterator[Opens]:
    """`opened(command, …)` is a process on a terminal, ended with the test."""
    ours: list[OnTerminal] = []

    def open_(*command: object, **more: Any) -> OnTerminal:
        ours.append(OnTerminal(command, **more))
        return ours[-1]

    yield open_
    for one in ours:
        one.clean()


def lines(steps: Path) -> list[str]:
    return steps.read_text(encoding="utf-8").splitlines() if steps.exists() else []


def counted(steps: Path) -> int:
    """How many steps were made, none of them left out."""
    done = [int(line.split()[1]) for line in lines(steps) if line.startswith("step ")]
    assert done == list(range(len(done)))
    return len(done)


def further(steps: Path, by: int) -> None:
    """Wait until the engine has made so many steps more."""
    made = counted(steps)
    until(lambda: counted(steps) >= made + by, f"{by} steps more")


def assert_left(terminal: OnTerminal) -> None:
    """The terminal is as it was."""
    until(lambda: all(words in terminal.said for words in LEFT), "the screen to be left")
    for taken, left in zip(TAKEN, LEFT, strict=True):
        assert terminal.said.rfind(taken) < terminal.said.rfind(left)
    assert terminal.settings() == terminal.before


def janitor_of(terminal: OnTerminal) -> psutil.Process:
    (child,) = psutil.Process(terminal.process.pid).children()
    return child


def test_a_quit_leaves_the_terminal_as_it_was(opened: Opens, steps: Path) -> None:
    run = opened(*app(steps, ENDLESS))
    run.sees(b"READY 80x24")
    assert all(words in run.said for words in TAKEN)
    assert run.settings() != run.before
    janitor = janitor_of(run)
    assert len(os.listdir(f"/proc/{janitor.pid}/fd")) == 2
    assert janitor.memory_info().rss < 40 << 20
    run.type("r")
    assert run.end() == 7
    assert_left(run)
    assert lines(steps)[-1] == "stopped user"
    assert not janitor.is_running()
    assert b"unexpectedly" not in run.said


def test_sigterm_restores_and_stops(opened: Opens, steps: Path) -> None:
    run = opened(*app(steps, ENDLESS))
    run.sees(b"READY")
    run.process.terminate()
    assert run.end() == 143
    assert_left(run)
    assert lines(steps)[-1] == "stopped terminated"


def test_a_second_sigterm_ends_at_once(opened: Opens, steps: Path) -> None:
    run = opened(*app(steps, ENDLESS, 1000))
    run.sees(b"READY")
    run.process.terminate()
    until(lambda: "stopping terminated" in lines(steps))
    run.process.terminate()
    assert run.end() == 143
    assert_left(run)


def test_a_second_sigterm_ends_an_app_that_hangs(opened: Opens, steps: Path) -> None:
    run = opened(*app(steps, ENDLESS))
    run.sees(b"READY")
    run.type("h")
    until(lambda: "hangs" in lines(steps))
    run.process.terminate()
    until(lambda: "terminated" in lines(steps))
    run.process.terminate()
    assert run.end() == 143
    assert_left(run)
    assert b"unexpectedly" not in run.said


@pytest.mark.parametrize("how", ["kill", "segv"])
def test_the_janitor_restores_after(how: str, opened: Opens, steps: Path, state: Path) -> None:
    run = opened(*app(steps, ENDLESS))
    run.sees(b"READY")
    if how == "kill":
        os.killpg(run.process.pid, signal.SIGINT)  # of all that a terminal sends to its group it hears nothing
        os.killpg(run.process.pid, signal.SIGKILL)
    else:
        run.type("s")
    assert run.end() == -(signal.SIGKILL if how == "kill" else signal.SIGSEGV)
    at = run.sees(b"wan-tui ended unexpectedly. The log is " + os.fsencode(state / "wan-tui.log"))
    run.sees(b"\n", at)
    assert_left(run)
    assert run.said.count(b"unexpectedly") == 1
    trace = state / "fault.log"
    assert (os.fsencode(trace) in run.said) == (how == "segv")
    assert ("Segmentation fault" in trace.read_text()) == (how == "segv")


def test_killed_before_the_screen_is_taken_nothing_is_written(opened: Opens, steps: Path) -> None:
    """The terminal shows a shell then."""
    waits = f"from wan_tui.terminal import run; run.run_app(lambda: open({str(steps)!r}, 'w') and input(), None)"
    run = opened(sys.executable, "-c", waits)
    until(steps.exists)
    janitor = janitor_of(run)
    run.process.kill()
    run.end()
    until(lambda: not janitor.is_running() or janitor.status() == psutil.STATUS_ZOMBIE)
    assert run.said == b""


def test_hang_up_leaves_the_screen_and_the_engine_finishes(opened: Opens, steps: Path) -> None:
    run = opened(*app(steps, 80))
    run.sees(b"READY")
    janitor = janitor_of(run)
    process = psutil.Process(run.process.pid)
    until(lambda: counted(steps) > 5)
    run.hang_up()
    until(lambda: not janitor.is_running())
    assert counted(steps) < 60
    before = sum(process.cpu_times()[:2])
    assert process.num_threads() <= 3  # main, engine, noise
    assert run.end() == 0
    assert counted(steps) == 80
    name, used = lines(steps)[-1].split()
    assert name == "done"
    assert float(used) - before < 0.2  # of a second of steps


def test_a_hang_up_without_a_signal_is_noticed(opened: Opens, steps: Path) -> None:
    """A terminal that does not control the session sends none; this app writes nothing that could fail, either."""
    run = opened(*app(steps, 0), controlling=False)
    run.sees(b"READY")
    run.rests()
    run.hang_up()
    assert run.end() == 0


def test_sighup_from_elsewhere_leaves_a_terminal_in_order(opened: Opens, steps: Path) -> None:
    run = opened(*app(steps, 40))
    run.sees(b"READY")
    run.process.send_signal(signal.SIGHUP)
    run.sees(b"What is running is being finished; Ctrl-C cancels it.")
    assert_left(run)
    assert run.end() == 0
    assert counted(steps) == 40


def test_sigterm_ends_what_a_hang_up_left_running(opened: Opens, steps: Path) -> None:
    run = opened(*app(steps, ENDLESS))
    run.sees(b"READY")
    janitor = janitor_of(run)
    run.hang_up()
    until(lambda: not janitor.is_running())
    run.process.terminate()
    assert run.end() == 143
    assert lines(steps)[-1] == "stopped terminated"


def stalled(opened: Opens, steps: Path, total: int) -> OnTerminal:
    """An app whose screen stands still because nobody takes what it writes."""
    run = opened(*app(steps, total), size=(200, 60))
    run.sees(b"READY")
    run.stall(still=True)
    process = psutil.Process(run.process.pid)

    def stands_still() -> bool:
        """Each change of size paints everything; where the loop waits, the writer waits, too."""
        before = sum(process.cpu_times()[:2])
        for width in (190, 200):
            run.resize(width, 60)
            further(steps, 3)
        return sum(process.cpu_times()[:2]) - before < 0.03

    until(stands_still, "the screen to stand still")
    return run


def test_a_stalled_reader_takes_no_step_from_the_engine(opened: Opens, steps: Path) -> None:
    run = stalled(opened, steps, ENDLESS)
    further(steps, 30)
    run.stall(still=False)
    run.type("k")
    run.sees(b"KEY k")
    run.type("q")
    assert run.end() == 0
    assert_left(run)


@pytest.mark.parametrize("how", ["terminated", "hung up"])
def test_a_stalled_app_can_be_ended(how: str, opened: Opens, steps: Path) -> None:
    run = stalled(opened, steps, ENDLESS if how == "terminated" else 100)
    if how == "hung up":
        run.hang_up()
        assert run.end() == 0
        assert counted(steps) == 100
        return
    run.process.terminate()
    assert run.end() == 143
    run.stall(still=False)  # the line has come back: now the janitor's words arrive
    assert_left(run)
    assert b"unexpectedly" not in run.said


def test_noise_never_reaches_the_screen(opened: Opens, steps: Path, state: Path) -> None:
    run = opened(*app(steps, ENDLESS))
    run.sees(b"READY")
    run.type("n")
    run.sees(b"DID n")
    run.type("q")
    run.end()
    assert b"NOISE" not in run.said
    noise = (state / "noise.log").read_text()
    for source in ("descriptor 1", "descriptor 2", "a child", "C", "the engine"):
        assert f"NOISE of {source}\n" in noise
    log = (state / "wan-tui.log").read_text()
    assert "NOISE of a warning" in log
    assert "ZeroDivisionError" in log


def test_a_file_of_noise_keeps_its_end(tmp_path: Path) -> None:
    file = os.open(tmp_path / "noise", os.O_RDWR | os.O_APPEND | os.O_CREAT)
    os.write(file, b"x" * MOST_NOISE + b"the end")
    trim(file)
    os.write(file, b" and more")
    kept = (tmp_path / "noise").read_bytes()
    assert kept.endswith(b"xthe end and more")
    assert len(kept) < MOST_NOISE // 2
    os.close(file)


def in_a_shell(opened: Opens, steps: Path) -> OnTerminal:
    """The app as one starts it, in a shell that prompts with `$ `."""
    shell = opened("bash", "--norc", "--noprofile", "-i", PS1="$ ")
    shell.sees(b"$ ")
    shell.type(shlex.join(map(str, app(steps, ENDLESS))) + "\n")
    shell.sees(b"READY")
    return shell


def test_ctrl_z_and_fg_under_a_shell(opened: Opens, steps: Path) -> None:
    shell = in_a_shell(opened, steps)
    shell.type("\x1a")
    at = shell.sees(b"$ ", shell.sees(b"Stopped"))
    assert all(words in shell.said for words in LEFT)
    made = counted(steps)
    shell.type("echo S=$?\n")
    at = shell.sees(b"S=147", at)
    assert counted(steps) == made
    shell.type("fg\n")
    at = shell.sees(b"FIXED", shell.sees(TAKEN[0], at))
    shell.type("k")
    at = shell.sees(b"KEY k", at)
    shell.type("q")
    at = shell.sees(b"$ ", shell.sees(LEFT[0], at))
    shell.type("echo S=$?\n")
    shell.sees(b"S=0", at)
    shell.type("exit\n")
    assert shell.end() == 0


def test_ctrl_z_in_an_editor_stops_both(opened: Opens, steps: Path) -> None:
    shell = in_a_shell(opened, steps)
    shell.type("e")
    at = shell.sees(b"OUTSIDE True True True")
    shell.type("\x1a")
    at = shell.sees(b"$ ", shell.sees(b"Stopped", at))
    shell.type("fg\n")
    shell.sees(b"tests.pty_app", at)
    shell.type("typed\n")
    at = shell.sees(b"EDITOR 3", at)
    shell.type("q")
    shell.sees(b"$ ", shell.sees(LEFT[0], at))


def test_without_a_shell_ctrl_z_stops_nothing(opened: Opens, steps: Path) -> None:
    run = opened(*app(steps, ENDLESS))
    run.sees(b"READY")
    run.type("\x1ak")
    run.sees(b"KEY k")


def test_a_stop_and_a_stray_continue_end_in_one_screen(opened: Opens, steps: Path) -> None:
    """Textual alone would read keys twice, and take its own settings for the terminal's."""
    run = opened(*app(steps, ENDLESS))
    at = run.sees(b"READY")
    threads = psutil.Process(run.process.pid).num_threads()
    run.process.send_signal(signal.SIGSTOP)
    until(lambda: psutil.Process(run.process.pid).status() == psutil.STATUS_STOPPED)
    for _ in range(2):
        run.process.send_signal(signal.SIGCONT)
        at = run.sees(b"FIXED", run.sees(TAKEN[0], at))
    assert psutil.Process(run.process.pid).num_threads() == threads
    for key in "abdf":
        run.type(key)
        at = run.sees(b"KEY " + key.encode(), at)
    run.type("q")
    assert run.end() == 0
    assert_left(run)


def test_a_storm_of_sizes(opened: Opens, steps: Path) -> None:
    run = opened(*app(steps, ENDLESS))
    run.sees(b"READY")
    for number in range(200):
        run.resize(20 + number, 5 + number % 50)
    run.resize(1, 1)
    run.resize(100, 30)
    run.sees(b"READY 100x30")
    run.type("q")
    assert run.end() == 0


def test_what_the_encoding_lacks_is_shown_as_wide(opened: Opens, steps: Path) -> None:
    run = opened(*app(steps, ENDLESS), LC_ALL="C")
    run.sees(b"READY")
    run.type("w")
    run.sees(b"WIDE ????!")
    run.type("q")
    assert run.end() == 0
    assert run.said.isascii()


def test_the_size_is_the_terminals_own(opened: Opens, steps: Path) -> None:
    run = opened(*app(steps, ENDLESS), COLUMNS="40", LINES="10")
    run.sees(b"READY 80x24")


def test_sigint_from_outside_is_ctrl_c(opened: Opens, steps: Path) -> None:
    run = opened(*app(steps, ENDLESS))
    run.sees(b"READY")
    run.process.send_signal(signal.SIGINT)
    run.sees(b"CTRL-C")
    run.type("k\xff\xfe")  # bytes that are no UTF-8
    run.type(b"\xe9")
    run.type("q")
    assert run.end() == 0
    assert_left(run)


def test_another_program_gets_the_terminal(opened: Opens, steps: Path) -> None:
    run = opened(*app(steps, ENDLESS))
    run.sees(b"READY")
    run.type("e")
    at = run.sees(b"OUTSIDE True True True")
    assert run.settings() == run.before
    os.killpg(run.process.pid, signal.SIGINT)  # what ctrl-c does there; it is for that program alone
    run.type("typed\r")
    run.sees(b"EDITOR 3", at)
    assert b"NOISE" not in run.said
    run.type("q")
    assert run.end() == 0
    assert_left(run)


def test_a_crash_is_one_line_and_a_file_without_secrets(
    opened: Opens, steps: Path, state: Path, own_home: Path
) -> None:
    token = "a-token-of-no-known-form"
    run = opened(*app(steps, 30), HF_TOKEN=token)
    run.sees(b"READY")
    run.type("x")
    assert run.end() == 1
    assert_left(run)
    (report,) = state.glob("crash-*.txt")
    after = re.sub(r"\x1b\[[?\d]*[a-z]", "", bytes(run.said[run.said.rfind(LEFT[0]) :]).decode())
    told = [line for line in after.splitlines() if "wan-tui" in line]
    assert told == [f"wan-tui crashed (RuntimeError). A report is in {report}; please file it as a bug."]
    assert "Traceback" not in after
    text = report.read_text()
    assert "RuntimeError: it broke near [token] in ~/file" in text
    assert "textual 8" in text and "python 3" in text
    for secret in (token, str(own_home), "local a-token"):
        assert secret not in text
    kept = "".join(file.read_text() for file in state.iterdir())
    assert token not in kept and "Traceback (most recent" in kept
    assert "╭" not in kept  # the box of a traceback with local variables
    assert "done" in lines(steps)[-1]  # what the engine had begun is not lost with the screen


def test_standard_output_may_lead_elsewhere(opened: Opens, steps: Path, tmp_path: Path) -> None:
    with (tmp_path / "out").open("w") as out, Path(os.devnull).open() as nothing:
        run = opened(*app(steps, ENDLESS), files={"stdout": out, "stdin": nothing})
    run.sees(b"READY 80x24")
    run.type("k")
    run.sees(b"KEY k")
    run.type("q")
    assert run.end() == 0
    assert_left(run)
    assert (tmp_path / "out").read_text() == ""


@pytest.mark.parametrize("case", ["dumb", "no terminal"])
def test_without_a_terminal_it_is_refused(case: str, opened: Opens, steps: Path, tmp_path: Path) -> None:
    if case == "dumb":
        run = opened(*app(steps, 1), TERM="dumb")
        assert run.end() == 2
        until(lambda: b"--help" in run.said)
        said = run.said.decode()
    else:
        with (tmp_path / "out").open("w") as out:
            assert opened(*app(steps, 1), files={"stdout": out, "stderr": out}).end() == 2
        said = (tmp_path / "out").read_text()
    assert said.startswith("error: The app needs a terminal.")
    assert "wan-tui --run job.toml" in said
    assert "\x1b" not in said
    assert not steps.exists()


_NONE = r"[0123479]|39|49"  # bold, reverse, … and the terminal's own colours: never black on black
_SIXTEEN = rf"{_NONE}|[349][0-7]|10[0-7]"


def colours(said: bytes) -> set[str]:
    """The parameters of every SGR sequence."""
    return {found.decode() for found in re.findall(rb"\x1b\[([\d;]*)m", said)}


@pytest.mark.parametrize(
    ("env", "allowed"),
    [
        ({"NO_COLOR": "1"}, _NONE),
        ({"TERM": "vt220"}, _NONE),
        ({"TERM": "linux", "COLORTERM": ""}, _SIXTEEN),
        ({"COLORTERM": ""}, rf"{_SIXTEEN}|[34]8;5;\d+"),
        ({"NO_COLOR": ""}, rf"{_NONE}|[34]8;2;\d+;\d+;\d+"),
        ({"LC_ALL": "C"}, rf"{_NONE}|[34]8;2;\d+;\d+;\d+"),
    ],
)
def test_colours_are_those_of_the_terminal(env: dict[str, str], allowed: str, opened: Opens, steps: Path) -> None:
    run = opened(*app(steps, ENDLESS), **env)
    run.sees(b"READY")
    run.type("q")
    assert run.end() == 0
    seen = colours(run.said)
    assert [one for one in seen if not re.fullmatch(rf"(?:(?:{allowed})(?:;|$))*", one)] == []
    shades = {tuple(found) for one in seen for found in re.findall(r"8;2;(\d+);(\d+);(\d+)", one)}
    assert any(len(set(shade)) > 1 for shade in shades) == ("2;" in allowed)  # colours, not only shades of grey


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"TERM": "xterm-256color"}, Means(True, "256", None)),
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, Means(True, "truecolor", None)),
        ({"TERM": "xterm-kitty", "SSH_CONNECTION": "a"}, Means(True, "truecolor", None)),
        ({"TERM": "vte-256color"}, Means(True, "256", None)),
        ({"TERM": "xterm"}, Means(True, "16", None)),
        ({}, Means(True, "16", None)),
        ({"TERM": "linux"}, Means(False, "16", None)),
        ({"TERM": "vt100", "COLORTERM": "truecolor"}, Means(False, "none", None)),
        ({"TERM": "xterm-256color", "NO_COLOR": "1", "COLORTERM": "24bit"}, Means(True, "none", None)),
        ({"TERM": "xterm-256color", "NO_COLOR": ""}, Means(True, "256", None)),
        ({"TERM": "screen-256color", "TMUX": "a", "COLORTERM": "24bit"}, Means(True, "truecolor", "tmux")),
        ({"TERM": "tmux-256color", "SSH_TTY": "a"}, Means(True, "256", "tmux")),
        ({"TERM": "screen.xterm-256color", "STY": "a", "COLORTERM": "24bit"}, Means(True, "256", "screen")),
    ],
)
def test_what_the_terminal_can(environ: dict[str, str], expected: Means) -> None:
    assert means(environ, "utf-8") == expected
    assert not means(environ, "ascii").utf8


@pytest.mark.parametrize(
    ("env", "encoding"),
    [
        ({"LANG": "C"}, "ascii"),
        ({"LANG": "en_GB.UTF-8", "LC_ALL": "POSIX"}, "ascii"),
        ({"LANG": ""}, "utf-8"),
        ({"LANG": "C", "LC_CTYPE": "C.UTF-8"}, "utf-8"),
        ({"LANG": "de_DE.ISO8859-1@euro"}, "iso8859-1"),
    ],
)
def test_the_encoding_is_what_the_user_set(env: dict[str, str], encoding: str, opened: Opens) -> None:
    code = "from wan_tui.terminal.means import locale_encoding; print(locale_encoding())"
    run = opened(sys.executable, "-c", code, **env)
    run.end()
    until(lambda: b"\n" in run.said)
    assert run.said.decode().strip() == encoding


def test_the_environment_for_textual() -> None:
    environ = {"NO_COLOR": "", "TEXTUAL_FPS": "30"}
    prepare_environment(Means(True, "truecolor", None), True, environ)
    assert "NO_COLOR" not in environ
    assert (environ["TEXTUAL_COLOR_SYSTEM"], environ["TEXTUAL_FPS"]) == ("256", "30")
    assert (environ["TEXTUAL_ANIMATIONS"], "TEXTUAL_THEME" in environ) == ("none", False)


@pytest.mark.parametrize("env", [{}, {"TMUX": "a"}, {"STY": "a"}])
def test_what_is_copied_arrives_whole(env: dict[str, str]) -> None:
    text = "a path/ü\ud800" * 200
    sequence = osc52(text, env)
    assert sequence
    if env:
        pieces = re.findall(r"\x1bP(?:tmux;)?(.*?)(?<!\x1b)\x1b\\", sequence, re.DOTALL)
        assert "".join(f"\x1bP{'tmux;' * ('TMUX' in env)}{piece}\x1b\\" for piece in pieces) == sequence
        assert all(len(piece) < 700 for piece in pieces) or "TMUX" in env
        sequence = "".join(pieces).replace("\x1b\x1b", "\x1b")
    found = re.fullmatch(r"\x1b\]52;c;([A-Za-z0-9+/=]*)\x07", sequence)
    assert found
    assert base64.b64decode(found[1]).decode() == text.replace("\ud800", "?")


def test_what_is_too_long_is_not_copied() -> None:
    most = MOST_BYTES // 4 * 3
    assert osc52("x" * most, {}) and osc52("x" * (most + 3), {}) is None


def test_the_private_names_of_textual_are_what_they_were() -> None:
    """Those that `driver.py` lists. An upgrade that changes one must be looked at there."""
    from textual._xterm_parser import XTermParser
    from textual.app import App
    from textual.driver import Driver
    from textual.drivers.linux_driver import LinuxDriver
    from textual.timer import Timer

    driver = inspect.getsource(LinuxDriver)
    for used in (
        "self._file = sys.__stderr__",
        "self.fileno = sys.__stdin__.fileno()",
        "self._writer_thread = WriterThread(self._file)",
        "Thread(target=self._run_input_thread",
        "signal.signal(signal.SIGTSTP, self._sigtstp_application)",
        "signal.signal(signal.SIGCONT, self._sigcont_application)",
        "if self._must_signal_resume:",
        "terminal_size = self._get_terminal_size()",
        "signal.signal(signal.SIGWINCH, on_terminal_resize)",
        "if not self._in_band_window_resize:",
        "while not self.exit_event.is_set():",
        "self._key_thread.join()",
    ):
        assert used in driver, used
    base = inspect.getsource(Driver)
    for used in ("self._loop = asyncio.get_running_loop()", "self._auto_restart = True", "self._app = app"):
        assert used in base, used
    source = inspect.getsource(App)
    for used in (
        "def _handle_exception(self, error: Exception) -> None:",
        "self._exception_event.set()",
        "self._return_code = 1",
        "self._close_messages_no_wait()",
        "self._clipboard = text",
        "driver = self._driver = self._build_driver(",
        "driver_class or self.get_driver_class()",
    ):
        assert used in source, used
    assert "if self._skip and next_timer < now:" in inspect.getsource(Timer)
    parser = XTermParser(False)
    assert [getattr(message, "key", None) for message in parser.feed("k")] == ["k"]
    assert list(parser.tick()) == []


def test_the_terminal_is_prepared_before_textual_is_imported() -> None:
    import subprocess

    code = "import sys, wan_tui.terminal.run; print([m for m in ('textual', 'rich', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.soak
@pytest.mark.parametrize("number", range(20))
@pytest.mark.parametrize("how", ["hang up", "kill", "terminate"])
def test_repeats(how: str, number: int, opened: Opens, steps: Path) -> None:
    run = opened(*app(steps, 100))
    run.sees(b"READY")
    until(lambda: counted(steps) > number)
    if how == "hang up":
        run.hang_up()
        assert run.end() == 0
        assert counted(steps) == 100
        return
    run.process.kill() if how == "kill" else run.process.terminate()
    assert run.end() == (-signal.SIGKILL if how == "kill" else 143)
    assert_left(run)


@pytest.mark.soak
def test_a_reader_stalled_for_six_seconds(opened: Opens, steps: Path) -> None:
    run = stalled(opened, steps, ENDLESS)
    further(steps, round(6 / TICK_S))
    run.stall(still=False)
    run.type("q")
    assert run.end() == 0
