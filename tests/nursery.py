"""Processes that begin with torch and diffusers imported: a program that runs jobs spends most of a test on that alone.

`born` starts `wan-tui` in a process of its own, as exec would: its own descriptors, folder, environment, signals and
way out. It is a child of a process that imported the libraries once. What depends on how a process begins (terminals,
closed descriptors, `python -m`) is tested with a program that is started the long way.
"""

from __future__ import annotations

import array
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
    """One for this process; it ends with it."""
    here, there = socket.socketpair()
    environment = {**os.environ, "PYTHONPATH": str(_ROOT), "PYTHONUTF8": "1"}
    subprocess.Popen(
        [sys.executable, "-m", "tests.nursery", str(there.fileno())],
        pass_fds=[there.fileno()], env=environment, cwd=_ROOT, start_new_session=True,
    )  # fmt: skip
    there.close()
    return here


# --- in the nursery ---------------------------------------------------------------------------------------------------


def serve(asked: socket.socket) -> dict[str, Any] | None:
    """Until nobody asks any more: None. In a child: what it is to do."""
    import diffusers
    import transformers  # noqa: F401
    from diffusers import AutoencoderKLWan, WanPipeline  # noqa: F401

    del diffusers
    gc.freeze()  # or a child's first collection would copy all of it
    waking, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(woken)
    children: dict[int, socket.socket] = {}
    while True:
        ready = select.select([asked, waking], [], [])[0]
        if waking in ready:
            os.read(waking, 1000)
            _tell_ends(children)
        if asked not in ready:
            continue
        length, passed, _, _ = socket.recv_fds(asked, 4, 4)
        if not length:
            return None
        text = b""
        while len(text) < int.from_bytes(length, "big"):
            text += asked.recv(1 << 20)
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for number, descriptor in enumerate(passed[:3]):
                os.dup2(descriptor, number)
            for descriptor in (*passed, waking, woken):
                os.close(descriptor)
            asked.close()
            for told in children.values():
                told.close()
            request: dict[str, Any] = json.loads(text)
            return request
        told = socket.socket(fileno=passed[3])
        for descriptor in passed[:3]:
            os.close(descriptor)
        told.sendall(str(pid).encode())
        children[pid] = told


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
