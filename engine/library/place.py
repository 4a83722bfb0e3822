"""Where one repository's files lie: in the Hugging Face cache, or as a plain folder below `MODELS_ROOT`.

Both keep ours, the lock file and the parts of downloads, in `.wan-tui` beside the weights: what is deleted with the
folder needs no tidying, and a part is always on the file system its file will be on.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from engine.errors import ModelError
from engine.library.listing import File, Listing, checked_listing, is_commit, read_lock
from engine.paths import hub_cache, models_root

OURS = ".wan-tui"
_ETAG = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True)
class Place:
    """A repository at a commit on disk. A `cached` one holds blobs and links to them, a plain one the files."""

    repo: str
    root: Path
    commit: str | None
    cached: bool

    @property
    def folder(self) -> Path:
        """What a pipeline is loaded from."""
        return self.root / "snapshots" / (self.commit or "") if self.cached else self.root

    def path(self, file: File) -> Path:
        """Where a pipeline reads this file."""
        return self.folder / file.path

    def store(self, file: File) -> Path:
        """Where its bytes lie under their final name."""
        return self.root / "blobs" / file.etag if self.cached else self.path(file)

    def part(self, file: File) -> Path:
        """Where its bytes gather until they are whole."""
        return self.root / OURS / "parts" / file.etag

    @property
    def lock(self) -> Path:
        return self.root / OURS / (f"{self.commit}.json" if self.cached else "lock.json")

    def listing(self) -> Listing | None:
        """What should lie here, from our lock file or the one the Hugging Face client keeps; None when unknown."""
        found = read_lock(self.lock)
        if found is None or found.repo != self.repo or (self.commit and found.commit != self.commit):
            found = self._client_listing()
        return found

    def _client_listing(self) -> Listing | None:
        trees = (self.root if self.cached else self.root / ".cache" / "huggingface") / "trees"
        wrong = (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, ModelError)
        with suppress(*wrong):
            file = trees / f"{self.commit}.json" if self.commit else _newest_first(trees)[0]
            rows = [
                (path, row["size"], row.get("lfs_sha256"), None if row.get("lfs_sha256") else row["blob_id"])
                for path, row in json.loads(file.read_bytes())["files"].items()
            ]
            refs = self.root / "refs"
            branches = (ref.relative_to(refs).as_posix() for ref in refs.rglob("*") if ref.is_file())
            asked = [name for name in branches if _branch(self.root, name) == file.stem]
            named = "main" if "main" in asked or not self.cached else next(iter(asked), file.stem)
            return checked_listing(self.repo, file.stem, rows, named)
        return None

    def linked(self) -> Listing | None:
        """What lies in a snapshot, by its links alone: a blob's name is its digest. Sizes are those found, 0 where the
        blob is gone."""
        if not self.cached or not self.commit:
            return None
        rows = []
        for link in walk(self.folder):
            etag = os.path.basename(os.readlink(link)) if link.is_symlink() else ""
            if _ETAG.fullmatch(etag):
                sha256, git = (etag, None) if len(etag) == 64 else (None, etag)
                size = link.stat().st_size if link.is_file() else 0
                rows.append((link.relative_to(self.folder).as_posix(), size, sha256, git))
        with suppress(ModelError):
            return checked_listing(self.repo, self.commit, rows, None)
        return None

    def holds(self, path: Path) -> bool:
        """Whether a name lies below the root for good: no folder above it is a link that leads out."""
        try:
            return path.parent.resolve().is_relative_to(self.root.resolve())
        except (OSError, RuntimeError):  # a loop of links is a RuntimeError up to Python 3.12
            return False

    def make_parents(self, path: Path) -> None:
        """Make the folders above `path`, none of which may lead out of the root through a link."""
        self.root.mkdir(parents=True, exist_ok=True)
        folder = self.root
        for name in path.parent.relative_to(self.root).parts:
            folder = folder / name
            if folder.is_symlink() and not self.holds(folder / "x"):
                raise ModelError(
                    "unsafe-folder",
                    f"{folder} is a link that leads out of {self.root}: nothing is written through it.",
                    suggestions=["Remove the link, or put the whole model folder where there is room."],
                )
            folder.mkdir(exist_ok=True)


def new_place(repo: str, commit: str) -> Place:
    """Where a download goes: to `MODELS_ROOT` when it is set, else to the Hugging Face cache."""
    root = models_root()
    return plain_place(root, repo, commit) if root else cached_place(repo, commit)


def plain_place(root: Path, repo: str, commit: str | None) -> Place:
    return Place(repo, root / repo, commit, cached=False)


def cached_place(repo: str, commit: str) -> Place:
    return Place(repo, hub_cache() / f"models--{repo.replace('/', '--')}", commit, cached=True)


def places(repo: str, revision: str | None) -> list[Place]:
    """Everywhere a repository lies on this box, the preferred place first: plain; in the cache the wanted commit,
    what was downloaded here last, the wanted branch, others."""
    found: list[Place] = []
    if (root := models_root()) and (root / repo).is_dir():
        lock = read_lock(plain_place(root, repo, None).lock)
        found.append(plain_place(root, repo, lock.commit if lock and lock.repo == repo else None))
    cached = hub_cache() / f"models--{repo.replace('/', '--')}"
    if cached.is_dir():
        kept = [folder.name for folder in _newest_first(cached / "snapshots")]
        locked = [lock.stem for lock in _newest_first(cached / OURS)]
        branches = [_branch(cached, revision or "main"), _branch(cached, "main")]
        names = dict.fromkeys(name for name in (revision, *locked, *branches, *kept) if name and is_commit(name))
        there = {*kept, *locked}
        found += [cached_place(repo, name) for name in names if name in there]
    return found


def serving(repo: str, revision: str | None) -> list[tuple[Place, Listing | None]]:
    """Those places that hold what a manifest means by `revision`, with what should lie there where that is known."""
    found = []
    for place in places(repo, revision):
        listing = place.listing()
        if listing.serves(revision) if listing else _may_serve(place, revision):
            found.append((place, listing))
    return found


def _may_serve(place: Place, revision: str | None) -> bool:
    """Without a list: a plain folder is taken as it is, a snapshot for the commit or branch it is of."""
    if not place.cached or revision == place.commit:
        return True
    return not is_commit(revision) and _branch(place.root, revision or "main") == place.commit


def _newest_first(folder: Path) -> list[Path]:
    with suppress(OSError):
        return sorted(folder.iterdir(), key=lambda entry: entry.lstat().st_mtime_ns, reverse=True)
    return []


def _branch(cached: Path, name: str) -> str | None:
    with suppress(OSError, ValueError):
        return (cached / "refs" / name).read_text().strip()
    return None


def walk(folder: Path) -> Iterator[Path]:
    """The files and links below a folder, ours left out. Links to folders are not followed."""
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != OURS)
        yield from (Path(parent, name) for name in sorted(names))
