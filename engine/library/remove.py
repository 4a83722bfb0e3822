"""Taking a model away: shown first, with what that frees and what stays because others have it; then exactly that."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from engine.catalog import Catalog
from engine.errors import ModelError, RunError
from engine.library.digest import Digests
from engine.library.item import Item, Source
from engine.library.listing import read_lock
from engine.library.locate import look, made_folder
from engine.library.place import OURS, Place, places, walk
from engine.paths import data_place, hub_cache, models_root


@dataclass(frozen=True)
class Removal:
    """What would go. `shared_bytes` belong to it and stay, because other models have the same bytes under other names.

    `folders` go with all they hold; `files` go one by one. `needed_by` are items on this box that use some of it,
    `kept` is what stays of a folder because it is not the model's.
    """

    id: str
    folders: tuple[Path, ...]
    files: tuple[Path, ...]
    freed_bytes: int
    shared_bytes: int
    needed_by: tuple[str, ...]
    kept: tuple[Path, ...]

    @property
    def empty(self) -> bool:
        return not self.folders and not self.files


def plan_removal(item: Item, catalog: Catalog) -> Removal:
    """What removing an item takes away. Raises `ModelError` for a folder of the user's own, `RunError` while a
    download writes to it."""
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
        own = made_folder(item) if item.made else data_place() / item.spec.id
        folders = [own] if own.is_dir() else []
    for source in item.sources:
        for place in places(source.repo, source.revision) if not source.borrowed else ():
            _refuse_busy(place, item)
            if place.cached and (not source.only or _nothing_else(place, source)):
                folders += [place.root] if place.root not in folders else []
            elif source.only:
                files += _only(place, source)
            else:
                theirs, others = _plain(place)
                files, kept = files + theirs, kept + others
    files = list(dict.fromkeys(files))
    gone = [path for folder in folders for path in _all(folder)] + files
    freed, shared = _weigh(gone)
    return Removal(
        item.id,
        tuple(folders),
        tuple(files),
        freed,
        shared,
        tuple(sorted(_users(item, catalog, [*folders, *files]))),
        tuple(kept),
    )


def remove(removal: Removal) -> None:
    """Take away what was planned. Files that others have open stay theirs until they close them."""
    for folder in removal.folders:
        _drop_shared_blobs(folder)
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
    names = [name for name in names if name.is_file() or name.is_symlink()]
    if not place.cached:
        return names + parts
    blobs = {Path(os.path.abspath(link.parent / os.readlink(link))) for link in names if link.is_symlink()}
    blobs |= {blob for file in rows if (blob := place.store(file)).is_file()}  # fetched, not linked yet
    others = {Path(os.path.abspath(link.parent / os.readlink(link))) for link in _other_links(place, source)}
    return names + parts + sorted(blob for blob in blobs - others if os.path.lexists(blob))


def _other_links(place: Place, source: Source) -> list[Path]:
    """The links of a repository's snapshots that are not to these files."""
    snapshots = place.root / "snapshots"
    names = (link for link in walk(snapshots) if link.is_symlink())
    return [link for link in names if link.relative_to(snapshots).as_posix().partition("/")[2] not in source.only]


def _nothing_else(place: Place, source: Source) -> bool:
    return not _other_links(place, source)


def _plain(place: Place) -> tuple[list[Path], list[Path]]:
    """The files of a plain folder that are the model's, and those that are not."""
    lock = read_lock(place.lock)
    everything = [path for path in walk(place.root) if ".cache" not in path.relative_to(place.root).parts]
    ours = [path for path in (place.root / OURS).rglob("*") if not path.is_dir()]
    client = [path for path in (place.root / ".cache").rglob("*") if not path.is_dir()]
    if lock is None:
        return everything + ours + client, []
    theirs = [path for path in everything if path.relative_to(place.root).as_posix() in lock.by_path]
    return theirs + ours + client, [path for path in everything if path not in set(theirs)]


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
    for spec in catalog.models:
        for variant in (None, *spec.variants):
            other = Item(spec, variant)
            if other.id == item.id or not other.sources:
                continue
            repos = {source.repo for source in item.sources if not source.borrowed}
            if not repos & {source.repo for source in other.sources}:
                continue
            copy = look(other, digests)
            if copy.present_bytes and any(
                file.path.is_relative_to(path) for file in copy.files for path in gone if file.present_bytes
            ):
                yield other.id


def _refuse_busy(place: Place, item: Item) -> None:
    for part in sorted((place.root / OURS / "parts").glob("*")):
        with suppress(OSError), part.open("rb") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunError(
                    "busy",
                    f"{item.id} is being downloaded: nothing was removed.",
                    suggestions=["Stop the download, then remove it."],
                ) from None


def _drop_shared_blobs(folder: Path) -> None:
    """Blobs that are links lead into the store several repositories of a cache share: its own client counts them."""
    if not any(blob.is_symlink() for blob in (folder / "blobs").glob("*")):
        return
    from huggingface_hub import scan_cache_dir

    cache = scan_cache_dir(folder.parent)
    commits = [row.commit_hash for repo in cache.repos if repo.repo_path == folder for row in repo.revisions]
    cache.delete_revisions(*commits).execute()
    folder.mkdir(exist_ok=True)  # what is left of it goes with it


def _prune(folder: Path) -> None:
    """Take away folders that became empty, up to those that hold all models."""
    tops = {models_root(), hub_cache(), hub_cache().parent / "wan-tui", data_place()}
    with suppress(OSError):  # one that is not empty
        while folder not in tops and folder != folder.parent:
            folder.rmdir()
            folder = folder.parent
