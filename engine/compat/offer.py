"""What would be trusted of a model, to be shown before anybody agrees: every file with its hash, and where it is from.

Code of a model of the catalog is that of its repository at the commit on disk. A library without it on disk fetches it
here, checked against the listing; nothing of it is imported.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from engine.compat.anatomy import Anatomy
from engine.compat.finding import refuse, remedy
from engine.compat.grant import MOST_BYTES
from engine.compat.risks import Risks, read_risks
from engine.compat.trust import Record, Trusted, key_of, not_kept
from engine.compat.trusting import hashed, pickle_paths
from engine.control import Control
from engine.errors import JobError, ModelError
from engine.library.crew import work
from engine.library.digest import Digest, git_hash
from engine.library.fetch import Part, fetch
from engine.library.hub import Line, Manners, ask_listing, file_url
from engine.library.item import Item
from engine.library.listing import File, Listing
from engine.library.locate import matches
from engine.library.place import serving
from engine.paths import state_dir
from engine.regular import regular_bytes

MOST_FILES = 50
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}\.py")


@dataclass(frozen=True)
class Offer:
    """A record that is not remembered yet, and the code that belongs to it."""

    record: Record
    source: Mapping[str, bytes]


def make_offer(
    item: Item, anatomy: Anatomy, control: Control, warn: Callable[[str], None], manners: Manners | None = None
) -> Offer:
    """Everything of a model that needs trust. Raises `ModelError` for what no trust allows, `JobError` for nothing."""
    risks = read_risks(anatomy)
    refuse(risks.refused)
    if not risks.any:
        raise JobError(
            "nothing-to-trust",
            f"{item.id} brings no code and needs no pickles: there is nothing to trust.",
            suggestions=[remedy("check", "check", item.id).command],
        )
    listing = _listing(item, anatomy.path, control, warn, manners or Manners()) if risks.uses else None
    uses, source = {}, {}
    if risks.uses:
        there = _lying(anatomy.path, risks) if listing is None else _listed(listing)
        uses = {use.label: (_module(use.paths, there, item), use.kind) for use in risks.uses}
        folders = {os.path.dirname(path) for path, _ in uses.values()}
        wanted = sorted(path for path in there if os.path.dirname(path) in folders)
        _check_number(item, wanted)
        if listing is None:
            source = {path: _read(anatomy.path / path) for path in wanted}
        else:
            source = _brought(anatomy.path, listing, wanted, control, warn, manners or Manners())
    code = {path: Trusted(hashlib.sha256(text).hexdigest(), len(text)) for path, text in source.items()}
    pickles: dict[str, Trusted] = {}
    for name, file in hashed(anatomy.path, pickle_paths(risks), control).items():
        if file is None:
            raise _unreadable(anatomy.path / name)
        pickles[name] = file
    when = datetime.now(UTC).isoformat(timespec="seconds")
    repo, revision = (listing.repo, listing.commit) if listing else (None, None)
    return Offer(Record(key_of(item), str(anatomy.path), when, repo, revision, uses, code, pickles), source)


# --- which files ------------------------------------------------------------------------------------------------------


def _lying(path: Path, risks: Risks) -> frozenset[str]:
    """The code beside the index and in the folders of components, of plain names alone."""
    found: set[str] = set()
    for folder in {os.path.dirname(name) for use in risks.uses for name in use.paths}:
        try:
            names = os.listdir(path / folder)
        except OSError:
            continue
        found.update(os.path.join(folder, name) for name in names if _plain(name))
    return frozenset(found)


def _listed(listing: Listing) -> frozenset[str]:
    return frozenset(file.path for file in listing.files if file.path.count("/") <= 1 and _plain(file.path))


def _plain(path: str) -> bool:
    name = os.path.basename(path)
    return _PLAIN.fullmatch(name) is not None and name != "__init__.py"


def _module(paths: Iterable[str], there: frozenset[str], item: Item) -> str:
    paths = list(paths)
    for path in paths:
        if path in there:
            return path
    raise ModelError(
        "no-code",
        f"{item.id} asks for the code {' or '.join(paths)}, which is not there.",
        suggestions=["Restore the file from where the model came from."],
    )


def _check_number(item: Item, wanted: list[str]) -> None:
    if len(wanted) > MOST_FILES:
        raise ModelError(
            "too-much-code",
            f"{item.id} brings {len(wanted)} files of code, and at most {MOST_FILES} can be trusted.",
            suggestions=["Use a model whose code can be read."],
        )


def _read(file: Path) -> bytes:
    try:
        return regular_bytes(file, MOST_BYTES)
    except (OSError, ValueError):
        raise _unreadable(file) from None


def _unreadable(file: Path) -> ModelError:
    return ModelError(
        "bad-model-file",
        f"{file} cannot be read, is no regular file, or changes while it is read.",
        cause=f"A file of code has at most {MOST_BYTES >> 20} MB." if file.suffix == ".py" else None,
        suggestions=["Check it, then try again."],
    )


# --- from the repository ----------------------------------------------------------------------------------------------


def _listing(item: Item, path: Path, control: Control, warn: Callable[[str], None], manners: Manners) -> Listing | None:
    """What the repository holds at the commit of the copy on disk; None for a folder that came from none."""
    origin = item.base if item.made else item
    if not origin.sources:
        return None
    source = origin.sources[0]
    revision = source.revision
    for place, listing in serving(source.repo, source.revision):
        if listing and listing.confirmed and (place.folder == path or item.made):
            return listing
        if place.folder == path:
            revision = place.commit or revision
    answer: list[Listing] = []
    with Line(manners) as line:
        work([lambda _: answer.append(ask_listing(line, source.repo, revision, warn))], 1, control, stop=line.cut)
    return answer[0]


def _brought(
    path: Path, listing: Listing, wanted: list[str], control: Control, warn: Callable[[str], None], manners: Manners
) -> dict[str, bytes]:
    """The code of a repository, from disk where it lies there, else fetched; all of it is what the listing says."""
    source: dict[str, bytes] = {}
    coming: list[File] = []
    for name in wanted:
        file = listing.by_path[name]
        if file.size > MOST_BYTES:
            raise ModelError(
                "too-much-code",
                f"{name} of {listing.repo} has {file.size} bytes, and code of at most {MOST_BYTES >> 20} MB can be "
                "trusted.",
            )
        if not os.path.lexists(path / name):
            coming.append(file)
            continue
        source[name] = _read(path / name)
        if not _is(file, source[name]):
            raise ModelError(
                "code-changed",
                f"{path / name} is not the file of {listing.repo} at {listing.commit[:12]}: its SHA-256 differs.",
                suggestions=["Remove it; it is fetched again from the repository."],
            )
    if coming:
        source |= _fetched(listing, coming, control, warn, manners)
    return source


def _fetched(
    listing: Listing, coming: list[File], control: Control, warn: Callable[[str], None], manners: Manners
) -> dict[str, bytes]:
    source: dict[str, bytes] = {}
    with _scratch() as folder, Line(manners) as line:

        def get(file: File, number: int) -> None:
            target = Path(folder, f"{number}.txt")
            part = Part(Path(folder, f"{number}.part"), file, lambda _: None)
            try:
                fetch(line, file_url(line, listing, file), part, target, False, warn)
            finally:
                part.close()
            source[file.path] = target.read_bytes()
            if not _is(file, source[file.path]):
                raise _unreadable(target)

        tasks = [lambda _, one=file, number=number: get(one, number) for number, file in enumerate(coming)]
        work(tasks, manners.files, control, stop=line.cut)
    return source


@contextmanager
def _scratch() -> Iterator[str]:
    """A folder for what comes, for this user alone. Raises `RunError`."""
    try:
        folder = tempfile.TemporaryDirectory(dir=state_dir(), prefix=".code-")
    except OSError as error:
        raise not_kept(error) from error
    with folder as name:
        yield name


def _is(file: File, text: bytes) -> bool:
    git = git_hash(len(text))
    git.update(text)
    return matches(file, Digest(hashlib.sha256(text).hexdigest(), git.hexdigest())) is True
