"""What libraries, drivers and children write to descriptors 1 and 2 goes to a file, not over the screen."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from types import TracebackType

from engine.paths import state_dir

FILE = "noise.log"
MOST_BYTES = 2_000_000
_KEPT = 200_000  # of a file that grew beyond that: its end
_LOOK_EVERY_S = 5.0


class Noise:
    """While it is entered descriptors 1 and 2 lead to the file, whose size is watched: a job may write for days."""

    def __enter__(self) -> Noise:
        _flush()
        self._before = (os.dup(1), os.dup(2))
        sink = _sink()
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        self._sink = sink
        self._over = threading.Event()
        self._watch = threading.Thread(target=self._look, name="noise", daemon=True)
        self._watch.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _flush()
        for number, before in zip((1, 2), self._before, strict=True):
            os.dup2(before, number)
            os.close(before)
        self._over.set()
        self._watch.join()
        os.close(self._sink)

    def _look(self) -> None:
        trim(self._sink)
        while not self._over.wait(_LOOK_EVERY_S):
            trim(self._sink)


def trim(file: int) -> None:
    """Keep the end of a file that has grown too large."""
    with suppress(OSError):  # a disk in trouble: it is tried again
        size = os.fstat(file).st_size
        if size > MOST_BYTES:
            end = os.pread(file, _KEPT, size - _KEPT)
            os.ftruncate(file, 0)
            os.write(file, end)


def _sink() -> int:
    try:
        return os.open(state_dir() / FILE, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:  # no state folder: what is not kept is at least not shown
        return os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)


def _flush() -> None:
    """What Python holds back belongs to where it was written."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # a reader that has gone; closed; None
            stream.flush()
