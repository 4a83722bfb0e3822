"""What the app costs on a terminal: first paint, keys, bytes, memory. `python -m benchmarks.screen [part …]`

Everything is measured from outside, on a pseudo-terminal whose other end reads what comes. Peers (posting, harlequin)
are timed beside it when the folder `.venv-peers` holds them: `make peers`.
"""

from __future__ import annotations

import fcntl
import os
import pty
import random
import select
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

ROOT = Path(__file__).parent.parent
PEERS = ROOT / ".venv-peers"  # programs in environments of their own, and what shows that they are there
APP = [sys.executable, "-m", "wan_tui"]
_HELLO = """
from textual.app import App
from textual.widgets import Static
class Hello(App):
    def compose(self):
        yield Static("F7 Gallery")
Hello().run()
"""
HELLO = [sys.executable, "-c", _HELLO]
READY = b"Gallery"
ROUNDS = 15
VISITS = 7
KEY_ROUNDS = 8
IDLE_S = 5.0  # of keys in each of them
PLACES = {"library": b"\x1bOQ", "diagnostics": b"\x1bOR", "composer": b"\x1bOS", "monitor": b"\x1b[15~"}
PLACES |= {"queue": b"\x1b[17~", "gallery": b"\x1b[18~"}
DEMO = b"\x1b[20~"


class Terminal:
    """A program on a terminal of `size` columns and rows; `home` is its user's folder."""

    def __init__(self, command: Sequence[str], home: Path, size: tuple[int, int] = (120, 40), **env: str) -> None:
        self.since = time.perf_counter()
        self.pid, self.fd = pty.fork()
        if not self.pid:
            dropped = ("XDG_", "TMUX", "PYTHONDONTWRITEBYTECODE")  # a program that is installed has its bytecode
            clean = {key: value for key, value in os.environ.items() if not key.startswith(dropped)}
            given = {"TERM": "xterm-256color", "COLORTERM": "truecolor", "LANG": "C.UTF-8", "PYTHONPATH": str(ROOT)}
            os.chdir(home)
            os.execvpe(command[0], command, clean | given | {"HOME": str(home)} | env)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
        self.seen = b""

    def read(self, seconds: float) -> bytes:
        """What comes within so many seconds, at once when something does."""
        if not select.select([self.fd], [], [], max(0.0, seconds))[0]:
            return b""
        try:
            data = os.read(self.fd, 1 << 16)
        except OSError:
            return b""
        self.seen = (self.seen + data)[-(1 << 20) :]
        return data

    def until(self, sign: bytes, seconds: float = 30.0) -> float:
        """Seconds since the start until `sign` has come."""
        end = time.perf_counter() + seconds
        while sign not in self.seen:
            if time.perf_counter() > end:
                raise TimeoutError(f"{sign!r} did not come")
            self.read(0.05)
        return time.perf_counter() - self.since

    def quiet(self, seconds: float = 0.5, most: float = 20.0) -> None:
        """Read until nothing has come for so long."""
        end = time.perf_counter() + most
        last = time.perf_counter()
        while time.perf_counter() - last < seconds and time.perf_counter() < end:
            if self.read(0.05):
                last = time.perf_counter()

    def press(self, key: bytes) -> None:
        os.write(self.fd, key)

    def count(self, seconds: float) -> int:
        """Bytes that come in so many seconds."""
        end, total = time.perf_counter() + seconds, 0
        while (left := end - time.perf_counter()) > 0:
            total += len(self.read(left))
        return total

    def answer(self, key: bytes, most: float = 3.0) -> float:
        """Seconds from a key to the first byte painted for it."""
        while self.read(0):
            pass
        since = time.perf_counter()
        self.press(key)
        self.read(most)
        return time.perf_counter() - since

    def painted(self, key: bytes, still: float = 0.25) -> float:
        """Seconds from a key to the last byte painted for it, after which nothing comes for a while."""
        since = time.perf_counter()
        self.press(key)
        self.read(3.0)
        last = time.perf_counter()
        while time.perf_counter() - last < still:
            if self.read(0.05):
                last = time.perf_counter()
        return last - since

    def memory(self) -> tuple[float, float]:
        """(resident, unshared) MiB."""
        full = psutil.Process(self.pid).memory_full_info()
        return full.rss / 2**20, full.uss / 2**20

    def close(self) -> None:
        for child in psutil.Process(self.pid).children(recursive=True):
            child.kill()
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.fd)


@contextmanager
def on_terminal(command: Sequence[str], home: Path, **more: object) -> Iterator[Terminal]:
    terminal = Terminal(command, home, **more)  # type: ignore[arg-type]
    try:
        yield terminal
    finally:
        terminal.close()


@contextmanager
def a_home() -> Iterator[Path]:
    """A user's folder, in which the app has been started before: it greets no more."""
    with tempfile.TemporaryDirectory(prefix="wan-tui-bench-") as folder:
        home = Path(folder)
        with on_terminal(APP, home) as app:
            app.until(READY)
            app.quiet()
            app.press(b"\x1b")
            app.quiet(0.3)
        yield home


def first_paint() -> None:
    """From the shell to the first screen, beside the smallest Textual app and two peers."""
    programs: dict[str, tuple[Sequence[str], bytes]] = {"textual hello": (HELLO, READY), "wan-tui": (APP, READY)}
    for peer, sign in (("posting", b"Send"), ("harlequin", b"Catalog")):
        if (program := PEERS / peer / "bin" / peer).exists():
            programs[peer] = ([str(program)], sign)
    taken: dict[str, list[float]] = {name: [] for name in programs}
    with a_home() as home:
        for turn in range(ROUNDS + 1):
            for name, (command, sign) in programs.items():
                with on_terminal(command, home) as terminal:
                    seconds = terminal.until(sign)
                if turn:
                    taken[name].append(seconds)
    base = statistics.median(taken["textual hello"])
    for name, times in taken.items():
        median = statistics.median(times)
        print(f"first paint  {name:<14} {median * 1e3:6.0f} ms  {median / base:5.2f}x hello")


def memory() -> None:
    """Before any engine use: at the first screen, and when every place was looked at."""
    with a_home() as home:
        for name, command in (("textual hello", HELLO), ("wan-tui", APP)):
            with on_terminal(command, home) as program:
                program.until(READY)
                program.quiet()
                _tell_memory(name, program)
                if command is APP:
                    for key in PLACES.values():
                        program.press(key)
                        program.quiet()
                    print(
                        "memory       {:<14} {:5.1f} MiB resident, {:5.1f} its own".format(
                            "six places", *program.memory()
                        )
                    )


def _tell_memory(name: str, program: Terminal) -> None:
    resident, own = program.memory()
    print(f"memory       {name:<14} {resident:5.1f} MiB resident, {own:5.1f} its own")


def at_rest() -> None:
    """Bytes a second that each place sends while nothing is done, and during a job."""
    seconds = 10.0
    with a_home() as home, on_terminal(APP, home) as app:
        app.until(READY)
        for name, key in PLACES.items():
            app.press(key)
            app.quiet(1.5)
            print(f"at rest      {name:<14} {app.count(seconds) / seconds / 1024:6.2f} KiB/s at 120x40")
        app.press(DEMO)
        for name in ("monitor", "queue", "library"):
            app.press(PLACES[name])
            app.count(1.0)
            print(f"with a job   {name:<14} {app.count(4.0) / 4.0 / 1024:6.2f} KiB/s at 120x40")


def visits() -> None:
    """From the key of a place until it is painted: the first time it is gone to, and the second."""
    taken: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in PLACES if name != "library"}
    for _ in range(VISITS):
        with a_home() as home, on_terminal(APP, home) as app:
            app.until(READY)
            app.quiet(1.0)
            for turn in (0, 1):
                for name, times in taken.items():
                    times[turn].append(app.painted(PLACES[name]))
                app.painted(PLACES["library"])
    for name, (first, second) in taken.items():
        one, other = statistics.median(first), statistics.median(second)
        print(f"visits       {name:<14} first {one * 1e3:4.0f} ms, then {other * 1e3:4.0f} ms  {one / other:4.1f}x")


def keys() -> None:
    """From a key to its paint in a place that is painted: idle, and from a first job's start to its end, while the
    engine imports, loads, denoises and decodes. A process for each round: libraries load once in each."""
    idle: list[float] = []
    busy: list[tuple[float, float]] = []
    gone_to: list[float] = []
    stolen = psutil.cpu_times().steal
    for turn in range(KEY_ROUNDS):
        with a_home() as home, on_terminal(APP, home) as app:
            app.until(READY)
            app.press(PLACES["library"])
            app.quiet(1.0)
            end = time.perf_counter() + IDLE_S
            idle += [taken for _, taken in _answers(app, turn, lambda: time.perf_counter() > end)]  # noqa: B023
            gone_to += [app.painted(DEMO), app.painted(PLACES["library"])]
            busy += _answers(app, turn, lambda: any(home.rglob("*.mp4")))
    _tell_keys("idle", idle, idle)
    _tell_keys("during a job", [taken for _, taken in busy], idle)
    slowest = sorted(busy, key=lambda one: -one[1])[:5]
    print(
        f"to the monitor and back at its start: {statistics.median(gone_to[::2]) * 1e3:.0f} and "
        f"{statistics.median(gone_to[1::2]) * 1e3:.0f} ms until the last byte"
    )
    print(f"the host took {psutil.cpu_times().steal - stolen:.1f} s of the processors' time meanwhile")
    print("slowest:", ", ".join(f"{taken * 1e3:.0f} ms at {at:.1f} s" for at, taken in slowest))


def _answers(app: Terminal, seed: int, over: Callable[[], bool]) -> list[tuple[float, float]]:
    """Keys pressed until it is `over`: when, and how long until something was painted, in seconds."""
    taken, rng, since = [], random.Random(seed), time.perf_counter()
    while not over():
        at = time.perf_counter() - since
        taken.append((at, app.answer(b"j" if len(taken) % 20 < 10 else b"k")))
        time.sleep(rng.uniform(0.04, 0.1))
    return taken


def _tell_keys(name: str, taken: Sequence[float], idle: Sequence[float]) -> None:
    def at(times: Sequence[float], share: float) -> float:
        return sorted(times)[min(len(times) - 1, int(len(times) * share))] * 1e3

    p50, p99, most = at(taken, 0.5), at(taken, 0.99), max(taken) * 1e3
    print(
        f"key to paint {name:<14} {len(taken)} keys  p50 {p50:5.1f}  p99 {p99:5.1f}  most {most:5.1f} ms  "
        f"{p99 / at(idle, 0.99):4.1f}x idle"
    )


def scrolling() -> None:
    """1,000 models and 5,000 finished videos: the longest a key waits."""
    with a_home() as home:
        manifest = home / "models.toml"
        entry = '[models."m{0}@1"]\ntitle = "Model {0}"\nfamily = "t2v"\nrepo = "owner/m{0}"\nrevision = "main"\n'
        manifest.write_text("".join(entry.format(number) for number in range(1000)))
        subprocess.run([sys.executable, "-m", "benchmarks.many_clips", "5000"], cwd=ROOT, env=_user(home), check=True)
        with on_terminal(APP, home, WAN_MODELS_MANIFEST=str(manifest)) as app:
            app.until(READY)
            for name in ("library", "gallery"):
                app.press(PLACES[name])
                app.quiet(1.5)
                for _ in range(5):  # away from the top, where no key answers
                    app.press(b"\x04")
                    app.quiet(0.2)
                taken = sorted(_scrolled(app, turn) for turn in range(200))
                _tell_keys(f"{name}, many", taken, taken)


def _scrolled(app: Terminal, turn: int) -> float:
    """Seconds until a key is answered: row by row with a page between, 50 turns down and 50 up, as no end answers."""
    app.quiet(0.06, most=1.0)  # what is still painted for the key before is no answer to this one
    row, page = (b"j", b"\x04") if turn // 50 % 2 == 0 else (b"k", b"\x15")
    return app.answer(page if turn % 5 == 0 else row)


def _user(home: Path) -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("XDG_")} | {"HOME": str(home)}


PARTS: dict[str, Callable[[], None]] = {
    "first": first_paint,
    "memory": memory,
    "rest": at_rest,
    "visits": visits,
    "keys": keys,
    "scroll": scrolling,
}


def main() -> None:
    for part in sys.argv[1:] or PARTS:
        PARTS[part]()


if __name__ == "__main__":
    main()
