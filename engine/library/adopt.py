"""Files the user has already, from a folder or another tool's cache, taken over by size and SHA-256, never moved."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from engine.control import Control
from engine.errors import JobError
from engine.events import Bus, Import
from engine.library.crew import Task, work
from engine.library.digest import Digests
from engine.library.foreign import refuse_foreign
from engine.library.hub import Manners
from engine.library.item import Item
from engine.library.keep import begin, finish
from engine.library.locate import OnDisk, look, matches
from engine.library.resolve import Want, resolve
from engine.library.room import check_room, disk_error
from engine.library.store import counted_at, has_bytes, is_sealed, put
from engine.library.tally import Tally
from engine.library.verify import cores


@dataclass(frozen=True)
class Adopted:
    """What an import did: `taken` names files that are the model's now, `lacking` those that were not found."""

    copy: OnDisk
    taken: tuple[str, ...]
    lacking: tuple[str, ...]
    taken_bytes: int


def adopt(
    item: Item, folder: Path, bus: Bus, control: Control, *, revision: str | None = None, manners: Manners | None = None
) -> Adopted:
    """Take from `folder` every file that `item` lacks and whose bytes are those the repository lists, by any name.

    Says `Import` events. Raises `JobError` when the folder cannot be read, and what `resolve` and a full disk raise.
    """
    if not folder.is_dir():
        raise JobError("bad-folder", f"{folder} is not a folder.", suggestions=["Name the folder to take files from."])
    digests = Digests()
    quiet = Tally(bus, item.id, Import, {})
    base = item.base if item.made else item
    wants = resolve(base, control, manners or Manners(), lambda text: quiet.warn("retry", text), revision, folder)
    lacking = [want for want in wants if not has_bytes(want.place.path(want.file), want.file, digests, control)]
    refuse_foreign(lacking, digests, control)
    by_size: dict[int, list[Want]] = {}
    for want in lacking:
        by_size.setdefault(want.file.size, []).append(want)
    found = _candidates(folder, by_size.keys())
    begin(wants, {want.file.path for want in lacking})
    taken: dict[str, int] = {}
    tally = Tally(bus, item.id, Import, {str(path): size for path, size in found.items()})
    try:
        work([_taking(path, by_size, taken, digests, tally) for path in found], cores(), control, say=tally.say)
    except OSError as error:
        raise disk_error(error, wants[0].place.root) from error
    finally:
        digests.save()  # what was taken is verified, whatever came after
    finish(wants, digests)
    left = tuple(want.name for want in lacking if want.name not in taken)
    return Adopted(look(item, Digests()), tuple(sorted(taken)), left, sum(taken.values()))


def _candidates(folder: Path, sizes: Collection[int]) -> dict[Path, int]:
    """Regular files below a folder, links followed and each counted once, that have one of these sizes."""
    found: dict[Path, int] = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(os.path.realpath(os.path.join(parent, name)))
            with suppress(OSError):  # a link that leads nowhere, a file that may not be looked at
                info = path.stat()
                if stat.S_ISREG(info.st_mode) and info.st_size in sizes:
                    found[path] = info.st_size
    return found


def _links(path: Path, root: Path) -> bool:
    """Whether a file becomes ours as another name of the same bytes, which takes no room."""
    info = path.stat()
    return root.is_dir() and info.st_dev == root.stat().st_dev and (is_sealed(path) or not info.st_mode & 0o222)


def _taking(
    path: Path, lacking: Mapping[int, list[Want]], taken: dict[str, int], digests: Digests, tally: Tally
) -> Task:
    """Count a file once and let it be whatever it is."""

    def task(control: Control) -> None:
        with suppress(FileNotFoundError):  # it went away meanwhile
            wants = [want for want in lacking[path.stat().st_size] if want.name not in taken]
            if not wants:
                return
            git = any(want.file.sha256 is None for want in wants)
            counted = counted_at(path, digests, control, git=git, tick=lambda read: tally.add(str(path), read))
            for want in wants:
                if not counted or not matches(want.file, counted.digest):
                    continue
                if not _links(path, want.place.root):
                    check_room(want.file.size, want.place.root)
                if put(path, counted, want.place, want.file, digests, control):
                    taken[want.name] = want.file.size

    return task
