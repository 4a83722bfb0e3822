"""The device lock between real processes, threads, users and crashes."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engine.control import Control
from engine.errors import Cancelled, RunError
from engine.runtime import locks
from engine.runtime.locks import device_lock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[1]
KEY = "GPU-7d3f"
NOBODY = 65534

# Waits for a word on its input before it lets the device go.
HOLDER = """
import os, subprocess, sys, time
from pathlib import Path
from engine.control import Control
from engine.runtime.locks import device_lock
def say(*words): print(*words, flush=True)
key, folder, user, umask = sys.argv[1:]
os.umask(int(umask, 8))
if os.geteuid() == 0: os.setuid(int(user))
with device_lock(key, lambda sentence: say(sentence), Control(), job="20261120-234512-7f3a", folder=Path(folder)):
    %s
    say("held")
    sys.stdin.readline()
say("freed")
"""

Child = subprocess.Popen[str]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A lock folder not yet made, in a place open to every user, as /tmp is."""
    base = Path(tempfile.mkdtemp())
    base.chmod(0o1777)
    yield base / "locks"
    shutil.rmtree(base)


@pytest.fixture
def holder(folder: Path) -> Iterator[Callable[..., Child]]:
    """Starts a process that takes the device, once it runs the given lines holds it, and says so."""
    started: list[Child] = []

    def start(lines: str = "pass", *, user: int = os.geteuid(), umask: str = "022") -> Child:
        command = [sys.executable, "-c", HOLDER % lines, KEY, str(folder), str(user), umask]
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def heard(process: Child) -> str:
    assert process.stdout
    return process.stdout.readline().rstrip("\n")


def let_go(process: Child) -> None:
    assert process.stdin
    process.stdin.write("\n")
    process.stdin.flush()


class Waiter(threading.Thread):
    """Takes the device in a thread of this process, and keeps it until told."""

    def __init__(self, folder: Path, key: str = KEY) -> None:
        super().__init__(daemon=True)
        self.folder, self.key = folder, key
        self.control = Control()
        self.told: list[str] = []
        self.waits, self.has, self.done = threading.Event(), threading.Event(), threading.Event()
        self.reason: str | None = None

    def run(self) -> None:
        def on_wait(sentence: str) -> None:
            self.told.append(sentence)
            self.waits.set()

        try:
            with device_lock(self.key, on_wait, self.control, folder=self.folder):
                self.has.set()
                self.done.wait(20)
        except Cancelled as cancelled:
            self.reason = cancelled.reason


def waiting(folder: Path) -> Waiter:
    """One who waits for the device that another has."""
    waiter = Waiter(folder)
    waiter.start()
    assert waiter.waits.wait(5)
    return waiter


def is_free(folder: Path, key: str = KEY) -> bool:
    """Whether the device can be had at once."""
    control = Control()
    try:
        with device_lock(key, lambda _: control.cancel(), control, folder=folder):
            return True
    except Cancelled:
        return False


def test_a_second_process_waits_and_says_for_whom(folder: Path, holder: Callable[..., Child]) -> None:
    first = holder()
    assert heard(first) == "held"
    second = holder()
    sentence = heard(second)
    assert KEY in sentence
    assert f"process {first.pid} of " in sentence
    assert "20261120-234512-7f3a" in sentence
    assert not is_free(folder)
    time.sleep(0.5)  # some polls: it is told once
    let_go(first)
    assert heard(first) == "freed"
    assert heard(second) == "held"
    let_go(second)
    assert heard(second) == "freed"
    assert is_free(folder)
    [file] = folder.iterdir()
    assert file.read_text() == "", "nobody is named who no longer holds it"


def test_threads_of_one_process_exclude_each_other(folder: Path) -> None:
    first, second = Waiter(folder), Waiter(folder)
    first.start()
    assert first.has.wait(5)
    second.start()
    assert second.waits.wait(5)
    assert not second.has.wait(0.5)
    assert len(second.told) == 1
    first.done.set()
    assert second.has.wait(5)
    assert first.told == []
    second.done.set()
    second.join(5)


def test_devices_do_not_hold_up_each_other(folder: Path, holder: Callable[..., Child]) -> None:
    assert heard(holder()) == "held"
    assert is_free(folder, "GPU-other")
    assert not is_free(folder)


def test_kill_frees_the_device(folder: Path, holder: Callable[..., Child]) -> None:
    process = holder()
    assert heard(process) == "held"
    waiter = waiting(folder)
    process.send_signal(signal.SIGKILL)
    assert waiter.has.wait(2)
    waiter.done.set()
    waiter.join(5)


def test_a_cancel_ends_the_wait(folder: Path, holder: Callable[..., Child]) -> None:
    process = holder()
    assert heard(process) == "held"
    waiter = waiting(folder)
    waiter.control.cancel("terminated")
    waiter.join(1)
    assert waiter.reason == "terminated"
    assert not waiter.has.is_set()
    let_go(process)
    assert heard(process) == "freed"
    assert is_free(folder), "who gave up waiting holds nothing"


def test_a_job_cancelled_before_takes_nothing(folder: Path) -> None:
    waiter = Waiter(folder)
    waiter.control.cancel()
    waiter.start()
    waiter.join(5)
    assert waiter.reason == "user"
    assert not waiter.has.is_set()


def test_a_failure_inside_frees_the_device(folder: Path) -> None:
    with pytest.raises(ZeroDivisionError), device_lock(KEY, print, Control(), folder=folder):
        _ = 1 / 0
    assert is_free(folder)


def test_a_program_started_meanwhile_does_not_inherit_the_lock(folder: Path, holder: Callable[..., Child]) -> None:
    process = holder("say(subprocess.Popen(['sleep', '60'], close_fds=False, stdout=subprocess.DEVNULL).pid)")
    sleeper = int(heard(process))
    assert heard(process) == "held"
    process.send_signal(signal.SIGKILL)
    process.wait()
    try:
        assert Path(f"/proc/{sleeper}").exists()
        assert is_free(folder)
    finally:
        os.kill(sleeper, signal.SIGKILL)


def test_a_forked_child_does_not_keep_what_its_parent_let_go(folder: Path, holder: Callable[..., Child]) -> None:
    process = holder("child = os.fork()\n    if child == 0: time.sleep(60)\n    say(child)")
    child = int(heard(process))
    try:
        assert heard(process) == "held"
        let_go(process)
        assert heard(process) == "freed"
        assert Path(f"/proc/{child}").exists()
        assert is_free(folder)
    finally:
        os.kill(child, signal.SIGKILL)


# Among users

USERS = [(NOBODY, os.geteuid()), (os.geteuid(), NOBODY)]


@pytest.mark.parametrize(("first_user", "second_user"), USERS)
@pytest.mark.parametrize("umask", ["022", "077"])
def test_two_users_of_a_box_exclude_each_other(
    folder: Path, holder: Callable[..., Child], first_user: int, second_user: int, umask: str
) -> None:
    first = holder(user=first_user, umask=umask)
    assert heard(first) == "held"
    second = holder(user=second_user, umask=umask)
    assert f"process {first.pid} of " in heard(second)
    let_go(first)
    assert heard(first) == "freed"
    assert heard(second) == "held"
    third = holder(user=first_user)
    assert f"process {second.pid} of " in heard(third), "the second may write into the first user's file"


def test_folder_and_file_are_open_to_all_and_the_folder_is_sticky(folder: Path, holder: Callable[..., Child]) -> None:
    assert heard(holder(umask="077")) == "held"
    [file] = folder.iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o1777
    assert stat.S_IMODE(file.stat().st_mode) == 0o666


def test_a_file_we_may_only_read_still_locks(folder: Path, holder: Callable[..., Child]) -> None:
    assert is_free(folder)
    [file] = folder.iterdir()
    file.chmod(0o444)
    process = holder(user=NOBODY)
    assert heard(process) == "held"
    assert not is_free(folder)


# Among the hostile


def lock_file(folder: Path) -> Path:
    """Where the device's lock lies; nothing is there yet."""
    assert is_free(folder)
    [file] = folder.iterdir()
    file.unlink()
    return file


def refused(folder: Path) -> RunError:
    with pytest.raises(RunError) as error, device_lock(KEY, pytest.fail, Control(), folder=folder, job="mine"):
        pass
    assert error.value.code == "device-lock"
    assert str(folder) in error.value.message
    assert error.value.suggestions
    return error.value


@pytest.mark.parametrize("plant", [Path.symlink_to, Path.hardlink_to])
def test_a_planted_link_is_not_followed(folder: Path, tmp_path: Path, plant: Callable[[Path, Path], None]) -> None:
    victim = folder.parent / "victim"
    victim.write_text("precious")
    victim.chmod(0o600)
    plant(lock_file(folder), victim)
    refused(folder)
    assert victim.read_text() == "precious"
    assert stat.S_IMODE(victim.stat().st_mode) == 0o600


def test_a_link_to_nowhere_makes_no_file(folder: Path) -> None:
    lock_file(folder).symlink_to(folder.parent / "made")
    refused(folder)
    assert not (folder.parent / "made").exists()


def test_a_planted_folder_link_is_not_followed(folder: Path) -> None:
    elsewhere = folder.parent / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    folder.symlink_to(elsewhere)
    refused(folder)
    assert list(elsewhere.iterdir()) == []
    assert stat.S_IMODE(elsewhere.stat().st_mode) == 0o700


def test_a_planted_pipe_does_not_hang_us(folder: Path, holder: Callable[..., Child]) -> None:
    pipe = lock_file(folder)
    os.mkfifo(pipe)
    refused(folder)
    pipe.chmod(0o444)  # only reading is left to others, and opening a pipe to read waits for a writer
    assert holder(user=NOBODY).wait(10) == 1


def test_a_file_in_the_place_of_the_folder_is_told(folder: Path) -> None:
    folder.touch()
    refused(folder)


def test_no_handle_is_left_open_by_refusals_and_waits(folder: Path) -> None:
    os.mkfifo(lock_file(folder))
    with device_lock("other", print, Control(), folder=folder):
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            refused(folder)
            assert not is_free(folder, "other")
        assert len(os.listdir("/proc/self/fd")) == before


def test_what_a_file_says_is_cleaned_before_it_is_shown(folder: Path) -> None:
    with device_lock(KEY, print, Control(), folder=folder):
        [file] = folder.iterdir()
        file.write_bytes(b"\x1b[31mprocess 1\nof \xff" + b"x" * 10_000)
        waiter = waiting(folder)
        waiter.control.cancel()
        waiter.join(5)
    [sentence] = waiter.told
    assert sentence.isprintable()
    assert "process 1of" in sentence
    assert len(sentence) < 500


def test_a_lock_without_a_word_in_it_is_waited_for(folder: Path) -> None:
    with device_lock(KEY, print, Control(), folder=folder):
        [file] = folder.iterdir()
        assert file.read_text().startswith(f"process {os.getpid()} of ")
        os.truncate(file, 0)
        waiter = waiting(folder)
        waiter.control.cancel()
        waiter.join(5)
    assert waiter.told == [f"Device {KEY} is in use by another process; waiting for it."]
    assert file.read_text() == ""


def test_a_file_taken_away_before_it_was_locked_is_no_lock(folder: Path) -> None:
    path = lock_file(folder)
    handle = locks._open(path)
    path.unlink()
    assert not locks._locked(handle, path)
    path.touch()
    assert not locks._locked(handle, path), "another file has its name now"
    os.close(handle)


@pytest.mark.parametrize("key", ["../../escape", "a/b", "", ".", "\0", "x" * 5000, "GPU é \n", "\udce9"])
def test_any_key_makes_a_plain_file_name(folder: Path, key: str) -> None:
    assert is_free(folder, key)
    assert [file.parent for file in folder.parent.rglob("*.lock")] == [folder]


def test_keys_that_read_alike_are_different_devices(folder: Path) -> None:
    with device_lock("cuda:0", print, Control(), folder=folder):
        assert is_free(folder, "cuda_0")
        assert not is_free(folder, "cuda:0")


def test_the_place_does_not_depend_on_the_environment() -> None:
    said = subprocess.run(
        [sys.executable, "-c", "from engine.runtime import locks; print(locks.FOLDER)"],
        env=os.environ | {"TMPDIR": "/var/tmp", "HOME": "/nowhere", "XDG_RUNTIME_DIR": "/nowhere"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.strip() == "/tmp/wan-tui-locks"
