"""Kernel locks on files: held by one process at a time, gone with it. Where a file system has none, nobody waits."""

from __future__ import annotations

import errno
import fcntl
from collections.abc import Callable

from engine.control import Control

_LOOK_S = 0.3  # how often what another process holds is looked at
_NONE_HERE = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK, errno.EBADF)  # the last on NFS, of what is open for reading


def try_lock(descriptor: int) -> bool:
    """Take the lock of an open file; False while another has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NONE_HERE:
            raise
    return True


def wait_for_lock(descriptor: int, control: Control, wait: Callable[[], None]) -> None:
    """Take the lock of an open file; `wait` is called once when another has it. Raises `Cancelled`."""
    told = False
    while not try_lock(descriptor):
        if not told:
            wait()
        told = True
        control.wait(_LOOK_S)
