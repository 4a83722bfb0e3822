"""A model brought to this box: what is here already is looked at, what lies elsewhere here is shared, the rest fetched.

Every file ends verified. What was fetched stays whatever happens: a second call goes on where the first one stopped.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from engine.control import Control
from engine.errors import Cancelled, ModelError, RunError, WanError
from engine.events import Bus, Download, Downloaded, Failed
from engine.library.crew import Task, work
from engine.library.digest import Digests
from engine.library.fetch import fetch, writing
from engine.library.foreign import refuse_foreign
from engine.library.hub import Line, Manners, file_url
from engine.library.item import Item
from engine.library.keep import begin, finish
from engine.library.locate import OnDisk, look
from engine.library.make import make
from engine.library.resolve import Want, resolve
from engine.library.room import check_room, disk_error, disk_of, is_read_only
from engine.library.store import client_lock, elsewhere, has_bytes, settle
from engine.library.tally import Tally
from engine.paths import hub_cache, models_root

_LOOKERS = 4


def download(
    item: Item, bus: Bus, control: Control, *, revision: str | None = None, manners: Manners | None = None
) -> OnDisk:
    """Bring a model or variant to this box, whole and verified; `revision` is taken instead of the manifest's.

    Says `Download` events, then `Downloaded` or `Failed`. Raises `ModelError`, `RunError` (`disk-full`, `unreachable`)
    and `Cancelled`; every byte that came is kept for the next call.
    """
    since = time.monotonic()
    fetched = 0
    with _told(item, bus):
        if not (item.made and revision is None and _is_made(item)):
            base = item.base if item.made else item
            if base.sources or not item.made:  # else it is made from the user's own folder
                fetched = _fetch_all(base, bus, control, manners or Manners(), revision)
            if item.made:
                make(item, bus, control)
        copy = look(item, Digests())
        if not copy.whole:
            raise ModelError(
                "not-whole",
                f"{item.id} is {copy.state} although all of it came.",
                cause="Its listing contradicts itself, or something else changes its files.",
                suggestions=[f"`wan-tui models verify {item.id}` names the files."],
                actions=["verify"],
            )
    bus.publish(
        Downloaded(
            job=item.id,
            id=item.id,
            path=str(copy.path),
            revision=copy.revision,
            bytes=copy.present_bytes,
            fetched_bytes=fetched,
            seconds=round(time.monotonic() - since, 3),
        )
    )
    return copy


def _is_made(item: Item) -> bool:
    """Whether a variant is here whole while the model it was made from has been removed."""
    digests = Digests()
    return look(item, digests).state == "verified" and look(item.base, digests).state == "absent"


@dataclass(frozen=True)
class Need:
    """What a download takes: bytes in all, and those of them that are not on this box."""

    total_bytes: int
    missing_bytes: int


def needed(item: Item, control: Control, *, revision: str | None = None, manners: Manners | None = None) -> Need:
    """What a download would take, without beginning it. The Hub is asked for a listing where none is kept."""
    wants = resolve(item.base if item.made else item, control, manners or Manners(), lambda _: None, revision)
    stored = {want.store: want for want in wants}
    missing = (want for path, want in stored.items() if not path.is_file() or path.stat().st_size != want.file.size)
    return Need(sum(want.file.size for want in stored.values()), sum(_lacking(want) for want in missing))


def _fetch_all(item: Item, bus: Bus, control: Control, manners: Manners, revision: str | None) -> int:
    """Bring every file of an item; returns the bytes that came over the network."""
    quiet = Tally(bus, item.id, Download, {})
    wants = resolve(item, control, manners, lambda text: quiet.warn("retry", text), revision)
    groups = _same_bytes(wants)
    here = _Here(Digests(), Tally(bus, item.id, Download, {want.name: want.file.size for want in wants}))
    lacking: list[list[Want]] = []
    held = elsewhere(want.file for want in wants)
    refuse_foreign(wants, here.digests, control)
    work([_looking(group, held, here, lacking) for group in groups], _LOOKERS, control, say=here.say)
    try:
        begin(wants, {want.file.path for group in lacking for want in group})
    except OSError as error:
        if lacking or not is_read_only(error):
            raise
        return 0  # all is there, in a library that is another user's
    fetched: list[int] = []
    if lacking:
        roots = {disk_of(group[0].place.root): group[0].place.root for group in lacking}
        for disk, root in roots.items():
            check_room(sum(_lacking(group[0]) for group in lacking if disk_of(group[0].place.root) == disk), root)
        with Line(manners) as line:
            lacking.sort(key=lambda group: group[0].file.size)  # small files tell early what is refused
            tasks = [_fetching(group, here, line, fetched) for group in lacking]
            work(tasks, manners.files, control, say=here.say, stop=line.cut)
    here.digests.save()
    finish(wants, here.digests)
    return sum(fetched)


class _Here:
    """What the tasks of one download share: what is known of files, and who is told how far they are."""

    def __init__(self, digests: Digests, tally: Tally) -> None:
        self.digests, self.tally = digests, tally

    def say(self) -> None:
        self.tally.say()
        self.digests.save()  # what is verified stays so after a kill


def _same_bytes(wants: Sequence[Want]) -> list[list[Want]]:
    """Files grouped by where their bytes gather: equal files of a repository are fetched once."""
    groups: dict[Path, list[Want]] = {}
    for want in wants:
        groups.setdefault(want.place.part(want.file), []).append(want)
    return list(groups.values())


def _looking(group: list[Want], held: dict[str, list[Path]], here: _Here, lacking: list[list[Want]]) -> Task:
    """Use what lies here already, in place or `held` elsewhere; else leave the group to be fetched."""
    want = group[0]

    def task(control: Control) -> None:
        read = 0

        def tick(count: int) -> None:
            nonlocal read
            read += count
            here.tally.carry(want.name, read)

        own = [other.store for other in group]
        for path in dict.fromkeys([*own, *held.get(want.file.sha256 or "", [])]):
            read = 0
            counted = has_bytes(path, want.file, here.digests, control, tick)
            if counted and all(settle(path, counted, w.place, w.file, here.digests, control) for w in group):
                for other in group:
                    here.tally.carry(other.name, other.file.size)
                return
        if read:  # it was not the file after all
            here.tally.carry(want.name, 0)
        lacking.append(group)

    return task


def _fetching(group: list[Want], here: _Here, line: Line, fetched: list[int]) -> Task:
    want = group[0]
    place, file, store = want.place, want.file, want.store

    def reach(done: int) -> None:
        here.tally.reach(want.name, done)

    def carry(done: int) -> None:
        here.tally.carry(want.name, done)

    def wait() -> None:
        here.tally.warn("waiting", f"{want.name}: another process fetches it; waiting for that.")

    def task(_: Control) -> None:
        place.make_parents(store)
        own = writing(place, file, line.control, reach, carry, wait)
        with own as part, client_lock(place, file, line.control, wait):
            counted = has_bytes(store, file, here.digests, line.control)
            if counted:  # another process has finished it
                part.throw_away()
            else:
                part.read_back(line.control, carry)
                check_room(file.size - part.have, place.root)
                url = file_url(line, want.listing, file)
                try:
                    counted = fetch(line, url, part, store, want.sealed, lambda text: here.tally.warn("retry", text))
                except OSError as error:
                    raise disk_error(error, place.root, file.size - part.have) from error
                here.digests.learn(store, counted.digest, counted.info)
                fetched.append(part.came)
        for other in group:
            settle(store, counted, other.place, other.file, here.digests, line.control)
            here.tally.carry(other.name, other.file.size)

    return task


def _lacking(want: Want) -> int:
    """Bytes of a file that are still to come."""
    try:
        return max(0, want.file.size - want.place.part(want.file).stat().st_size)
    except OSError:
        return want.file.size


@contextmanager
def _told(item: Item, bus: Bus) -> Iterator[None]:
    """Say how it failed, in the words of what it is."""
    try:
        yield
    except WanError as error:
        bus.publish(Failed.of(item.id, error))
        raise
    except OSError as error:
        named = disk_error(error, models_root() or hub_cache())
        bus.publish(Failed.of(item.id, named))
        raise named from error
    except Cancelled:
        kept = look(item, Digests()).present_bytes
        stopped = RunError(
            "stopped",
            f"The download of {item.id} was stopped; {kept / 1e6:.1f} MB of it are kept."
            if kept or not item.made
            else f"The download of {item.id} was stopped; what came is kept.",
            suggestions=["Download it again: it goes on where it stopped."],
            actions=["download"],
        )
        bus.publish(Failed.of(item.id, stopped))
        raise
