"""A variant made on this box from the model's own weights: a folder like any other, with a lock file of its own."""

from __future__ import annotations

from pathlib import Path

from engine.control import Control
from engine.errors import ModelError
from engine.events import Bus, Convert
from engine.library.bf16 import bf16_bytes, make_bf16, recorded
from engine.library.crew import work
from engine.library.digest import Digest, Digests, count
from engine.library.item import Item
from engine.library.listing import File, Listing, is_needed
from engine.library.locate import OnDisk, look, made_folder
from engine.library.locks import wait_for_lock
from engine.library.place import OURS, walk
from engine.library.room import check_room
from engine.library.store import counted_at
from engine.library.tally import Tally
from engine.library.weights import bad_weights

_UNKNOWN_COMMIT = "0" * 40


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
    made = look(item, Digests())
    if made.state == "verified" and made.revision == (base.revision or _UNKNOWN_COMMIT):
        return
    folder = made_folder(item)
    held = sum(path.stat().st_size for path in walk(folder) if path.is_file())
    check_room(bf16_bytes(base.path) - held, folder)
    sizes = {path.relative_to(base.path).as_posix(): path.stat().st_size for path in walk(base.path) if path.is_file()}
    tally = Tally(bus, item.id, Convert, {name: size for name, size in sizes.items() if is_needed(name)})
    work([lambda inner: _make(base, folder, tally, inner)], 1, control, say=tally.say)


def _make(base: OnDisk, folder: Path, tally: Tally, control: Control) -> None:
    (folder / OURS).mkdir(parents=True, exist_ok=True)
    with (folder / OURS / "making").open("a") as lock:
        wait_for_lock(
            lock.fileno(),
            control,
            lambda: tally.warn("waiting", "another process makes this variant; waiting for that."),
        )
        digests = Digests()
        try:
            _make_alone(base, folder, digests, tally, control)
        finally:
            digests.save()


def _make_alone(base: OnDisk, folder: Path, digests: Digests, tally: Tally, control: Control) -> None:
    assert base.path is not None
    for name, sha256 in recorded(folder).items():  # what an earlier call finished has to be what it was
        path = folder / name
        counted = counted_at(path, digests, control, git=False) if path.is_file() else None
        if counted is None or counted.digest.sha256 != sha256:
            path.unlink(missing_ok=True)
    cached = any(file.place is not None and file.place.cached for file in base.files)
    before = [file.path.stat() for file in base.files if file.path.is_file()]
    made = make_bf16(base.path, folder, control, lambda file, done, _: tally.reach(file, done), sealed=cached)
    digests.keep(before)  # a link more is a change of their times
    listed = {file.info.path: file.info.sha256 for file in base.files}
    files = []
    for path in walk(folder):
        name = path.relative_to(folder).as_posix()
        digest = _digest_of(path, base.path / name, made.get(name), digests, control)
        if name.endswith(".safetensors") and name not in made and listed.get(name) not in (None, digest.sha256):
            raise bad_weights(base.path / name, "is not what its repository lists")
        files.append(File(name, path.stat().st_size, digest.sha256))
    Listing(folder.name, base.revision or _UNKNOWN_COMMIT, tuple(files)).save(folder / OURS / "lock.json")


def _digest_of(path: Path, source: Path, made: str | None, digests: Digests, control: Control) -> Digest:
    """The digest of a file of the variant: remembered, just made, that of the source it is a link to, or counted."""
    info = path.stat()
    digest = digests.of(path, info)
    if digest is None and made:
        digest = Digest(made)
    elif digest is None and source.exists() and source.samefile(path):
        digest = digests.of(source)
    digest = digest or count(path, control)
    digests.learn(path, digest, info)
    return digest
