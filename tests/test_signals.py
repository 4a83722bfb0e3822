"""What may happen to a run from outside: signals, lost terminals, readers that go away, kill -9."""

from __future__ import annotations

import fcntl
import os
import pty
import random
import signal
import subprocess
import termios
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from engine.runtime.journal import Journal, State
from tests.runs import PROGRAM, Running, environment, events, job_file, wan_tui

TinyModel = Callable[[str], Path]
F_SETPIPE_SZ = 1031


@pytest.fixture
def slow_job(tiny_model: TinyModel, tmp_path: Path) -> Path:
    """A run of half a minute or so on two cores."""
    size = {"width": 192, "height": 192, "frames": 33, "steps": 40}
    return job_file(tmp_path, tiny_model("slow"), "slow.toml", **size, output={"path": "out/clip.mp4"})


@pytest.fixture
def short_job(tiny_model: TinyModel, tmp_path: Path) -> Path:
    return job_file(tmp_path, tiny_model("slow"), "short.toml", steps=20, output={"path": "out/clip.mp4"})


def files(folder: Path) -> list[str]:
    """Everything in the output folder, hidden parts too."""
    return sorted(p.name for p in folder.glob("out/**/*"))


@pytest.mark.parametrize(
    ("number", "status", "reason"), [(signal.SIGINT, 130, "user"), (signal.SIGTERM, 143, "terminated")]
)
@pytest.mark.sampled(2)
def test_a_signal_cancels_cleanly(number: int, status: int, reason: str, slow_job: Path) -> None:
    run = Running("--run", slow_job)
    run.until("progress", stage="denoise", done=2)
    run.process.send_signal(number)
    assert run.end() == status
    assert (run.told[-1]["event"], run.told[-1]["reason"]) == ("job-cancelled", reason)
    assert run.errors == ""
    assert files(slow_job.parent) == []
    (row,) = Journal().rows()
    assert (row.state, row.cancel_requested) == (State.CANCELLED, reason)


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.soak)])
def test_cancel_at_a_random_moment(seed: int, tiny_model: TinyModel, tmp_path: Path) -> None:
    size = {"width": 128, "height": 128, "frames": 17, "steps": 40}
    job = job_file(tmp_path, tiny_model("slow"), **size, output={"path": "out/clip.mp4"})
    cancel_at_a_random_moment(job, random.Random(seed))


@pytest.mark.soak
def test_cancel_at_ten_random_moments(slow_job: Path) -> None:
    print("\nstage, and seconds from SIGINT to job-cancelled and to the end of the process:")
    for seed in range(10):
        print("  {:<22} {:.2f} {:.2f}".format(*cancel_at_a_random_moment(slow_job, random.Random(100 + seed))))


def cancel_at_a_random_moment(job: Path, chance: random.Random) -> tuple[str, float, float]:
    """Interrupt a run after one of its first 60 events, from the queue into the decode; what it did about it."""
    run = Running("--run", job)
    for _ in range(chance.randrange(1, 60)):
        run.next()
    time.sleep(chance.uniform(0, 0.3))
    asked = time.time()
    run.process.send_signal(signal.SIGINT)
    assert run.end() == 130, run.told[-1]
    ended = time.time()
    assert run.told[-1]["event"] == "job-cancelled"
    assert run.errors == ""
    assert files(job.parent) == []
    at = datetime.fromisoformat(run.told[-1]["time"]).timestamp()
    return _stage(run.told), at - asked, ended - asked


def _stage(told: list[dict[str, Any]]) -> str:
    """The innermost stage that was begun and not ended."""
    begun: list[str] = ["libraries"]
    for event in told:
        if event["event"] == "stage":
            name = f"{event['name']} {event['component'] or ''}".strip()
            if event["state"] == "started":
                begun.append(name)
            else:
                begun.remove(name)
    return begun[-1]


def test_a_second_interrupt_ends_at_once(slow_job: Path) -> None:
    run = Running("--run", slow_job)
    run.until("progress", stage="denoise")
    run.process.send_signal(signal.SIGSTOP)  # both arrive before it can act on the first
    for number in (signal.SIGINT, signal.SIGTERM):
        run.process.send_signal(number)
    run.process.send_signal(signal.SIGCONT)
    assert run.end() in (130, 143)
    assert not (slow_job.parent / "out" / "clip.mp4").exists()


def test_queued_jobs_are_cancelled_with_the_running_one(slow_job: Path) -> None:
    run = Running("--run", slow_job, slow_job)
    run.until("progress", stage="denoise")
    run.process.send_signal(signal.SIGINT)
    assert run.end() == 130
    assert [e["event"] for e in run.told[-2:]] == ["job-cancelled", "job-cancelled"]


def test_a_second_run_waits_for_the_device_and_says_for_whom(slow_job: Path, short_job: Path) -> None:
    first = Running("--run", slow_job)
    first.until("progress", stage="denoise")
    second = Running("--run", short_job)
    warning = second.until("warning", code="waiting-for-device")
    assert str(first.process.pid) in warning["message"]
    assert first.told[0]["job"] in warning["message"]
    first.process.send_signal(signal.SIGINT)
    assert (first.end(), second.end()) == (130, 0)


def test_another_process_cancels(slow_job: Path) -> None:
    run = Running("--run", slow_job)
    run.until("progress", stage="denoise")
    assert "asked to stop" in wan_tui("jobs", "cancel", "last").stdout
    assert run.end() == 130
    assert run.told[-1]["event"] == "job-cancelled"


def test_kill_9_leaves_an_interrupted_job_and_no_scrap(slow_job: Path, short_job: Path) -> None:
    run = Running("--run", slow_job, "--set", "steps=1")
    run.until("progress", stage="decode")
    run.process.kill()
    run.end()
    assert not (slow_job.parent / "out" / "clip.mp4").exists()
    listed = wan_tui("jobs", "list")
    assert "interrupted" in listed.stdout
    done = wan_tui("--run", short_job)  # the next start tells, and clears away
    assert "was interrupted" in done.stderr
    assert files(slow_job.parent) == ["clip.job.toml", "clip.mp4"]


@pytest.mark.soak
def test_closing_the_terminal_changes_nothing(short_job: Path) -> None:
    child, terminal = pty.fork()
    if child == 0:
        os.execve(PROGRAM[0], [*PROGRAM, "--run", str(short_job)], environment())
    _read_until(terminal, b"denoise")
    os.close(terminal)  # the kernel sends SIGHUP
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert files(short_job.parent) == ["clip.job.toml", "clip.mp4"]
    assert Journal().rows()[0].state == State.FINISHED


@pytest.mark.parametrize("interrupt", [pytest.param(False, marks=pytest.mark.soak), True])
def test_the_terminal_is_left_as_it_was(interrupt: bool, short_job: Path, slow_job: Path) -> None:
    main, side = pty.openpty()
    before = termios.tcgetattr(side)
    job = slow_job if interrupt else short_job
    process = subprocess.Popen(
        [*PROGRAM, "--run", str(job)], stdin=side, stdout=side, stderr=side, env=environment(), start_new_session=True
    )
    shown = _read_until(main, b"s/step")
    if interrupt:
        process.send_signal(signal.SIGINT)
    os.set_blocking(main, False)
    while process.poll() is None:
        time.sleep(0.05)
        shown += _read_some(main)
    shown += _read_some(main)
    assert termios.tcgetattr(side) == before
    assert b"\x1b[?" not in shown  # no mode was ever set: nothing to restore
    assert shown.endswith(b"\n")
    assert process.returncode == (130 if interrupt else 0)
    os.close(main)
    os.close(side)


@pytest.mark.soak
def test_a_reader_that_goes_away_changes_nothing(short_job: Path) -> None:
    command = f"{' '.join(PROGRAM)} --run {short_job} --json | head -n 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=environment(), timeout=120)
    assert len(events(done.stdout)) == 1
    assert done.stderr == ""
    assert files(short_job.parent) == ["clip.job.toml", "clip.mp4"]


@pytest.mark.soak
def test_a_full_stdout_changes_nothing(short_job: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*PROGRAM, "--run", str(short_job), "--json"], stdout=full, stderr=subprocess.PIPE, env=environment()
        )
    assert (done.returncode, done.stderr) == (0, b"")
    assert files(short_job.parent) == ["clip.job.toml", "clip.mp4"]


@pytest.mark.soak
def test_closed_descriptors_change_nothing(short_job: Path) -> None:
    command = f"{' '.join(PROGRAM)} --run {short_job} --json <&- >&- 2>&-"
    assert subprocess.run(["bash", "-c", command], env=environment(), timeout=120).returncode == 0
    assert files(short_job.parent) == ["clip.job.toml", "clip.mp4"]
    assert Journal().rows()[0].state == State.FINISHED


def test_no_file_of_ours_takes_the_number_of_a_closed_descriptor(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    places = "' '.join(os.readlink(f'/proc/self/fd/{n}') for n in (0, 1, 2))"
    code = "import os, pathlib, wan_tui.cli; wan_tui.cli.main(['models', 'list']); "
    code += f"pathlib.Path('{seen}').write_text({places})"
    command = f'{PROGRAM[0]} -c "{code}" <&- >&- 2>&-'
    assert subprocess.run(["bash", "-c", command], env=environment()).returncode == 0
    assert seen.read_text().split() == ["/dev/null"] * 3


@pytest.mark.soak
def test_a_stalled_stdout_changes_nothing(short_job: Path) -> None:
    reading, writing = os.pipe()
    fcntl.fcntl(writing, F_SETPIPE_SZ, 4096)
    process = subprocess.Popen([*PROGRAM, "--run", str(short_job), "--json"], stdout=writing, env=environment())
    os.close(writing)
    assert process.wait(timeout=120) == 0  # nobody ever read
    os.close(reading)
    assert files(short_job.parent) == ["clip.job.toml", "clip.mp4"]
    assert Journal().rows()[0].state == State.FINISHED


def _read_until(terminal: int, words: bytes) -> bytes:
    shown = b""
    while words not in shown:
        shown += os.read(terminal, 4096)
    return shown


def _read_some(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except BlockingIOError:
        return b""
