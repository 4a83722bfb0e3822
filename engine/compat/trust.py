"""Which models the user trusts with code or pickles: remembered with the hash of every file, in a file of ours.

The store is as much data as any other file: every value of it is checked, and a damaged one trusts nobody.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engine.control import Control
from engine.errors import RunError
from engine.library.item import Item
from engine.library.jsonfile import plain_json
from engine.library.listing import is_commit
from engine.library.locks import wait_for_lock
from engine.paths import state_dir, state_place, write_atomic
from engine.regular import regular_bytes

STORE = "trust.json"
_MOST_STORE = 4 << 20
_SHA256 = re.compile("[0-9a-f]{64}")
_PART = r"[A-Za-z_][A-Za-z0-9_.-]{0,119}"
_CODE = re.compile(rf"({_PART}/)?[A-Za-z_][A-Za-z0-9_]{{0,99}}\.py")
_PICKLE = re.compile(rf"{_PART}/[^/\0]{{1,255}}")


@dataclass(frozen=True)
class Trusted:
    """A file as it was when it was trusted."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Record:
    """What is trusted of one model: `uses` is label to (path of the module, class), `code` and `pickles` path to file.

    `repo` and `revision` are where its code came from, where that was a repository.
    """

    model: str
    path: str
    when: str
    repo: str | None
    revision: str | None
    uses: Mapping[str, tuple[str, str]]
    code: Mapping[str, Trusted]
    pickles: Mapping[str, Trusted]

    @property
    def name(self) -> str:
        """What its private copy is called: a hash of all its code."""
        files = sorted((path, file.sha256) for path, file in self.code.items())
        return hashlib.sha256(json.dumps(files).encode()).hexdigest()

    @property
    def copy(self) -> Path:
        return copies() / self.name


@dataclass(frozen=True)
class Store:
    """The trusted models by key; `broken` is why none could be read, `cure` what to do about that."""

    records: Mapping[str, Record]
    broken: str | None = None
    cure: str = "Restore the file, or remove it and trust your models again."


def key_of(item: Item) -> str:
    """What a model is remembered under: its id, or the real path of a folder that is no model of the catalog."""
    return os.path.realpath(item.id) if os.path.isabs(item.id) else item.id


def copies() -> Path:
    """Where code that was trusted is kept, and run from."""
    return state_place() / "trust"


def store_file() -> Path:
    return state_place() / STORE


# --- the store --------------------------------------------------------------------------------------------------------


def read_store() -> Store:
    """What is trusted. A store that is damaged, or that others could have written, counts for nothing.

    Nothing is made for it: where no state folder can be, nothing is trusted.
    """
    file = store_file()
    try:
        info = os.stat(file)
        if info.st_uid != os.geteuid():
            return Store({}, "it belongs to another user")
        if info.st_mode & 0o022:
            return Store({}, "others may write to it", f"If what it says is yours: chmod go-w {shlex.quote(str(file))}")
        table = plain_json(regular_bytes(file, _MOST_STORE).decode())
        rows = table["models"]
        return Store({str(key): _record(key, row) for key, row in rows.items()})
    except (FileNotFoundError, NotADirectoryError):
        return Store({})
    except PermissionError as error:
        return Store({}, f"it cannot be read: {error.strerror}", "Check the permissions of the file and its folder.")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return Store({}, f"it is damaged: {type(error).__name__}")


def _record(key: str, row: Mapping[str, Any]) -> Record:
    """A record of the store, every value of it checked. Raises `ValueError` or what a wrong type raises."""
    code = {path: _file(path, file, _CODE) for path, file in row["code"].items()}
    pickles = {path: _file(path, file, _PICKLE) for path, file in row["pickles"].items()}
    uses = {str(label): (str(path), str(kind)) for label, (path, kind) in row["uses"].items()}
    texts = [row["path"], row["when"]]
    texts += [row[name] for name in ("repo", "revision") if row[name] is not None]
    if not all(isinstance(text, str) and len(text) < 5000 for text in texts):
        raise ValueError("no text")
    if any(path not in code for path, _ in uses.values()) or not key or not (code or pickles):
        raise ValueError("a class of no file")
    if row["revision"] is not None and not is_commit(row["revision"]):
        raise ValueError("no commit")
    return Record(key, row["path"], row["when"], row["repo"], row["revision"], uses, code, pickles)


def _file(path: str, row: Mapping[str, Any], form: re.Pattern[str]) -> Trusted:
    if not form.fullmatch(path) or not _SHA256.fullmatch(row["sha256"]) or type(row["bytes"]) is not int:
        raise ValueError("no trusted file")
    return Trusted(row["sha256"], row["bytes"])


def remember(record: Record, source: Mapping[str, bytes]) -> Path | None:
    """Trust a model from now on; its code is copied to where nobody else writes, and is run from there.

    The answer is where a damaged store was put aside. Raises `RunError` where nothing can be kept.
    """
    with _locked():
        store = read_store()
        try:
            for folder in (copies(), record.copy) if source else ():
                folder.mkdir(exist_ok=True, mode=0o700)
            for path, text in source.items():
                target = record.copy / path
                target.parent.mkdir(exist_ok=True, mode=0o700)
                write_atomic(target, text)
            return _keep(store, {**store.records, record.model: record})
        except OSError:
            _drop(record, store.records)
            with suppress(OSError):
                copies().rmdir()  # where nothing else is in it
            raise


def forget(key: str) -> Record | None:
    """Take trust back, with the private copy that nothing else needs; None when there was none. Raises `RunError`."""
    if key not in read_store().records:
        return None  # so no folder is made for nothing
    with _locked():
        store = read_store()
        records = dict(store.records)
        gone = records.pop(key, None)
        if gone:
            _keep(store, records)
            _drop(gone, records)
        return gone


@contextmanager
def _locked() -> Iterator[None]:
    """The store, to be changed, while nobody else does."""
    try:
        with (state_dir() / f"{STORE}.lock").open("w") as lock:
            wait_for_lock(lock.fileno(), Control(), lambda: None)  # held for moments
            yield
    except OSError as error:
        raise not_kept(error) from error


def not_kept(error: OSError) -> RunError:
    """What is said where the state folder does not take what trust needs."""
    return RunError(
        "trust-not-kept",
        f"What is trusted cannot be written down in {store_file()}.",
        cause=f"{error.strerror or error}.",
        suggestions=[
            "Make room, or check the permissions of the folder.",
            "XDG_STATE_HOME names another place for it.",
        ],
    )


def _keep(store: Store, records: Mapping[str, Record]) -> Path | None:
    """Write the records. A damaged store is put aside, not written over: the answer is where."""
    file, aside = store_file(), None
    if store.broken:
        aside = file.with_suffix(".broken")
        os.replace(file, aside)
    rows = {key: _row(record) for key, record in records.items()}
    data = json.dumps({"version": 1, "models": rows}, indent=1).encode()
    try:
        write_atomic(file, data)
    except OSError:
        if len(records) >= len(store.records):
            raise
        _write_over(file, data)  # to trust less has to work on a full disk too
    return aside


def _write_over(file: Path, data: bytes) -> None:
    """Write a shorter store into the room of the old one. Until it is whole its first byte is none of JSON: cut short
    it is damaged, and trusts nobody."""
    with file.open("r+b", buffering=0) as stream:
        for place, part in ((0, b"!"), (1, data[1:]), (0, data[:1])):
            stream.seek(place)
            if stream.write(part) != len(part):
                raise OSError(f"{file} was written in part")
            if place:
                stream.truncate()
            os.fsync(stream.fileno())


def _drop(record: Record, others: Mapping[str, Record]) -> None:
    """Remove a private copy that no other record needs."""
    if not any(other.copy == record.copy for other in others.values()):
        shutil.rmtree(record.copy, ignore_errors=True)


def _row(record: Record) -> dict[str, Any]:
    table = asdict(record)
    del table["model"]
    return table
