"""Deleting a finished clip: its video and its sidecar, and nothing else whatever their names have become meanwhile."""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from engine.errors import RunError
from engine.runtime.clips import FRAME_NAME, SUFFIXES, Clip
from engine.runtime.journal import LIVE, Journal


def delete(clip: Clip, journal: Journal | None) -> None:
    """Remove the video, or the folder of frames, and then the sidecar; what is gone already is no matter.

    Raises:
        RunError: `clip-in-use`: a job that waits or runs reads it. `clip-kept`: it is not what was listed, holds
            files that are none of ours, is a link, or may not be removed; then it is still there.
        The errors of `Journal`.
    """
    if journal and (reader := _reader(clip.path, journal)):
        raise RunError(
            "clip-in-use",
            f"{str(clip.path)!r} is not deleted.",
            cause=f"Job {reader} takes it as an input.",
            suggestions=["Wait for that job, or cancel it first."],
        )
    with _folder_of(clip.path) as folder:
        if folder is None:
            return
        if clip.path.suffix.lower() in SUFFIXES:
            _remove_file(folder, clip.path, clip.bytes)
        else:
            _remove_frames(folder, clip.path)
        if clip.sidecar and clip.sidecar.parent == clip.path.parent:
            _remove_file(folder, clip.sidecar, None)


def _reader(path: Path, journal: Journal) -> str | None:
    """The job, not over yet, that has `path`, or a frame in it, among its inputs."""
    real = Path(os.path.realpath(path))
    for row in journal.rows(states=LIVE):
        inputs: dict[str, Any] = tomllib.loads(row.job_toml).get("inputs", {})
        for value in inputs.values():
            for name in value if isinstance(value, list) else [value]:
                if Path(os.path.realpath(name)).is_relative_to(real):
                    return row.id
    return None


@contextmanager
def _folder_of(path: Path) -> Iterator[int | None]:
    """The folder `path` lies in, held open: it stays the same one whatever is renamed. None when it is gone."""
    try:
        handle = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        yield None
        return
    except OSError as error:
        raise _kept(path, error.strerror) from error
    try:
        yield handle
    finally:
        os.close(handle)


def _remove_file(folder: int, path: Path, listed: int | None) -> None:
    """Remove a regular file, of `listed` bytes where that is known."""
    try:
        info = os.stat(path.name, dir_fd=folder, follow_symlinks=False)
        if not stat.S_ISREG(info.st_mode):
            raise _kept(path, "it is a link" if stat.S_ISLNK(info.st_mode) else "it is no file")
        if listed is not None and info.st_size != listed:
            raise _kept(path, "it is another file than the one listed", "Look at the list again.")
        os.unlink(path.name, dir_fd=folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _kept(path, error.strerror) from error


def _remove_frames(parent: int, path: Path) -> None:
    """Remove a folder that holds frames written here and nothing else."""
    try:
        folder = os.open(path.name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    except FileNotFoundError:
        return
    except OSError as error:  # a link, too, is said to be no directory
        raise _kept(path, error.strerror) from error
    try:
        with os.scandir(folder) as entries:
            frames = [*entries]
        for entry in frames:
            if not (FRAME_NAME.fullmatch(entry.name) and entry.is_file(follow_symlinks=False)):
                raise _kept(path, f"it holds {entry.name!r}, which is no frame", "Move that away first.")
        for entry in frames:
            os.unlink(entry.name, dir_fd=folder)
        os.rmdir(path.name, dir_fd=parent)
    except OSError as error:
        raise _kept(path, error.strerror) from error
    finally:
        os.close(folder)


def _kept(path: Path, cause: str | None, suggestion: str = "Remove it by hand if it is to go.") -> RunError:
    return RunError("clip-kept", f"{str(path)!r} is not deleted.", cause=f"{cause}.", suggestions=[suggestion])
