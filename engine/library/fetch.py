"""One file over the network: resumed where it stopped, hashed as it comes, never longer than it may be, one writer."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from engine.control import Control
from engine.errors import ModelError, RunError
from engine.library.digest import CHUNK, Counted, Digest, git_hash
from engine.library.hub import Hiccup, Line, bad_answer
from engine.library.listing import File
from engine.library.locks import try_lock
from engine.library.place import Place

_LOOK_S = 0.3  # how often a file that another process writes is looked at
_SYNC_BYTES = 64 << 20
_CHANCES = 2  # for bytes that are wrong, as against bytes that do not come
_MISFITS = 3  # the last of them to a request for the whole file


class Wrong(Exception):
    """The server sent something else than the file."""


class Misfit(Hiccup):
    """The answer is no part of the file, or not the one asked for: nothing of it was taken."""


class Part:
    """A file on its way, open to its one writer alone; what is there already is hashed before anything is added."""

    def __init__(self, path: Path, file: File, tick: Callable[[int], None]) -> None:
        self.path, self.file, self._tick = path, file, tick
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        self.have = 0
        self.came = 0  # bytes that came by now, those thrown away counted too
        self._sha, self._git = self._new_hashes()

    def try_lock(self, follow: Callable[[int], None]) -> bool | None:
        """Become the writer. False while another process is; None when that one finished it or threw it away."""
        if not try_lock(self._descriptor):
            follow(os.fstat(self._descriptor).st_size)
            return False
        try:
            same = os.fstat(self._descriptor).st_ino == os.stat(self.path).st_ino
        except FileNotFoundError:
            return None
        return True if same else None

    def read_back(self, control: Control, tick: Callable[[int], None]) -> None:
        """Hash what is there, `tick` told how much of it. What is too long is no part of the file."""
        if os.fstat(self._descriptor).st_size > self.file.size:
            os.ftruncate(self._descriptor, 0)
        while data := os.read(self._descriptor, CHUNK):
            self._add(data)
            tick(self.have)
            control.check()

    def restart(self) -> None:
        """Begin again at byte 0."""
        os.ftruncate(self._descriptor, 0)
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        self.have = 0
        self._sha, self._git = self._new_hashes()
        self._tick(0)

    def write(self, data: bytes) -> None:
        """Take the next bytes. Raises `Wrong` when they are more than the file has, `OSError` when the disk is full."""
        if self.have + len(data) > self.file.size:
            raise Wrong(f"more than its {self.file.size} bytes came")
        self.came += len(data)
        view = memoryview(data)
        while view:
            count = os.write(self._descriptor, view)
            self._add(view[:count])
            view = view[count:]
        self._tick(self.have)

    def finish(self, target: Path, sealed: bool, control: Control) -> Counted:
        """Give the part its final name, when its bytes are the file's; a `sealed` one may not be written to.

        Raises `Wrong` when they are not.
        """
        digest = Digest(self._sha.hexdigest(), self._git.hexdigest() if self._git else None)
        if self.file.sha256:
            expected, actual = self.file.sha256, digest.sha256
        else:
            expected, actual = self.file.git or "", digest.git or ""
        if actual != expected:
            raise Wrong(f"its digest is {actual}, and should be {expected}")
        if sealed:
            os.fchmod(self._descriptor, os.fstat(self._descriptor).st_mode & 0o555)
        os.fsync(self._descriptor)
        control.check()  # that may have taken long: who asked to stop has left, and nothing changes behind their back
        os.replace(self.path, target)
        return Counted(digest, os.fstat(self._descriptor))

    def throw_away(self) -> None:
        """Take its name away, while still its writer."""
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        os.close(self._descriptor)

    def _add(self, data: bytes | memoryview) -> None:
        self._sha.update(data)
        if self._git:
            self._git.update(data)
        before, self.have = self.have, self.have + len(data)
        if before // _SYNC_BYTES != self.have // _SYNC_BYTES:
            # The disk begins with what is there now, so that the end of a file does not wait for gigabytes.
            os.posix_fadvise(self._descriptor, 0, self.have, os.POSIX_FADV_DONTNEED)

    def _new_hashes(self) -> tuple[Any, Any]:
        return hashlib.sha256(), None if self.file.sha256 else git_hash(self.file.size)


@contextmanager
def writing(
    place: Place,
    file: File,
    control: Control,
    tick: Callable[[int], None],
    follow: Callable[[int], None],
    wait: Callable[[], None],
) -> Iterator[Part]:
    """A file's part, ours alone, `tick` told what comes. While another process writes it, `wait` is called once and
    `follow` told how far that is."""
    told = False
    while True:
        control.check()
        place.make_parents(place.part(file))
        try:
            part = Part(place.part(file), file, tick)
        except FileNotFoundError:  # who finished last has taken the empty folder away just now
            continue
        try:
            while (mine := part.try_lock(follow)) is False:
                if not told:
                    wait()
                told = True
                control.wait(_LOOK_S)
            if mine:
                yield part
                return
        finally:
            part.close()


def fetch(line: Line, url: str, part: Part, target: Path, sealed: bool, warn: Callable[[str], None]) -> Counted:
    """Bring a part to its end, whatever the line does, and give it its final name.

    Raises `ModelError` (`corrupt-download`) when the server keeps sending other bytes, `RunError` (`unreachable`) when
    nothing comes for too long and (`bad-answer`) when what comes is not the file, `Cancelled`. The part stays for
    another time, unless its bytes are wrong.
    """
    tries, chances, misfits = 0, 0, 0
    while True:
        before = part.have
        try:
            if part.have < part.file.size:
                _receive(line, url, part, start=part.have if misfits < _MISFITS - 1 else 0)
            return part.finish(target, sealed, line.control)
        except Misfit as error:
            misfits += 1
            if misfits == _MISFITS:
                raise bad_answer(url, str(error)) from error
            line.pause(misfits, error, part.file.path, warn)
        except Hiccup as error:
            tries = 0 if part.have > before else tries + 1
            if tries >= line.manners.tries:
                raise _unreachable(line, part.file, str(error)) from error
            line.pause(tries, error, part.file.path, warn)
        except Wrong as error:
            chances += 1
            if chances == _CHANCES:
                part.throw_away()
                raise _corrupt(line, part.file, str(error)) from error
            warn(f"{part.file.path}: {error}; fetching it again")
            part.restart()


def _receive(line: Line, url: str, part: Part, start: int) -> None:
    """One request: what comes of the rest of the file. Raises `Hiccup` when it was not all of it."""
    size = part.file.size
    with line.open(url, start=start) as response:
        encoding = response.headers.get("Content-Encoding", "identity")
        if encoding != "identity":
            raise Misfit(f"it came encoded as {encoding[:40]!r}, which was not asked for")
        if response.status_code == 206:
            found = re.match(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
            if not start or not found or int(found[1]) != start or found[2] not in ("*", str(size)):
                raise Misfit("another part of it came than was asked for")
        elif response.status_code == 416:
            raise Misfit("the server says it ends before the part that is here")
        else:
            length = response.headers.get("Content-Length")
            if length != str(size) and (length or part.have):  # without one it may be a log-in page: keep what is here
                raise Misfit(f"the server has {(length or 'an unknown number of')[:40]} bytes of it, not {size}")
            if part.have:
                part.restart()  # the server does not resume
        for data in response.iter_raw():
            line.control.check()
            part.write(data)
            line.pace.take(len(data))
    if part.have < size:
        raise Hiccup("the connection ended early")


def _corrupt(line: Line, file: File, why: str) -> ModelError:
    return ModelError(
        "corrupt-download",
        f"{file.path} did not come as it should, twice: {why}.",
        cause=f"{line.shown} or something on the way to it changes the file. It was thrown away.",
        suggestions=["Try again later, or without the proxy or mirror."],
        actions=["download"],
    )


def _unreachable(line: Line, file: File, why: str) -> RunError:
    return RunError(
        "unreachable",
        f"{file.path} cannot be fetched from {line.shown}: {why}.",
        cause=f"Nothing came in {line.manners.tries} tries.",
        suggestions=["Check the network and any proxy, then download again: it goes on where it stopped."],
        actions=["download"],
    )
