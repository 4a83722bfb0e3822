"""One job at a time per device on a box: a kernel lock by device, freed by the kernel when its holder dies.

The lock files lie in one folder that every user of the box can write to, so nothing in it is trusted: links are not
followed, only a plain file with a single name is used, and what a file says is cleaned before it is shown.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import pwd
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from engine.control import Control
from engine.errors import RunError

FOLDER = Path("/tmp/wan-tui-locks")  # not the user's TMPDIR: two users of a box have to meet here
_POLL_SECONDS = 0.2
_NOTE_BYTES = 300
_CAREFULLY = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # non-blocking: a pipe put there must not hang us


@contextmanager
def device_lock(
    device_key: str,
    on_wait: Callable[[str], None],
    control: Control,
    *,
    job: str | None = None,
    folder: Path | None = None,
) -> Iterator[None]:
    """Hold the device named by `device_key` (its UUID, or `cpu`) against every other process and thread of the box.

    While another holds it, `on_wait` is told once, in a sentence, for whom we wait. `job` is what others are told
    about us meanwhile. `folder` is `WAN_TUI_LOCKS` where that is set: containers that share a card have to share it.

    Raises `Cancelled` when `control` is asked to stop during the wait, and RunError `device-lock` when the lock files
    cannot be used.
    """
    folder = folder or Path(os.environ.get("WAN_TUI_LOCKS") or FOLDER)
    handle = _acquire(device_key, on_wait, control, folder)
    try:
        _write_note(handle, _about_us(job))
        yield
    finally:
        _write_note(handle, "")
        fcntl.flock(handle, fcntl.LOCK_UN)  # closing alone would leave the lock with a forked child
        os.close(handle)


def _acquire(device_key: str, on_wait: Callable[[str], None], control: Control, folder: Path) -> int:
    path = folder / _file_name(device_key)
    told = False
    while True:
        control.check()
        with _explained(folder):
            handle = _open(path)
            if _locked(handle, path):
                return handle
            holder = _read_note(handle)
            os.close(handle)
        if not told:
            on_wait(f"Device {device_key} is in use by {holder}; waiting for it.")
            told = True
        control.wait(_POLL_SECONDS)


def _locked(handle: int, path: Path) -> bool:
    """Try to lock. False: another holds it, or a cleaner of /tmp just took the file away and locking it is no use."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(handle), path.lstat())
    except (BlockingIOError, FileNotFoundError):
        return False
    except OSError:
        os.close(handle)
        raise


def _open(path: Path) -> int:
    """The lock file, opened; it and its folder are made when absent."""
    with suppress(FileExistsError):
        path.parent.mkdir()
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | _CAREFULLY)
    try:
        _share(folder, 0o1777)  # sticky: only its owner can take a file away
        handle = _open_or_make(path.name, folder)
    finally:
        os.close(folder)
    try:
        about = os.fstat(handle)
        if not stat.S_ISREG(about.st_mode) or about.st_nlink != 1:  # a second name would let others aim our note
            raise OSError(f"{path} is not a plain file of its own")
        _share(handle, 0o666)
    except OSError:
        os.close(handle)
        raise
    return handle


def _open_or_make(name: str, folder: int) -> int:
    try:  # O_EXCL, for the kernel refuses a plain O_CREAT on another user's file in a sticky folder
        return os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | _CAREFULLY, 0o666, dir_fd=folder)
    except FileExistsError:
        pass
    try:
        return os.open(name, os.O_RDWR | _CAREFULLY, dir_fd=folder)
    except PermissionError:  # enough to lock it; we only cannot write who we are
        return os.open(name, os.O_RDONLY | _CAREFULLY, dir_fd=folder)


def _share(handle: int, mode: int) -> None:
    """Open what is ours to every user, whatever the umask was."""
    about = os.fstat(handle)
    if about.st_uid == os.geteuid() and stat.S_IMODE(about.st_mode) != mode:
        os.fchmod(handle, mode)


def _file_name(device_key: str) -> str:
    """A plain file name; the digest keeps apart keys that read alike once cleaned."""
    readable = re.sub(r"[^A-Za-z0-9-]", "_", device_key)[:80]
    digest = hashlib.sha256(device_key.encode(errors="backslashreplace")).hexdigest()
    return f"{readable}.{digest[:8]}.lock"


def _about_us(job: str | None) -> str:
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user without a name
        user = str(os.getuid())
    return f"process {os.getpid()} of {user}" + (f" (job {job})" if job else "")


def _write_note(handle: int, note: str) -> None:
    # A courtesy to those who wait: on a full disk, or in a file we may only read, they are told less.
    with suppress(OSError):
        os.ftruncate(handle, 0)
        os.pwrite(handle, note.encode(errors="replace")[:_NOTE_BYTES], 0)


def _read_note(handle: int) -> str:
    note = os.pread(handle, _NOTE_BYTES, 0).decode(errors="replace")
    return "".join(c for c in note if c.isprintable()) or "another process"


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunError(
            "device-lock",
            f"The device cannot be locked: {folder} cannot be used.",
            cause=str(error),
            suggestions=[f"Have {folder} removed by its owner or an administrator; the next run makes it again."],
        ) from error
