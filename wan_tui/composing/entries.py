"""What lies in a folder, for a file picker. It reads the disk: call it from a thread."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["image", "video", "audio", "job", "folder", "any"]

SUFFIXES: dict[str, tuple[str, ...]] = {
    "image": (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif"),
    "video": (".mp4", ".webm", ".mkv", ".mov", ".avi", ".m4v", ".gif"),
    "audio": (".wav", ".mp3", ".flac", ".ogg", ".opus", ".m4a", ".aac"),
    "job": (".toml",),
}


@dataclass(frozen=True)
class Entry:
    """A folder or a regular file; a link counts as what it leads to. `modified` is seconds since 1970.

    `bytes` and `modified` are None where they are not known; a folder has no bytes.
    """

    name: str
    path: Path
    is_folder: bool
    bytes: int | None
    modified: float | None


@dataclass(frozen=True)
class Contents:
    """`folder` is where the entries really lie, without links; `problem` says why there are none to see."""

    folder: Path
    entries: tuple[Entry, ...]
    problem: str | None = None


def entries(folder: Path, kind: Kind = "any", *, hidden: bool = False) -> Contents:
    """Folders first, then files of a kind, each by name. Links that lead nowhere, pipes and devices are left out."""
    place = folder
    try:
        place = Path(os.path.realpath(folder))  # a folder linked into itself is entered as what it is, and no deeper
        with os.scandir(place) as scan:
            seen = (item for item in scan if hidden or not item.name.startswith("."))
            found = [entry for item in seen if (entry := _entry(item, place, kind))]
    except OSError as error:
        return Contents(place, (), f"{place} cannot be read: {error.strerror or error}.")
    except ValueError:
        return Contents(place, (), "That is no path: it holds a null character.")
    found.sort(key=lambda entry: (not entry.is_folder, entry.name.casefold(), entry.name))
    return Contents(place, tuple(found))


def _entry(item: os.DirEntry[str], folder: Path, kind: Kind) -> Entry | None:
    suffix = os.path.splitext(item.name)[1].lower()
    of_kind = kind == "any" or suffix in SUFFIXES.get(kind, ())
    if not of_kind and not _is_folder(item):
        return None
    try:
        info = item.stat()
    except OSError:  # gone, a link that leads nowhere or round, or not to be seen by this user
        return None
    is_folder = stat.S_ISDIR(info.st_mode)
    if not is_folder and not (of_kind and stat.S_ISREG(info.st_mode)):
        return None
    return Entry(item.name, folder / item.name, is_folder, None if is_folder else info.st_size, info.st_mtime)


def _is_folder(item: os.DirEntry[str]) -> bool:
    try:
        return item.is_dir()
    except OSError:
        return False
