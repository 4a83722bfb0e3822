"""Whether a file that a job names can be opened at all, found out without ever waiting for it."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from engine.errors import JobError

if TYPE_CHECKING:
    from pathlib import Path


def bad_input(path: Path, kind: str, cause: str, suggestion: str) -> JobError:
    """The error `bad-input-image` or `bad-input-video`, as `kind` has it."""
    return JobError(
        f"bad-input-{kind}", f"{str(path)!r} cannot be used as {kind}.", cause=cause, suggestions=[suggestion]
    )


def check_source(path: Path, kind: str) -> None:
    """Raise `bad_input` unless `path` is a regular file that may be read and is not empty.

    Looks before it opens: opening a FIFO would wait for its writer.
    """
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise bad_input(path, kind, "it is a folder", "Name a file in it.")
        if not stat.S_ISREG(status.st_mode):
            raise bad_input(path, kind, "it is no regular file but a pipe, socket or device", f"Name a {kind} file.")
        path.open("rb").close()
    except FileNotFoundError:
        raise bad_input(path, kind, "there is no such file", "Check the path.") from None
    except (OSError, ValueError) as error:  # ValueError: characters no path can have
        reason = getattr(error, "strerror", None) or str(error)
        raise bad_input(path, kind, reason, "Check the path, and that the file may be read.") from error
    if not status.st_size:
        raise bad_input(path, kind, "it is empty", f"Name a file that holds a {kind}.")
