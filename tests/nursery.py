"""Processes that begin with torch and diffusers imported: a program that runs jobs spends most of a test on that alone.

`born` starts `wan-tui` in a process of its own, as exec would: its own descriptors, folder, environment, signals and
way out. It is a child of a process that imported the libraries once. What depends on how a process begins (terminals,
closed descriptors, `python -m`) is tested with a program that is started the long way.
"""

from __future__ import annotations

import array
import fcntl
import functools
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parent.parent
FOLDER = "WAN_TUI_NURSERY"  # names a folder that all workers of a run have in common


class Born:
    """A process of the nursery, with what tests use of `subprocess.Popen`."""

    def __init__(self, pid: int, told: socket.socket) -> None:
        self.pid, self.returncode, self._told = pid, None, told
        self.returncode: int | None

    def poll(self) -> int | None:
        return self.wait(0)

    def wait(self, timeout: float | None = None) -> int | None:
        """Its exit status, minus the signal that ended it. Raises TimeoutExpired, or says None with a timeout of 0."""
        if self.returncode is None:
            if not select.select([self._told], [], [], timeout)[0]:
                if timeout == 0:
                    return None
                raise subprocess.TimeoutExpired("wan-tui", timeout or 0)
            self.returncode = int(self._told.recv(64))
            self._told.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def born(arguments: Sequence[str], files: Sequence[int], cwd: Path | None, environment: Mapping[str, str]) -> Born:
    """Start it with these for stdin, stdout and stderr."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    request = {"arguments": list(arguments), "cwd": str(cwd or Path.cwd()), "environment": dict(environment)}
    text = json.dumps(request).encode()
    passed = array.array("i", [*files, there.fileno()]).tobytes()
    nursery = _nursery()
    nursery.sendmsg([len(text).to_bytes(4, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, passed)])
    nursery.sendall(text)
    there.close()
    return Born(int(here.recv(64)), here)


@functools.cache
def _nursery() -> socket.socket:
    """One for all workers of a run, begun by the first that asks; it ends with the last of them."""
    place = Path(os.environ[FOLDER]) / "asked"
    with (place.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            return _connected(place)
        except OSError:  # none yet, or all that asked it have gone
            place.unlink(missing_ok=True)
            with socket.socket(socket.AF_UNIX) as door:
                door.bind(str(place))
                door.listen()
                subprocess.Popen(
                    [sys.executable, "-m", "tests.nursery", str(door.fileno())],
                    pass_fds=[door.fileno()], cwd=_ROOT, start_new_session=True,
                    env={**os.environ, "PYTHONPATH": str(_ROOT), "PYTHONUTF8": "1"},
                )  # fmt: skip
                return _connected(place)


def _connected(place: Path) -> socket.socket:
    asked = socket.socket(socket.AF_UNIX)
    asked.connect(str(place))
    return asked


# --- in the nursery ---------------------------------------------------------------------------------------------------


def serve(door: socket.socket) -> dict[str, Any] | None:
    """Until nobody asks any more: None. In a child: what it is to do."""
    gc.disable()
    import diffusers
    import transformers  # noqa: F401
    from diffusers import AutoencoderKLWan, WanPipeline  # noqa: F401

    del diffusers
    gc.enable()
    gc.freeze()  # or a child's first collection would copy all of it
    waking, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(woken)
    children: dict[int, socket.socket] = {}
    workers = [door.accept()[0]]
    while workers:
        for ready in select.select([door, waking, *workers], [], [])[0]:
            if ready is waking:
                os.read(waking, 1000)
                _tell_ends(children)
            elif ready is door:
                workers.append(door.accept()[0])
            elif (heard := _heard(ready)) is None:
                workers.remove(ready)
            else:
                text, passed = heard
                pid = os.fork()
                if pid == 0:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    for number, descriptor in enumerate(passed[:3]):
                        os.dup2(descriptor, number)
                    for descriptor in (*passed, waking, woken):
                        os.close(descriptor)
                    for one in (door, *workers, *children.values()):
                        one.close()
                    request: dict[str, Any] = json.loads(text)
                    return request
                told = socket.socket(fileno=passed[3])
                for descriptor in passed[:3]:
                    os.close(descriptor)
                told.sendall(str(pid).encode())
                children[pid] = told
    return None


def _heard(worker: socket.socket) -> tuple[bytes, list[int]] | None:
    """What it asks for, and the descriptors that came with that; None where it has gone."""
    length, passed, _, _ = socket.recv_fds(worker, 4, 4)
    if not length:
        worker.close()
        return None
    text = b""
    while len(text) < int.from_bytes(length, "big"):
        text += worker.recv(1 << 20)
    return text, passed


def _tell_ends(children: dict[int, socket.socket]) -> None:
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        told = children.pop(pid)
        with suppress(OSError):  # nobody waits for it
            told.sendall(str(os.waitstatus_to_exitcode(status)).encode())
        told.close()


def _begin(request: dict[str, Any]) -> int:
    """What `python -m wan_tui` does."""
    os.setsid()
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["cwd"])
    sys.stdin, sys.stdout = os.fdopen(0, closefd=False), os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", 1, closefd=False)
    sys.argv = ["wan-tui", *request["arguments"]]
    from wan_tui.cli import main

    return main()


if __name__ == "__main__":
    asked_of_it = serve(socket.socket(fileno=int(sys.argv[1])))
    if asked_of_it:
        try:
            ended = _begin(asked_of_it)
        except SystemExit as exit_:  # of argparse
            ended = exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
        sys.stdout.flush()
        os._exit(ended)  # an interpreter that is taken down would copy all that was imported
