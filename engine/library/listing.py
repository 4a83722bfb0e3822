"""What a repository holds at one commit: each path with its size and digest, checked before anything is believed.

A listing comes from a server and decides where bytes are written, so every name in it is data. It is kept beside the
weights as a lock file: with it a later look, verify or repair needs no network.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from engine.errors import ModelError
from engine.paths import write_atomic

_SHA256 = re.compile("[0-9a-f]{64}")
_SHA1 = re.compile("[0-9a-f]{40}")
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\\\\]")
_MOST_FILES = 10_000
_MOST_BYTES = 1 << 50
_NAME_BYTES = 255
_PATH_BYTES = 1_000
# What a repository shows to people, and weights that are programs: none of it is needed to run a model.
_LEFT_OUT = re.compile(
    r"(^|/)\.|^(assets|examples)/|\.(md|py|bin|pt|pth|ckpt|pkl|pickle|msgpack|h5|onnx)$", re.IGNORECASE
)


@dataclass(frozen=True)
class File:
    """One file of a repository: `size` in bytes, `sha256` where known, `git` the id of its git blob (SHA-1) if any.

    `git` is the id of the file itself only where it is no LFS file: `sha256` is None then until it was counted here.
    """

    path: str
    size: int
    sha256: str | None = None
    git: str | None = None

    @property
    def etag(self) -> str:
        """The name of its blob in the Hugging Face cache; it is also what its bytes have to hash to."""
        return self.git or self.sha256 or ""


@dataclass(frozen=True)
class Listing:
    """The files of `repo` at `commit`.

    `asked` is the branch, tag or commit that was resolved to it; `instead_of` the manifest's revision whose place it
    takes, where the user asked for another; `coming` are files of a plain folder that held another commit and may still
    be those of it. One that is not `confirmed` came from another cache, and the Hub is still to be asked.
    """

    repo: str
    commit: str
    files: tuple[File, ...]
    asked: str | None = None
    instead_of: str | None = None
    coming: frozenset[str] = frozenset()
    confirmed: bool = True

    def serves(self, revision: str | None) -> bool:
        """Whether it is what a manifest means that gives this revision, `main` when None."""
        wanted = revision or "main"
        return wanted in (self.commit, self.asked or "main", self.instead_of)

    @cached_property
    def by_path(self) -> dict[str, File]:
        return {file.path: file for file in self.files}

    def with_digests(self, known: dict[str, str]) -> Listing:
        """The same with the SHA-256 of files (by path) that the server gave none for."""
        files = (replace(file, sha256=known.get(file.path, file.sha256)) for file in self.files)
        return replace(self, files=tuple(files))

    def save(self, lock: Path) -> None:
        rows = [
            {key: value for key, value in vars(file).items() if value is not None}
            for file in sorted(self.files, key=lambda file: file.path)
        ]
        table = {"version": 1, "repo": self.repo, "commit": self.commit, "asked": self.asked}
        table |= {"instead_of": self.instead_of, "coming": sorted(self.coming)}
        table |= {"confirmed": self.confirmed, "files": rows}
        lock.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(lock, json.dumps(table, indent=1).encode(), shared=True)


def is_commit(text: object) -> bool:
    return isinstance(text, str) and _SHA1.fullmatch(text) is not None


def is_needed(path: str) -> bool:
    """Whether a model runs with this file of its repository: no pictures, no prose, no pickles, no programs."""
    return not _LEFT_OUT.search(path)


def read_lock(lock: Path) -> Listing | None:
    """A listing kept on disk; None where there is none or it is damaged: it is asked for again."""
    try:
        table = json.loads(lock.read_bytes())
        rows = [(row["path"], row["size"], row.get("sha256"), row.get("git")) for row in table["files"]]
        found = checked_listing(table["repo"], table["commit"], rows, table.get("asked"))
        instead_of = table.get("instead_of")
        coming = frozenset(map(str, table.get("coming", ())))
        confirmed = table.get("confirmed") is not False
        instead_of = instead_of if isinstance(instead_of, str) else None
        return replace(found, instead_of=instead_of, coming=coming, confirmed=confirmed)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, ModelError):
        return None


def checked_listing(repo: str, commit: object, rows: Iterable[tuple[Any, Any, Any, Any]], asked: str | None) -> Listing:
    """A listing of (path, size, sha256, git id) rows, every value of it checked.

    Raises `ModelError` (`bad-listing`) for a name that would leave its folder or could rewrite a screen, for sizes and
    digests that are none, and for two files in one place.
    """
    if not isinstance(commit, str) or not is_commit(commit):
        raise _bad(repo, f"its commit is {commit!r:.80}")
    if asked is not None and (why := _wrong_path(asked)):  # it names a file of the cache
        raise _bad(repo, f"it is of the revision {asked!r:.120}, which {why}")
    files: dict[str, File] = {}
    folders: set[str] = set()
    sizes: dict[str, int] = {}
    for path, size, sha256, git in rows:
        if why := _wrong_path(path):
            raise _bad(repo, f"it names the file {path!r:.120}, which {why}")
        if type(size) is not int or not 0 <= size <= _MOST_BYTES:
            raise _bad(repo, f"it gives {path} the size {size!r:.40}")
        for value, form in ((sha256, _SHA256), (git, _SHA1)):
            if value is not None and not (isinstance(value, str) and form.fullmatch(value)):
                raise _bad(repo, f"it gives {path} the digest {value!r:.80}")
        if sha256 is None and git is None:
            raise _bad(repo, f"it gives {path} no digest")
        if path in files:
            raise _bad(repo, f"it names {path} twice")
        files[path] = File(path, size, sha256, git)
        if sizes.setdefault(files[path].etag, size) != size:
            raise _bad(repo, f"it gives {path} the digest of a file of another size")
        folders.update(map(str, PurePosixPath(path).parents))
        if len(files) > _MOST_FILES:
            raise _bad(repo, f"it names more than {_MOST_FILES} files")
    if both := folders & files.keys():
        raise _bad(repo, f"it names {min(both)} as a file and as a folder")
    return Listing(repo, commit, tuple(files.values()), asked)


def _wrong_path(path: object) -> str | None:
    """Why a path from a server is refused; None when it may be written below a folder of ours."""
    if not isinstance(path, str) or not path:
        return "is no name"
    if _UNSAFE.search(path):
        return "holds control characters or backslashes"
    if path.startswith("/"):
        return "is absolute"
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts):
        return "leaves its folder"
    try:
        too_long = len(path.encode()) > _PATH_BYTES or any(len(part.encode()) > _NAME_BYTES - 60 for part in parts)
    except UnicodeEncodeError:
        return "is not valid Unicode"
    return "is too long" if too_long else None


def _bad(repo: str, why: str) -> ModelError:
    return ModelError(
        "bad-listing",
        f"The listing of {repo} is refused: {why}.",
        cause="A server or lock file that says this is broken or hostile; nothing was written.",
        suggestions=["Check HF_ENDPOINT and the repository; with a mirror, try the Hub itself."],
    )
