"""A file brought to another place: the user's own stays where it is, and no later edit of it reaches ours.

A copy-on-write clone where the file system has them; a hard link where nobody edits the file; else a copy.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from engine.control import Control
from engine.errors import ModelError

_FICLONE = 0x40049409
_CHUNK = 8 << 20
_NO_LINK = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS)


@dataclass(frozen=True)
class Shared:
    """How a file came: "reflink", "hard link" or "copy", and the SHA-256 of the bytes where they were copied."""

    how: str
    sha256: str | None


def share(source: Path, target: Path, control: Control, *, sealed: bool) -> Shared:
    """Bring `source` to `target`, which is replaced in one step; whatever fails leaves the old one or none.

    `sealed`: the source lies where nobody edits files in place, as in the Hugging Face cache, and may be hard-linked.
    So may a file without any write permission. Raises `ModelError` (`bad-source`) unless it is a regular file,
    `Cancelled` between chunks, and `OSError` as it comes.
    """
    real = regular_file(source)
    if real == target.parent.resolve() / target.name:
        raise _bad(source, "is the very file it should be brought to")
    control.check()
    with part_of(target) as part:
        if _clone(real, part):
            return Shared("reflink", None)
        if (sealed or not real.stat().st_mode & 0o222) and _link(real, part):
            return Shared("hard link", None)
        return Shared("copy", _copy(real, part, control))


def regular_file(path: Path) -> Path:
    """Where a file really lies. Raises `ModelError` (`bad-source`) when there is no regular file at the end of it."""
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:  # a loop of links is a RuntimeError up to Python 3.12
        raise _bad(path, "is not there", cause=str(error)) from None
    if not stat.S_ISREG(real.stat().st_mode):
        raise _bad(path, "is no regular file")
    return real


@contextmanager
def part_of(target: Path) -> Iterator[Path]:
    """A free temporary name beside `target`. What lies there at the end takes its place; a failure leaves nothing."""
    part = target.with_name(f".{target.name[:100]}.{secrets.token_hex(4)}.part")
    try:
        yield part
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)  # replacing a file by a hard link to itself does nothing: the name is still there


def _clone(source: Path, part: Path) -> bool:
    try:
        with source.open("rb") as stream, part.open("xb") as out:
            fcntl.ioctl(out.fileno(), _FICLONE, stream.fileno())
            os.fsync(out.fileno())
    except OSError:  # of the clone or of the files: a copy meets the latter again, and says so
        part.unlink(missing_ok=True)
        return False
    return True


def _link(source: Path, part: Path) -> bool:
    try:
        os.link(source, part)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        return False
    return True


def _copy(source: Path, part: Path, control: Control) -> str:
    sha = hashlib.sha256()
    buffer = memoryview(bytearray(_CHUNK))
    with source.open("rb", buffering=0) as stream, part.open("xb", buffering=0) as out:
        before = os.fstat(stream.fileno())
        while count := stream.readinto(buffer):
            control.check()
            sha.update(buffer[:count])
            write_all(out.fileno(), buffer[:count])
        os.fsync(out.fileno())
        after = os.fstat(stream.fileno())
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise _bad(source, "changed while it was copied")
    return sha.hexdigest()


def write_all(handle: int, data: memoryview) -> None:
    """A file about to be full takes a part of what it is given, and says why only when asked for the rest."""
    while data:
        data = data[os.write(handle, data) :]


def _bad(path: Path, problem: str, cause: str | None = None) -> ModelError:
    return ModelError(
        "bad-source", f"{path} {problem}.", cause=cause, suggestions=["Check the folder, or download the file again."]
    )
