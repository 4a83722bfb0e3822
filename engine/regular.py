"""Files that anybody may have put in a place: only regular ones are read, and never more of them than asked for."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def open_regular(file: Path) -> Iterator[tuple[BinaryIO, int]]:
    """A regular file and its size in bytes. Raises `OSError`, and `ValueError` when it is another kind of file."""
    # A pipe would keep an open waiting for ever.
    with os.fdopen(os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
        info = os.fstat(stream.fileno())
        if not stat.S_ISREG(info.st_mode):
            raise ValueError("it is not a regular file")
        yield stream, info.st_size


def regular_bytes(file: Path, most: int) -> bytes:
    """All of a regular file. Raises `OSError`, and `ValueError` when it is no such file or longer than `most`."""
    with open_regular(file) as (stream, size):
        if size > most:
            raise ValueError(f"it has {size} bytes, and such a file has at most {most}")
        return stream.read(most)
