"""The lock file of each place: what should lie there, written before anything comes, completed when all is there."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

from engine.control import Control
from engine.library.digest import Digests
from engine.library.listing import File, Listing, is_commit, is_needed, read_lock
from engine.library.locate import matches
from engine.library.locks import try_lock, wait_for_lock
from engine.library.place import OURS, Place
from engine.library.resolve import Want
from engine.library.room import is_read_only
from engine.paths import write_atomic

_BEFORE = "before-"


def begin(wants: Sequence[Want], coming: Collection[str]) -> None:
    """Write down what is to come, the paths in `coming`: from then on disk alone tells how far it is. What lay there
    was hashed before."""
    for place, listing in {want.place: want.listing for want in wants}.items():
        with _alone(place):
            old = read_lock(place.lock)
            ours = old is not None and old.repo == listing.repo
            if old and ours and old.commit == listing.commit and _rows(old) == _rows(listing):
                same = replace(old, asked=listing.asked, instead_of=listing.instead_of, confirmed=listing.confirmed)
                if same != old:
                    same.save(place.lock)
                continue
            if old and ours and not place.cached:  # what it lists goes once the new is whole
                old.save(place.lock.with_name(f"{_BEFORE}{old.commit}.json"))
                listing = replace(listing, coming=frozenset(coming))
            listing.save(place.lock)


@contextmanager
def _alone(place: Place) -> Iterator[None]:
    """The only one that writes notes beside these weights; what a killed one left half-written goes."""
    place.make_parents(place.lock)
    folder = os.open(place.lock.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        wait_for_lock(folder, Control(), lambda: None)  # held for moments
        for part in (*place.lock.parent.glob(".*.part"), *(place.root / "refs").rglob(".*.part")):
            part.unlink(missing_ok=True)
        yield
    finally:
        os.close(folder)


def _rows(listing: Listing) -> dict[str, tuple[int, str]]:
    """What a listing says of each file, less the SHA-256 that was counted here."""
    return {file.path: (file.size, file.etag) for file in listing.files}


def _leave(old: Listing, new: Listing, place: Place, digests: Digests) -> None:
    """Take away what a plain folder held of another commit and this one lacks, unless somebody has changed it."""
    for file in old.files:
        path = place.path(file)
        if file.path in new.by_path or not is_needed(file.path) or not place.holds(path) or path.is_symlink():
            continue
        if (found := digests.of(path)) and matches(file, found):
            before = path.stat()
            path.unlink()
            digests.keep([before])  # the new commit may have the same bytes under another name


def finish(wants: Sequence[Want], digests: Digests) -> None:
    """Complete the lock files with what was counted, name the branch, and take away what is no longer wanted: parts,
    and files of the commits a plain folder held before."""
    for place, listing in {want.place: want.listing for want in wants}.items():
        try:
            with _alone(place):
                _finish(place, listing, [want.file for want in wants if want.place == place], digests)
        except OSError as error:  # a library of another user, where all is there
            if not is_read_only(error):
                raise
    digests.save()


def _finish(place: Place, listing: Listing, files: Sequence[File], digests: Digests) -> None:
    kept = read_lock(place.lock) or listing
    if kept.commit != listing.commit:  # another process brings another revision to the same folder
        return
    unlisted = [file for file in files if file.sha256 is None]
    counted = {
        file.path: found.sha256 for file in unlisted if (found := digests.of(place.path(file))) and matches(file, found)
    }
    lacking = any(not place.path(file).is_file() for file in files)
    if not lacking:
        for before in place.lock.parent.glob(f"{_BEFORE}*.json"):
            if (old := read_lock(before)) and old.commit != listing.commit:
                _leave(old, listing, place, digests)
            before.unlink()
        kept = replace(kept, coming=frozenset())
    if (complete := kept.with_digests(counted)) != read_lock(place.lock):
        complete.save(place.lock)
    os.utime(place.lock)  # of several revisions the one last asked for is preferred
    if place.cached and not lacking and listing.asked and not is_commit(listing.asked):
        ref = place.root / "refs" / listing.asked
        place.make_parents(ref)
        write_atomic(ref, listing.commit.encode(), shared=True)
    _drop_parts(place)


def _drop_parts(place: Place) -> None:
    """Parts of files that are here by now, or that no lock file of the repository lists any more, are orphans."""
    ours = place.root / OURS
    listings = [read_lock(lock) for lock in (ours.glob("*.json") if place.cached else (place.lock,))]
    coming = {
        file.etag
        for listing in listings
        if listing
        for file in listing.files
        if not replace(place, commit=listing.commit).store(file).is_file()
    }
    for part in sorted((ours / "parts").glob("*")):
        with suppress(OSError), part.open("r+b") as stream:
            if try_lock(stream.fileno()) and part.name not in coming:
                part.unlink()
    with suppress(OSError):
        (ours / "parts").rmdir()
