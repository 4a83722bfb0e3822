"""What a library holds: models and their variants, and from which repositories each needs which files."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from engine.catalog import ModelSpec, Variant
from engine.errors import ModelError
from engine.library.listing import File, Listing, is_needed

MADE_HERE = "bf16"  # the kind of a variant that is made from the model's own weights
_EXPERTS = ("transformer", "transformer_2")


@dataclass(frozen=True)
class Source:
    """Files wanted of one repository: `only` these paths, else all a pipeline needs but the folders in `without`.

    `pins` are the first digits of a SHA-256, by path. `borrowed` files belong to the model, not to its variant.
    """

    repo: str
    revision: str | None = None
    only: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    pins: tuple[tuple[str, str], ...] = ()
    borrowed: bool = False

    def wanted(self, listing: Listing) -> tuple[File, ...]:
        """The files of a listing that are wanted. Raises `ModelError` when one is missing or is not the pinned one."""
        if not self.only:
            needed = (file for file in listing.files if is_needed(file.path))
            return tuple(file for file in needed if file.path.split("/")[0] not in self.without)
        if missing := [path for path in self.only if path not in listing.by_path]:
            raise ModelError(
                "not-in-repository",
                f"{self.repo} has no file {missing[0]} at {listing.commit[:12]}.",
                suggestions=["The repository has changed: name another revision with --revision."],
            )
        for path, pin in self.pins:
            if not (listing.by_path[path].sha256 or "").startswith(pin):
                raise ModelError(
                    "not-the-pinned-file",
                    f"{path} of {self.repo} is not the file the manifest pins: its SHA-256 does not begin with {pin}.",
                    suggestions=["Check HF_ENDPOINT; if the file was republished, correct the manifest."],
                )
        return tuple(listing.by_path[path] for path in self.only)


@dataclass(frozen=True)
class Item:
    """A model, or one variant of it, as a thing to have on disk."""

    spec: ModelSpec
    variant: Variant | None = None

    @property
    def id(self) -> str:
        return f"{self.spec.id}:{self.variant.name}" if self.variant else self.spec.id

    @property
    def made(self) -> bool:
        """Made on this box from the model, not downloaded."""
        return self.variant is not None and self.variant.kind == MADE_HERE

    @property
    def base(self) -> Item:
        return Item(self.spec)

    @cached_property
    def sources(self) -> tuple[Source, ...]:
        """The repositories it comes from, its own first; none for what is built in, made here or lies in a folder."""
        spec, variant = self.spec, self.variant
        if variant is None or variant.kind == MADE_HERE:
            return (Source(spec.repo, spec.revision),) if spec.repo and variant is None else ()
        pins = tuple(zip(variant.files, variant.sha256, strict=False))
        own = Source(variant.repo or "", variant.revision, variant.files, pins=pins)
        if not variant.files or variant.kind.startswith("lora") or not spec.repo:
            return (own,)  # a whole repository, or an add-on of whatever it is added to
        return own, Source(spec.repo, spec.revision, without=_EXPERTS, borrowed=True)

    @property
    def expected_bytes(self) -> int | None:
        """Bytes as the manifest gives them; None when it does not."""
        return self.variant.bytes if self.variant else self.spec.bytes
