"""What the disk can refuse while a clip is written, each with its name."""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from engine.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# A full disk, a quota used up, a limit on the size of one file (FAT's 4 GiB, `ulimit -f`): the clip is too big.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def says_no_room(text: str) -> bool:
    """Whether `text`, written by another program, tells of a full disk."""
    return any(os.strerror(code) in text for code in _NO_ROOM)


def disk_full(folder: Path, cause: str) -> RunError:
    """The error `disk-full`: which folder, and how much is free there now."""
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    free = shutil.disk_usage(existing).free / 2**20
    return RunError(
        "disk-full",
        f"The video does not fit in {folder}.",
        cause=f"{cause} ({free:,.1f} MiB free)",
        suggestions=["Free some space there, or write to another folder with --output DIR."],
    )


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn an `OSError` of the block into `disk-full` or `output-not-writable`, both `RunError`."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in _NO_ROOM:
            raise disk_full(folder, reason) from error
        raise RunError(
            "output-not-writable",
            f"The video cannot be written in {folder}.",
            cause=reason,
            suggestions=["Check that the folder exists and may be written to, or choose another with --output DIR."],
        ) from error
