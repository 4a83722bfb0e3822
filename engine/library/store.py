"""Bytes that are here already, wherever they lie on this box, brought to where a model reads them: stored once."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from engine.control import Control
from engine.library.digest import Counted, Digests, count, is_unwritten
from engine.library.listing import File, read_lock
from engine.library.locate import matches
from engine.library.locks import wait_for_lock
from engine.library.place import OURS, Place
from engine.library.share import share
from engine.paths import hub_cache, models_root


def has_bytes(
    path: Path, file: File, digests: Digests, control: Control, tick: Callable[[int], None] | None = None
) -> Counted | None:
    """The digest of what lies at `path` when it is `file`, remembered or counted now; None if it is not, cannot be
    read, or changes while it is."""
    try:
        info = path.stat()
        if not stat.S_ISREG(info.st_mode) or info.st_size != file.size:
            return None
    except OSError:
        return None
    counted = counted_at(path, digests, control, git=file.sha256 is None, tick=tick)
    return counted if counted and matches(file, counted.digest) else None


def counted_at(
    path: Path, digests: Digests, control: Control, *, git: bool, tick: Callable[[int], None] | None = None
) -> Counted | None:
    """What a file hashes to, `git` id included; None if it cannot be read or changes while it is."""
    try:
        info = path.stat()
        known = digests.of(path, info)
        if known is None or (git and known.git is None):
            known = count(path, control, git=git, tick=tick)
            if not digests.learn(path, known, info):
                return None
    except OSError:
        return None
    return Counted(known, info)


def settle(source: Path, counted: Counted, place: Place, file: File, digests: Digests, control: Control) -> bool:
    """See to it that `file` is in its place, with bytes from `source` unless they are there. False as in `put`."""
    if not has_bytes(place.store(file), file, digests, control):
        return put(source, counted, place, file, digests, control)
    link(place, file)
    return True


def put(source: Path, counted: Counted, place: Place, file: File, digests: Digests, control: Control) -> bool:
    """Bring bytes that were counted at `source` to `file`'s own place. False when they changed since: nothing is
    kept."""
    target, digest = place.store(file), counted.digest
    if target != source and not _same(source, target):
        place.make_parents(target)
        before = source.stat()
        shared = share(source, target, control, sealed=is_sealed(source))
        if (shared.sha256 or digest.sha256) != digest.sha256 or not is_unwritten(counted.info, source.stat()):
            target.unlink()
            return False
        if not place.cached and file.git is None:
            with suppress(PermissionError):  # a link to another user's
                target.chmod(target.stat().st_mode & 0o555)  # weights may be shared: nobody is to write into them
        digests.keep([before])  # a link more, or another mode, is a change of its times
        digests.learn(target, digest, target.stat())
    link(place, file)
    return True


def link(place: Place, file: File) -> None:
    """In a cache, let the snapshot's name lead to the blob."""
    if not place.cached:
        return
    name, blob = place.path(file), place.store(file)
    place.make_parents(name)
    target = os.path.relpath(blob, name.parent)
    if name.is_symlink() and os.readlink(name) == target:
        return
    if os.path.lexists(name):
        name.unlink()
    with suppress(FileExistsError):  # another process was faster
        os.symlink(target, name)


def is_sealed(path: Path) -> bool:
    """Whether a file lies in a Hugging Face cache, whose blobs nobody writes to: another name for it is safe."""
    real = Path(os.path.realpath(path))
    return real.parent.name == "blobs" and real.parent.parent.name.startswith(("models--", "datasets--", "spaces--"))


def elsewhere(files: Iterable[File]) -> dict[str, list[Path]]:
    """Where on this box files of these SHA-256s lie: in any repository of the cache, in any plain folder of ours."""
    wanted = {file.sha256 for file in files if file.sha256 and file.git is None}
    found: dict[str, list[Path]] = {sha256: [] for sha256 in wanted}
    for repo in sorted(hub_cache().glob("models--*")):
        for sha256 in wanted:
            if (blob := repo / "blobs" / sha256).is_file():
                found[sha256].append(blob)
    for root in (models_root(), hub_cache().parent / "wan-tui"):
        for lock in sorted(root.glob(f"*/*/{OURS}/lock.json")) if root else ():
            listing = read_lock(lock)
            for file in listing.files if listing else ():
                if file.sha256 in wanted and (path := lock.parent.parent / file.path).is_file():
                    found[file.sha256].append(path)
    return found


def _same(one: Path, other: Path) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


@contextmanager
def client_lock(place: Place, file: File, control: Control, wait: Callable[[], None]) -> Iterator[None]:
    """In a cache, the lock the Hugging Face client takes for a blob: it waits for us, and we, `wait` told, for it."""
    if not place.cached:
        yield
        return
    folder = place.root.parent / ".locks" / place.root.name
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{file.etag}.lock").open("a") as lock:
        wait_for_lock(lock.fileno(), control, wait)
        yield
