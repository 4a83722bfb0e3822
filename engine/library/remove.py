"""Taking a model away: shown first, with what that frees and what stays because others have it; then exactly that."""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.catalog import Catalog, ModelSpec
from engine.errors import ModelError, RunError
from engine.library.digest import Digests
from engine.library.item import Item, Source
from engine.library.listing import is_needed
from engine.library.locate import is_component, look, made_folder
from engine.library.locks import try_lock
from engine.library.place import OURS, Place, places, walk
from engine.paths import hub_cache, models_root

_HALF = re.compile(r"\..+\.[0-9a-f]{8}\.part")


@dataclass(frozen=True)
class Removal:
    """What would go. `shared_bytes` belong to it and stay, because other models have the same bytes under other names.

    `folders` go with all they hold; `files` go one by one. `needed_by` are items on this box that use some of it,
    `kept` is what stays of a folder because it is not the model's. `in_store` is how the Hugging Face client takes away
    what lies in the store that several repositories of a cache share.
    """

    id: str
    folders: tuple[Path, ...]
    files: tuple[Path, ...]
    freed_bytes: int
    shared_bytes: int
    needed_by: tuple[str, ...]
    kept: tuple[Path, ...]
    in_store: Any = None

    @property
    def empty(self) -> bool:
        return not self.folders and not self.files


def plan_removal(item: Item, catalog: Catalog) -> Removal:
    """What removing an item takes away. Raises `ModelError` for what this program may not take away, `RunError` while
    something writes to it."""
    if item.spec.builtin:
        raise ModelError("not-ours", f"{item.id} is a part of this program: it is not removed.")
    if item.spec.path and item.variant is None:
        raise ModelError(
            "not-ours",
            f"{item.id} is the folder {item.spec.path}, which this program did not make: it is not removed.",
            suggestions=["Remove the folder yourself, or take its entry out of the manifest."],
        )
    folders: list[Path] = []
    files: list[Path] = []
    kept: list[Path] = []
    if not item.sources:
        own = made_folder(item)
        folders = [own] if own.is_dir() else []
        for folder in folders:
            _refuse_foreign(folder, item)
            _refuse_busy(folder, item)
    for source in item.sources:
        if source.borrowed:
            continue
        found = places(source.repo, source.revision)
        for root in dict.fromkeys(place.root for place in found):
            _refuse_foreign(root, item)
            _refuse_busy(root, item)
            here = [place for place in found if place.root == root]
            mine = [path for place in here for path in _only(place, source)]
            all_of_it = not source.only or _weights(here[0]) <= set(mine)
            if here[0].cached and all_of_it:
                folders.append(root)
            elif source.only:
                files += mine + _beside(root) if all_of_it else mine
            else:
                theirs, others = _plain(here[0], item.spec)
                files, kept = files + theirs, kept + others
    files = list(dict.fromkeys(files))
    gone = [path for folder in folders for path in _all(folder)] + files
    freed, shared = _weigh(gone)
    in_store, store_bytes = _in_store(gone)
    store_freed = in_store.expected_freed_size if in_store else 0
    return Removal(
        item.id,
        tuple(folders),
        tuple(files),
        freed + store_freed,
        shared + store_bytes - store_freed,
        tuple(sorted(_users(item, catalog, [*folders, *files]))),
        tuple(kept),
        in_store,
    )


def remove(removal: Removal) -> None:
    """Take away what was planned. Files that others have open stay theirs until they close them.

    Raises `RunError` (`cannot-remove`) where this user may not; what could be removed is gone then.
    """
    gone = [path for folder in removal.folders for path in _all(folder)] + list(removal.files)
    linked = [info for path in gone if path.is_file() and (info := path.lstat()).st_nlink > 1]
    try:
        _remove(removal)
    except OSError as error:
        raise RunError(
            "cannot-remove",
            f"{error.filename or removal.id} cannot be removed: {error.strerror}.",
            suggestions=["Check its owner and permissions; what could be removed is gone."],
        ) from error
    finally:
        digests = Digests()
        digests.keep(linked)
        digests.save()


def _remove(removal: Removal) -> None:
    if removal.in_store:
        removal.in_store.execute()
    for folder in removal.folders:
        shutil.rmtree(folder)
        locks = folder.parent / ".locks" / folder.name
        shutil.rmtree(locks, ignore_errors=True)  # of the Hugging Face client
        _prune(folder.parent)
    for file in removal.files:
        file.unlink(missing_ok=True)
        _prune(file.parent)


def _only(place: Place, source: Source) -> list[Path]:
    """The links of these files in a cache and the blobs nothing else leads to; in a plain folder the files."""
    listing = place.listing()
    rows = [listing.by_path[path] for path in source.only if path in listing.by_path] if listing else []
    parts = [part for file in rows if (part := place.part(file)).is_file()]
    names = [place.folder / path for path in source.only]
    names = [name for name in names if (name.is_file() or name.is_symlink()) and place.holds(name)]
    if not place.cached:
        return names + parts
    blobs = _blobs(names, place) | {place.store(file) for file in rows}  # fetched, but perhaps not linked yet
    return names + parts + sorted(blob for blob in blobs - _other_blobs(place, source) if os.path.lexists(blob))


def _other_blobs(place: Place, source: Source) -> set[Path]:
    """The blobs that links of a repository's snapshots lead to which are not of these files."""
    snapshots = place.root / "snapshots"
    links = (link for link in walk(snapshots) if link.relative_to(snapshots).as_posix().partition("/")[2])
    return _blobs([link for link in links if _in_snapshot(link, snapshots) not in source.only], place)


def _in_snapshot(link: Path, snapshots: Path) -> str:
    return link.relative_to(snapshots).as_posix().partition("/")[2]


def _blobs(links: Iterable[Path], place: Place) -> set[Path]:
    """What links lead to within the blobs of their own repository: anything else is not the model's."""
    blobs = Path(os.path.abspath(place.root / "blobs"))
    ends = (Path(os.path.abspath(link.parent / os.readlink(link))) for link in links if link.is_symlink())
    return {place.root / "blobs" / end.name for end in ends if end.parent == blobs}


def _weights(place: Place) -> set[Path]:
    """Everything at a place that holds bytes of its repository, whole or in part."""
    root = place.root
    held = {*walk(root / "snapshots"), *walk(root / "blobs")} if place.cached else _visible(root)
    held = {path for path in held if path.suffix != ".incomplete"}  # what the client can never go on with
    return held | set((root / OURS / "parts").glob("*"))


def _visible(root: Path) -> set[Path]:
    return {path for path in walk(root) if ".cache" not in path.relative_to(root).parts}


def _plain(place: Place, spec: ModelSpec) -> tuple[list[Path], list[Path]]:
    """The files of a plain folder that are the model's, and those that are not."""
    listing = place.listing()

    def is_theirs(path: Path) -> bool:
        name = path.relative_to(place.root).as_posix()
        if _HALF.fullmatch(path.name):  # what a kill left of a copy
            return True
        if listing and name in listing.by_path:  # prose is not fetched here, but by the client
            return is_needed(name) or path.lstat().st_size == listing.by_path[name].size
        return listing is None and is_component(name, spec)

    everything = sorted(_visible(place.root))
    theirs = [path for path in everything if is_theirs(path)]
    return theirs + _beside(place.root), [path for path in everything if not is_theirs(path)]


def _beside(root: Path) -> list[Path]:
    """What this program and the Hugging Face client keep beside the weights of a plain folder."""
    notes = (root / OURS, root / ".cache" / "huggingface")
    return [path for folder in notes if not _is_led(folder, root) for path in _all(folder)]


def _is_led(folder: Path, root: Path) -> bool:
    return folder.resolve() != root.resolve() / folder.relative_to(root)


def _all(folder: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(folder):
        yield from (Path(parent, name) for name in names)


def _weigh(paths: Iterable[Path]) -> tuple[int, int]:
    """Bytes freed when these names go, and bytes that stay because they have other names."""
    names: Counter[tuple[int, int]] = Counter()
    found: dict[tuple[int, int], os.stat_result] = {}
    for path in paths:
        with suppress(OSError):
            info = path.lstat()
            if not path.is_symlink():
                names[info.st_dev, info.st_ino] += 1
                found[info.st_dev, info.st_ino] = info
    freed = sum(info.st_size for key, info in found.items() if names[key] >= info.st_nlink)
    return freed, sum(info.st_size for info in found.values()) - freed


def _users(item: Item, catalog: Catalog, gone: list[Path]) -> Iterator[str]:
    """Other items on this box that read some of what would go."""
    digests = Digests()
    taken = set(gone)
    for spec in catalog.models:
        for variant in (None, *spec.variants):
            other = Item(spec, variant)
            if other.id == item.id or not other.sources:
                continue
            repos = {source.repo for source in item.sources if not source.borrowed}
            if not repos & {source.repo for source in other.sources}:
                continue
            copy = look(other, digests)
            used = (file.path for file in copy.files if file.present_bytes)
            if any(not taken.isdisjoint((path, *path.parents)) for path in used):
                yield other.id


def _refuse_foreign(root: Path, item: Item) -> None:
    """Nothing is taken away through a link that leads out of where models are kept."""
    tops = [top for top in _tops() if root.is_relative_to(top)]
    if not any(root.resolve() == top.resolve() / root.relative_to(top) for top in tops):
        raise ModelError(
            "not-ours",
            f"{root} leads through a link to {root.resolve()}: {item.id} is not removed.",
            suggestions=["Remove the link, and what it leads to, yourself."],
        )


def _refuse_busy(root: Path, item: Item) -> None:
    """Who writes holds a lock: of a part, of a variant being made, or the one the Hugging Face client takes."""
    parts, clients = (root / OURS / "parts").glob("*"), (root.parent / ".locks" / root.name).glob("*")
    for lock in (*parts, root / OURS / "making", *clients):
        with suppress(FileNotFoundError, PermissionError), lock.open("r+b") as stream:
            if not try_lock(stream.fileno()):
                raise RunError(
                    "busy",
                    f"{item.id} is being downloaded: nothing was removed.",
                    suggestions=["Stop the download, then remove it."],
                )


def _in_store(gone: list[Path]) -> tuple[Any, int]:
    """How the client takes away blobs that are links into the store several repositories of a cache share, which it
    alone counts, and how many bytes these have."""
    blobs = {path for path in gone if path.parent.name == "blobs" and path.is_symlink()}
    if not blobs:
        return None, 0
    from huggingface_hub import scan_cache_dir

    names = {path.parent.resolve() / path.name for path in blobs}
    cache = scan_cache_dir(hub_cache())
    rows = (row for repo in cache.repos for row in repo.revisions)
    files = [file for row in rows for file in row.files if file.blob_path in names]
    return cache.delete_files(*files), sum({file.blob_path: file.size_on_disk for file in files}.values())


def _tops() -> set[Path]:
    """The folders that hold all models: they stay."""
    return {top for top in (models_root(), hub_cache(), hub_cache().parent / "wan-tui") if top}


def _prune(folder: Path) -> None:
    """Take away folders that became empty, up to those that hold all models."""
    tops = _tops()
    with suppress(OSError):  # one that is not empty
        while folder not in tops and folder != folder.parent:
            folder.rmdir()
            folder = folder.parent
