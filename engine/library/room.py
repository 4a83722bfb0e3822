"""Room on a disk: asked for before a long work begins, and named when it ran out in the middle."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from engine.errors import RunError
from engine.units import size

_MARGIN_BYTES = 1 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def check_room(needed: int, place: Path) -> None:
    """Raise `RunError` (`disk-full`) when `needed` bytes more do not fit at `place`, which need not be there yet."""
    free = free_bytes(place)
    if needed and needed + _MARGIN_BYTES > free:
        raise _full(place, f"{size(needed)} more are needed, {size(free)} are free: {size(needed - free)} are missing.")


def free_bytes(place: Path) -> int:
    """What this user can still write at `place`."""
    disk = os.statvfs(_nearest(place))
    return disk.f_bavail * disk.f_frsize


def disk_of(place: Path) -> int:
    """Which disk `place` is on: the same number for everything that shares its room."""
    return _nearest(place).stat().st_dev


def _nearest(place: Path) -> Path:
    """The place, or the folder above it that is there."""
    while not place.is_dir() and place != place.parent:
        place = place.parent
    return place


def is_read_only(error: OSError) -> bool:
    """Whether something could not be written because this user may not, or nobody may."""
    return error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)


def disk_error(error: OSError, place: Path, needed: int | None = None) -> RunError:
    """What a failed write means, `needed` bytes before its end. What was written so far is kept."""
    if error.errno in _FULL:
        more = "" if needed is None else f"{size(needed)} more are needed, "
        return _full(place, f"It became full: {more}{size(free_bytes(place))} are free.")
    name = error.filename or place
    return RunError(
        "cannot-write",
        f"{name} cannot be written: {error.strerror or error}.",
        suggestions=["Check its owner and permissions, or set MODELS_ROOT to another folder."],
    )


def _full(place: Path, cause: str) -> RunError:
    return RunError(
        "disk-full",
        f"There is not enough room in {place}.",
        cause=cause,
        suggestions=[
            "Free some: `wan-tui models list --installed` shows what is here, `wan-tui models remove ID` frees it.",
            "Or set MODELS_ROOT to a folder on a larger disk. What was fetched so far is kept.",
        ],
        actions=["remove", "download"],
    )
