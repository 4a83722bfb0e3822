"""Which files, of which commit, go where: from a lock file where there is one, else from the Hub."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from engine.control import Control
from engine.errors import ModelError, WanError
from engine.library.crew import work
from engine.library.digest import Digests
from engine.library.hub import Line, Manners, ask_listing, is_online
from engine.library.item import Item, Source
from engine.library.listing import File, Listing, is_commit
from engine.library.locate import look_at
from engine.library.place import OURS, Place, new_place, serving

_WEIGHTLESS = ("scheduler", "tokenizer", "image_processor")


@dataclass(frozen=True)
class Want:
    """A file to have at a place. `name` is what people read, and unique within an item."""

    name: str
    place: Place
    file: File
    listing: Listing

    @property
    def store(self) -> Path:
        return self.place.store(self.file)

    @property
    def sealed(self) -> bool:
        """Weights of a plain folder may not be written to: several folders can share their bytes."""
        return not self.place.cached and self.file.git is None


def resolve(
    item: Item,
    control: Control,
    manners: Manners,
    warn: Callable[[str], None],
    revision: str | None = None,
    beside: Path | None = None,
) -> list[Want]:
    """Every file an item needs. The Hub is asked only for what no lock file tells.

    `revision` is taken instead of the manifest's; where the Hub cannot be reached, the lists of the cache at `beside`
    are believed instead. Raises `ModelError`, `RunError` (`unreachable`), `Cancelled`.
    """
    if not item.sources:
        raise ModelError(
            "not-downloadable",
            f"{item.id} comes from no repository: there is nothing to fetch.",
            suggestions=["It is made or lies on this box: `wan-tui models show` says where."],
        )
    wants: list[Want] = []
    for number, source in enumerate(item.sources):
        other = None if source.borrowed else revision
        asked = other or source.revision
        known = None if other and not is_commit(other) else _known(item, source, other)
        if known is None:
            try:
                listing = _asked(source.repo, asked, control, manners, warn)
            except WanError as error:
                found = _listed_at(beside, source.repo, asked) if error.code in ("offline", "unreachable") else None
                if found is None:
                    raise
                listing = replace(found, confirmed=False)
                warn(f"{error.message} The list of files is that of {beside}.")
            known = listing, new_place(source.repo, listing.commit)
        listing, place = known
        if other and other != source.revision:
            listing = replace(listing, instead_of=source.revision or "main")
        prefix = f"{source.repo}/" if number else ""
        files = source.wanted(listing)
        _check_complete(item, listing, files)
        wants += [Want(prefix + file.path, place, file, listing) for file in files]
    return wants


def _check_complete(item: Item, listing: Listing, files: Sequence[File]) -> None:
    """Refuse, before anything is fetched, a repository that does not hold a model."""
    if lacks := _lacks({file.path for file in files}, item.spec.required if item.variant is None else ()):
        raise ModelError(
            "not-in-repository",
            f"{listing.repo} has no {lacks} at {listing.commit[:12]}.",
            suggestions=["Check its name in the manifest, or name another revision with --revision."],
        )


def _lacks(paths: set[str], components: Sequence[str]) -> str | None:
    if not paths:
        return "file that a model needs"
    for name in components:
        own = [path for path in paths if path.startswith(f"{name}/")]
        if not own:
            return f"folder {name}"
        if name not in _WEIGHTLESS and not any(path.endswith(".safetensors") for path in own):
            return f"safetensors in {name}"
    return "model_index.json" if components and "model_index.json" not in paths else None


def _known(item: Item, source: Source, revision: str | None) -> tuple[Listing, Place] | None:
    """A listing kept on this box for what is asked, and where its files go: where they all are, else where we write."""
    digests = Digests()
    for place, listing in serving(source.repo, source.revision if revision is None else revision):
        if listing is None or (revision and listing.commit != revision):
            continue
        if not listing.confirmed and is_online():
            continue
        try:
            source.wanted(listing)
        except ModelError:
            continue
        if look_at(place, listing, source, item.spec, digests).whole:
            return listing, place
        return listing, new_place(source.repo, listing.commit)
    return None


def _listed_at(cache: Path | None, repo: str, asked: str | None) -> Listing | None:
    """The newest list of a repository that another cache keeps, of the commit asked for where it is one."""
    name = f"models--{repo.replace('/', '--')}"
    for root in (cache, cache / name, cache / "hub" / name) if cache else ():
        lists = [*root.glob("trees/*.json"), *root.glob(f"{OURS}/*.json")] if root.name == name else []
        lists.sort(key=lambda file: file.stat().st_mtime, reverse=True)
        commits = [file.stem for file in lists if not is_commit(asked) or file.stem == asked]
        for found in (Place(repo, root, commit, cached=True).listing() for commit in commits):
            if found:
                return found
    return None


def _asked(repo: str, revision: str | None, control: Control, manners: Manners, warn: Callable[[str], None]) -> Listing:
    answer: list[Listing] = []
    with Line(manners) as line:
        work([lambda _: answer.append(ask_listing(line, repo, revision, warn))], 1, control, stop=line.cut)
    return answer[0]
