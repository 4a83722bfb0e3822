"""Digests of files: counted once, remembered while a file's size, inode and times stay the same.

What is remembered is what tells a verified file from one that is merely complete: it survives in the state folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.control import Control
from engine.library.locks import try_lock
from engine.paths import state_dir, write_atomic

CHUNK = 2 << 20  # stays in a cache of the core between reading and hashing
_STORE = "digests.json"
_KEPT = 20_000  # remembered files
_PATIENCE, _LOOK_S = 20, 0.05  # who cannot have the lock in a second writes without it: at worst others count again


@dataclass(frozen=True)
class Digest:
    """What a file's bytes hash to: its SHA-256, and its git blob id where that was asked for."""

    sha256: str
    git: str | None = None


@dataclass(frozen=True)
class Counted:
    """A digest, and the file whose bytes had it as it was then."""

    digest: Digest
    info: os.stat_result


class Digests:
    """The remembered digests. Looking costs a `stat`; `save` merges what was learnt with what others learnt."""

    def __init__(self) -> None:
        self._known = _read()
        self._learnt: dict[str, list[Any]] = {}
        self._lock = threading.Lock()

    def of(self, file: Path, info: os.stat_result | None = None) -> Digest | None:
        """What is known of this file's bytes; None when it was never counted or has changed since."""
        try:
            place = os.path.realpath(file)
            row = self._learnt.get(place) or self._known.get(place)
            if row is None or row[:4] != _identity(info or os.stat(place)):
                return None
        except OSError:
            return None
        return Digest(row[4], row[5])

    def learn(self, file: Path, digest: Digest, before: os.stat_result) -> bool:
        """Remember a file's digest. False, and nothing is, when the file is not as it was `before` it was read."""
        place = os.path.realpath(file)
        if _identity(os.stat(place)) != _identity(before):
            return False
        with self._lock:
            self._learnt[place] = [*_identity(before), digest.sha256, digest.git]
        return True

    def keep(self, before: Iterable[os.stat_result]) -> None:
        """Go on knowing files that got or lost another name: that changes a time of theirs, not their bytes."""
        changed = {tuple(_identity(info)) for info in before}
        with self._lock:
            for place, row in (self._known | self._learnt).items():
                with suppress(OSError):
                    if tuple(row[:4]) in changed and _written(now := _identity(os.stat(place))) == _written(row):
                        self._learnt[place] = [*now, *row[4:]]

    def save(self) -> None:
        """Write what was learnt. What cannot be remembered is counted again another time."""
        with self._lock:
            learnt, self._learnt = self._learnt, {}
        if not learnt:
            return
        self._known.update(learnt)
        with suppress(OSError), (state_dir() / f"{_STORE}.lock").open("w") as lock:
            for _ in range(_PATIENCE):
                if try_lock(lock.fileno()):  # until it is closed
                    break
                time.sleep(_LOOK_S)
            known = _read()
            kept = {path: row for path, row in known.items() if path not in learnt} | learnt  # the newest last
            write_atomic(state_dir() / _STORE, json.dumps(dict(list(kept.items())[-_KEPT:])).encode())


def digest(files: Iterable[Path], control: Control) -> str:
    """One SHA-256 over the names and contents of `files`, in order. Raises `Cancelled` between chunks."""
    known = Digests()
    total = hashlib.sha256()
    for file in files:
        info = file.stat()
        found = known.of(file, info)
        if found is None:
            found = count(file, control)
            known.learn(file, found, info)
        total.update(f"{file.name} {found.sha256}\n".encode())
    known.save()
    return total.hexdigest()


def file_digest(file: Path, control: Control | None = None) -> str:
    """SHA-256 of one file."""
    return count(file, control).sha256


def count(
    file: Path, control: Control | None = None, *, git: bool = False, tick: Callable[[int], None] | None = None
) -> Digest:
    """Read a file once and hash it; `tick` is told the bytes of each chunk. Raises `Cancelled` between chunks."""
    with file.open("rb", buffering=0) as stream:
        sha, blob = hashlib.sha256(), git_hash(os.fstat(stream.fileno()).st_size) if git else None
        buffer = memoryview(bytearray(min(CHUNK, os.fstat(stream.fileno()).st_size + 1)))
        while read := stream.readinto(buffer):
            sha.update(buffer[:read])
            if blob:
                blob.update(buffer[:read])
            if tick:
                tick(read)
            if control:
                control.check()
    return Digest(sha.hexdigest(), blob.hexdigest() if blob else None)


def git_hash(size: int) -> Any:
    """A hash that gives a file of `size` bytes the id git gives it as a blob."""
    return hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)


def is_unwritten(before: os.stat_result, now: os.stat_result) -> bool:
    """Whether nothing was written to a file between: its names and permissions may have changed."""
    return _written(_identity(before)) == _written(_identity(now))


def _written(identity: list[Any]) -> list[Any]:
    return [*identity[:2], identity[3]]


def _identity(info: os.stat_result) -> list[int]:
    return [info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino]


def _read() -> dict[str, list[Any]]:
    try:
        value = json.loads((state_dir() / _STORE).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}  # absent or damaged: it is made again
    rows = value.items() if isinstance(value, dict) else ()
    return {path: row for path, row in rows if isinstance(row, list) and len(row) == 6 and isinstance(row[4], str)}
