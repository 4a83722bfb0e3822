"""Who runs a job: a process, named so that a later one with the same number is not mistaken for it."""

from __future__ import annotations

import json
import os
import socket
import sys
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Owner:
    """A process: its host, that host's boot, its number, and when it started in the kernel's own count.

    `space` is the namespace its number counts in.
    """

    host: str
    boot: str
    pid: int
    start: int
    space: str = ""

    @classmethod
    def me(cls) -> Owner:
        """This process. Asked anew each time, so that it stays true after a fork."""
        pid = os.getpid()
        start = _started(pid)
        assert start is not None  # we are running
        return cls(socket.gethostname(), _boot(), pid, start, _space())

    @classmethod
    def from_text(cls, text: str) -> Owner:
        """Read what `as_text` wrote."""
        return cls(**json.loads(text))

    def as_text(self) -> str:
        """Compact JSON; the same owner always gives the same text."""
        return json.dumps(asdict(self), separators=(",", ":"))

    def alive(self) -> bool | None:
        """True: certainly running. False: certainly gone. None: nobody here can tell."""
        if self.host != socket.gethostname():
            return None
        if self.boot != _boot():
            return False
        if self.space != _space():  # another container's processes have numbers of their own
            return None
        try:
            return _started(self.pid) == self.start
        except PermissionError:  # /proc mounted with hidepid
            return None

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def _boot() -> str:
    # Only Linux names its boots. Elsewhere the number and the start time have to do.
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip() if sys.platform == "linux" else ""


def _space() -> str:
    """The namespace that process numbers count in."""
    return os.readlink("/proc/self/ns/pid") if sys.platform == "linux" else ""


def _started(pid: int) -> int | None:
    """When the process started; None when there is none, or only a zombie."""
    if sys.platform != "linux":
        return _started_elsewhere(pid)
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()  # from field 3 on; the name before may hold anything
    return None if fields[0] in ("Z", "X") else int(fields[19])


def _started_elsewhere(pid: int) -> int | None:
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else int(process.create_time() * 1000)
    except psutil.NoSuchProcess:
        return None
