"""A variant made on this box from the model's own weights: a folder like any other, with a lock file of its own."""

from __future__ import annotations

import fcntl
from pathlib import Path

from engine.control import Control
from engine.errors import ModelError
from engine.events import Bus, Convert
from engine.library.bf16 import bf16_bytes, make_bf16
from engine.library.crew import work
from engine.library.digest import Digest, Digests, count
from engine.library.item import Item
from engine.library.listing import File, Listing
from engine.library.locate import OnDisk, look, made_folder
from engine.library.place import OURS, walk
from engine.library.room import check_room
from engine.library.tally import Tally

_UNKNOWN_COMMIT = "0" * 40
_WAIT_S = 0.3


def make(item: Item, bus: Bus, control: Control) -> None:
    """Make the bf16 variant of a model that is whole on this box; what is finished already is not made again.

    Says `Convert` events. Raises `ModelError` when the model is not whole, `RunError` (`disk-full`), `Cancelled`.
    """
    base = look(item.base, Digests())
    if not base.whole or base.path is None:
        raise ModelError(
            "model-absent",
            f"{item.id} is made from {item.spec.id}, which is {base.state} here.",
            suggestions=[f"Download it first: wan-tui models download {item.spec.id}"],
            actions=["download"],
        )
    if look(item, Digests()).state == "verified":
        return
    folder = made_folder(item)
    held = sum(path.stat().st_size for path in walk(folder) if path.is_file())
    check_room(bf16_bytes(base.path) - held, folder)
    sizes = {path.relative_to(base.path).as_posix(): path.stat().st_size for path in walk(base.path) if path.is_file()}
    tally = Tally(bus, item.id, Convert, sizes)
    (folder / OURS).mkdir(parents=True, exist_ok=True)
    with (folder / OURS / "making").open("a") as lock:
        _wait_for(lock.fileno(), tally, control)
        work([lambda inner: _make(base, folder, tally, inner)], 1, control, say=tally.say)


def _make(base: OnDisk, folder: Path, tally: Tally, control: Control) -> None:
    assert base.path is not None
    cached = any(file.place is not None and file.place.cached for file in base.files)
    made = make_bf16(base.path, folder, control, lambda file, done, _: tally.reach(file, done), sealed=cached)
    digests = Digests()
    known = {file.info.path: file.actual for file in base.files if file.actual and file.state == "verified"}
    files = []
    for path in walk(folder):
        name = path.relative_to(folder).as_posix()
        source = base.path / name
        linked = source.exists() and source.samefile(path)
        digest = Digest(made[name]) if name in made else known.get(name) if linked else None
        digest = digest or count(path, control)
        digests.learn(path, digest)
        if linked and name in known:
            digests.learn(source, known[name])  # a link more is a change of its times
        files.append(File(name, path.stat().st_size, digest.sha256))
    digests.save()
    Listing(str(folder.name), base.revision or _UNKNOWN_COMMIT, tuple(files)).save(folder / OURS / "lock.json")


def _wait_for(descriptor: int, tally: Tally, control: Control) -> None:
    """Be the only one that makes this folder."""
    told = False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if not told:
                tally.warn("waiting", "another process makes this variant; waiting for that.")
            told = True
            control.wait(_WAIT_S)
