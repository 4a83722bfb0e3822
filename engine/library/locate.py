"""What of a model is on this box, and in which state: from disk alone, without a network or torch."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from engine.catalog import ModelSpec
from engine.errors import ModelError
from engine.library.digest import Digest, Digests
from engine.library.item import Item, Source
from engine.library.jsonfile import read_json
from engine.library.listing import File, Listing, is_needed, read_lock
from engine.library.place import OURS, Place, serving, walk
from engine.paths import hub_cache, models_root, shipped

STATES = ("absent", "partial", "corrupt", "complete", "verified")  # the better a copy, the later


@dataclass(frozen=True)
class FileState:
    """One file on disk. `place` is None for a file no repository lists; `info` has no digest then."""

    info: File
    state: str
    present_bytes: int
    path: Path
    place: Place | None = None
    actual: Digest | None = None
    shared: bool = False


@dataclass(frozen=True)
class OnDisk:
    """A model on this box. `bytes` is what it has when whole, None when unknown; `shared_bytes` have other names."""

    state: str
    path: Path | None = None
    revision: str | None = None
    present_bytes: int = 0
    bytes: int | None = None
    shared_bytes: int = 0
    files: tuple[FileState, ...] = ()

    @property
    def whole(self) -> bool:
        """Every file is there in its full size, and none is known to be damaged."""
        return self.state in ("complete", "verified")


def locate(spec: ModelSpec) -> OnDisk:
    """The best copy of a model on this box."""
    return look(Item(spec), Digests())


def look(item: Item, digests: Digests) -> OnDisk:
    """The best copy of a model or variant; what is borrowed from another repository counts for its state."""
    if not item.sources:
        folder = made_folder(item) if item.made else _own_folder(item.spec)
        return _look_folder(folder, item, digests) if folder else OnDisk("absent")
    copies = [_best(source, item.spec, digests) for source in item.sources]
    own = copies[0]
    if len(copies) == 1 or own.state == "absent":
        return own
    states = [copy.state for copy in copies]
    state = "partial" if "absent" in states else min(states, key=STATES.index)
    return replace(
        own,
        state="corrupt" if "corrupt" in states else state,
        present_bytes=sum(copy.present_bytes for copy in copies),
        bytes=sum(copy.bytes or 0 for copy in copies) if all(copy.bytes for copy in copies) else None,
        shared_bytes=sum(copy.shared_bytes for copy in copies),
        files=tuple(file for copy in copies for file in copy.files),
    )


def made_folder(item: Item) -> Path:
    """Where a variant that is made here lies: beside the other weights, so that what is shared needs no second copy."""
    root = models_root() or hub_cache().parent / "wan-tui"
    return root / f"{item.spec.repo or item.spec.name}@{item.variant.name if item.variant else ''}"


def _own_folder(spec: ModelSpec) -> Path | None:
    return shipped(spec.name) if spec.builtin else spec.path


def _best(source: Source, spec: ModelSpec, digests: Digests) -> OnDisk:
    places = serving(source.repo, source.revision)
    found = [look_at(place, listing, source, spec, digests) for place, listing in places]

    def worth(copy: OnDisk) -> tuple[int, int]:  # of several whole ones the preferred, not the largest
        return (len(STATES), 0) if copy.whole else (STATES.index(copy.state), copy.present_bytes)

    return max(found, key=worth, default=OnDisk("absent"))


def look_at(place: Place, listing: Listing | None, source: Source, spec: ModelSpec, digests: Digests) -> OnDisk:
    """What of `source` lies at one place."""
    if listing is None:
        return _unlisted(place, source, spec, digests)
    try:
        wanted = source.wanted(listing)
    except ModelError:  # another revision, which lacks these files
        return OnDisk("absent")
    files = [file_state(place, file, digests) for file in wanted]
    if listing.coming:  # of the right size, but perhaps of the commit before
        files = [
            replace(file, state="partial") if file.state == "complete" and file.info.path in listing.coming else file
            for file in files
        ]
    return _summed(files, place.folder, listing.commit)


def file_state(place: Place, file: File, digests: Digests) -> FileState:
    """A file's state: what its size says, and its digest where that is remembered and the file unchanged."""
    path = place.path(file)
    try:
        info = path.stat()
    except OSError:
        held = _size(place.part(file))
        if place.cached and not held:
            held = _size(place.store(file))  # whole, but not linked yet
        return FileState(file, "partial" if held else "absent", held or 0, path, place)
    known = digests.of(path, info)
    regular = stat.S_ISREG(info.st_mode)
    if not regular or info.st_size != file.size or (known and matches(file, known) is False):
        state = "corrupt"
    else:
        state = "verified" if known and matches(file, known) else "complete"
    return FileState(file, state, info.st_size if regular else 0, path, place, known, info.st_nlink > 1)


def matches(file: File, digest: Digest) -> bool | None:
    """Whether bytes of this digest are the file's; None when the digest is not of the kind the file is known by."""
    if file.sha256:
        return file.sha256 == digest.sha256
    return file.git == digest.git if digest.git else None


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _summed(files: list[FileState], folder: Path, commit: str | None) -> OnDisk:
    states = {file.state for file in files} or {"absent"}
    present = sum(file.present_bytes for file in files)
    if "corrupt" in states:
        state = "corrupt"
    elif states <= {"complete", "verified"}:
        state = "verified" if states == {"verified"} else "complete"
    else:
        state = "partial" if present else "absent"
    return OnDisk(
        state,
        folder if present else None,
        commit,
        present,
        sum(file.info.size for file in files),
        sum(file.present_bytes for file in files if file.shared),
        tuple(files),
    )


# --- folders without a list of what should be there -------------------------------------------------------------------


def _unlisted(place: Place, source: Source, spec: ModelSpec, digests: Digests) -> OnDisk:
    """What another tool left without a list: whole by names and indexes, its sizes taken as they are."""
    linked = place.linked() or Listing(place.repo, place.commit or "", ())
    if source.only:
        present = [linked.by_path[path] for path in source.only if path in linked.by_path]
        copy = _summed([file_state(place, file, digests) for file in present], place.folder, place.commit)
        if len(present) < len(source.only) and copy.state != "corrupt":
            copy = replace(copy, state="partial" if copy.present_bytes else "absent")
        return replace(copy, bytes=None) if copy.state in ("partial", "absent") else copy
    copy = _by_structure(place.folder, spec, source.without, digests, linked, place)
    return replace(copy, revision=place.commit)


def _look_folder(folder: Path, item: Item, digests: Digests) -> OnDisk:
    """A folder that is no repository: made here, built in, or the user's own."""
    lock = read_lock(folder / OURS / "lock.json")
    if lock:
        place = Place(lock.repo, folder, lock.commit, cached=False)
        return _summed([file_state(place, file, digests) for file in lock.files], folder, lock.commit)
    copy = _by_structure(folder, item.spec, (), digests, None, None)
    return replace(copy, state="partial") if item.made and copy.whole else copy


def is_component(path: str, spec: ModelSpec) -> bool:
    """Whether a file of a folder without a list is the model's: the user may keep others there."""
    return is_needed(path) and path.split("/")[0] in ("model_index.json", *spec.required, *spec.allowed)


def _by_structure(
    folder: Path,
    spec: ModelSpec,
    without: tuple[str, ...],
    digests: Digests,
    linked: Listing | None,
    place: Place | None,
) -> OnDisk:
    needed = [folder / "model_index.json"]
    for component in spec.required:
        needed += _needed(folder / component) if component not in without else []
    files = []
    for path in walk(folder):
        name = path.relative_to(folder).as_posix()
        if not is_component(name, spec):
            continue
        info = linked.by_path.get(name) if linked else None
        if place and info:
            files.append(file_state(place, info, digests))
        elif (size := _size(path)) is not None:
            files.append(FileState(File(name, size), "complete", size, path))
    copy = _summed(files, folder, None)
    present = [path for path in needed if os.path.isfile(path)]
    if len(present) < len(needed):
        state = "partial" if present or copy.present_bytes else "absent"
        return replace(copy, state="corrupt" if copy.state == "corrupt" else state, bytes=None)
    return copy if copy.whole else replace(copy, bytes=None)


def _needed(component: Path) -> list[Path]:
    """The files without which a component does not load."""
    for index in component.glob("*.safetensors.index.json"):
        with suppress(ModelError, KeyError, AttributeError):
            shards = read_json(index)["weight_map"].values()
            return [component / str(shard) for shard in sorted(set(map(str, shards)))]
        return [component / "a readable index of its shards"]
    if component.name in ("scheduler", "tokenizer", "image_processor"):
        return sorted(component.glob("*.json"))[:1] or [component / "config.json"]
    return [component / "config.json", *(sorted(component.glob("*.safetensors")) or [component / "weights"])]
