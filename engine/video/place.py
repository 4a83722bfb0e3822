"""Putting a finished clip under a name nobody holds: never over another file, and never in halves."""

from __future__ import annotations

import errno
import os
from itertools import count
from typing import TYPE_CHECKING

from engine.video.disk import disk_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SIDECAR_SUFFIX = ".job.toml"

# What file systems without hard links answer: FAT, some network and FUSE mounts.
_NO_LINKS = (errno.EPERM, errno.EACCES, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)


def sidecar_path(video: Path) -> Path:
    """Where the job of `video` is written: `clip.job.toml` beside `clip.mp4` or the folder `clip`."""
    return video.with_name(video.stem + SIDECAR_SUFFIX)


def place(part: Path, path: Path, sidecar: Callable[[Path], str]) -> Path:
    """Move `part`, a file or a folder, to the first free name of `path`, `path-2`, …; return that name.

    A name is free when neither it nor its sidecar exists. `sidecar` makes the text that goes beside it from the
    name tried, and is asked again when another process takes that name first.

    Raises:
        RunError: `disk-full` or `output-not-writable`; nothing is left under a final name then.
    """
    for final in _names(path):
        beside = sidecar_path(final)
        # Saves making a text in vain; what decides is whether the names can be claimed.
        if os.path.lexists(final) or os.path.lexists(beside):
            continue
        text = sidecar(final)
        with disk_errors(path.parent):
            note = part.with_name("sidecar")
            note.write_bytes(text.encode())
            if _claim_both(part, final, note, beside):
                return final
    raise AssertionError("the names are endless")


def sync(path: Path) -> None:
    """Have the file `path`, or every file in the folder `path`, on the disk and not only in its cache."""
    for file in path.iterdir() if path.is_dir() else [path]:
        handle = os.open(file, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _names(path: Path) -> Iterator[Path]:
    yield path
    for number in count(2):
        yield path.with_name(f"{path.stem}-{number}{path.suffix}")


def _claim_both(part: Path, final: Path, note: Path, beside: Path) -> bool:
    sync(note)
    sync(part)
    # The sidecar first: clip.mp4 and clip.webm share it, so whoever holds it holds both names.
    if not _claim(note, beside):
        return False
    placed = False
    try:
        placed = _claim(part, final)
    finally:
        if not placed:
            beside.unlink()
    return placed


def _claim(part: Path, final: Path) -> bool:
    """Give `part` the name `final`, or return False when something has it."""
    try:
        if part.is_dir():
            final.mkdir()
        elif _link(part, final):
            return True
        else:
            final.touch(exist_ok=False)
    except FileExistsError:
        return False
    # `final` is now an empty folder or file made here, so nothing of anybody's is replaced.
    try:
        part.replace(final)
    except BaseException:
        final.rmdir() if final.is_dir() else final.unlink()
        raise
    return True


def _link(part: Path, final: Path) -> bool:
    """Hard-link `part` as `final`, or return False where the file system has no links."""
    try:
        os.link(part, final)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return False
    return True
