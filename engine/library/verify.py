"""Every byte of a model hashed and compared, on all cores, without a network."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, replace

from engine.control import Control
from engine.errors import ModelError
from engine.events import Bus, Verify
from engine.library.crew import Task, work
from engine.library.digest import Digests, count
from engine.library.item import Item
from engine.library.locate import FileState, OnDisk, look
from engine.library.tally import Tally


@dataclass(frozen=True)
class Verified:
    """The state of an item after a look at its files: the bad and missing ones are those not `verified`."""

    id: str
    state: str
    files: tuple[FileState, ...]

    @property
    def bad(self) -> tuple[FileState, ...]:
        return tuple(file for file in self.files if file.state not in ("complete", "verified"))


def verify(item: Item, bus: Bus, control: Control, *, quick: bool = False) -> Verified:
    """Look at every file of an item: `quick` compares size and times with those it was last verified at.

    Says `Verify` events. Raises `ModelError` when nothing on this box tells what the bytes should be, `Cancelled`.
    """
    digests = Digests()
    copy = look(item, digests)
    if copy.state != "absent" and not any(file.place for file in copy.files):
        raise ModelError(
            "nothing-to-compare",
            f"No lock file says what the files of {item.id} should be.",
            cause=f"{copy.path} was not downloaded by this program or a Hugging Face client.",
            suggestions=[f"With a network, `wan-tui models download {item.id}` compares it with the Hub."]
            if item.sources
            else [],
        )
    unreadable: set[str] = set()
    if not quick:
        files = _distinct(copy)
        tally = Tally(bus, item.id, Verify, {name: file.present_bytes for name, file in files.items()})
        tasks = [_counting(name, file, digests, tally, unreadable) for name, file in files.items()]
        try:
            work(tasks, cores(), control, say=tally.say)
        finally:
            digests.save()
        copy = look(item, digests)
    if not unreadable:
        return Verified(item.id, copy.state, copy.files)
    bad = (replace(file, state="corrupt") if _real(file) in unreadable else file for file in copy.files)
    return Verified(item.id, "corrupt", tuple(bad))


def _distinct(copy: OnDisk) -> dict[str, FileState]:
    """Each file that is there once, by name, the largest first: no core is left with a large one at the end."""
    there = {_real(file): file for file in copy.files if file.state not in ("absent", "partial")}
    found: dict[str, FileState] = {}
    for file in sorted(there.values(), key=lambda file: file.present_bytes, reverse=True):
        name = file.info.path  # a variant and the model it borrows from may have files of one name
        found[name if name not in found or not file.place else f"{file.place.repo}/{name}"] = file
    return found


def _counting(name: str, file: FileState, digests: Digests, tally: Tally, unreadable: set[str]) -> Task:
    def task(control: Control) -> None:
        try:
            info = file.path.stat()
            if not stat.S_ISREG(info.st_mode) or info.st_size != file.info.size:
                return  # its size says enough
            git = file.info.sha256 is None
            found = count(file.path, control, git=git, tick=lambda read: tally.add(name, read))
        except OSError:
            unreadable.add(_real(file))
        else:
            if not digests.learn(file.path, found, info):
                unreadable.add(_real(file))  # it changes while it is read

    return task


def _real(file: FileState) -> str:
    return os.path.realpath(file.path)


def cores() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0))
