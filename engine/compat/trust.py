"""Which models the user trusts with code or pickles: remembered with the hash of every file, in a file of ours.

The store is as much data as any other file: every value of it is checked, and a damaged one trusts nobody.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engine.control import Control
from engine.errors import RunError
from engine.library.item import Item
from engine.library.jsonfile import plain_json
from engine.library.listing import is_commit
from engine.library.locks import wait_for_lock
from engine.paths import state_dir, write_atomic
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
    """The trusted models by key; `broken` is why none could be read."""

    records: Mapping[str, Record]
    broken: str | None = None


def key_of(item: Item) -> str:
    """What a model is remembered under: its id, or the real path of a folder that is no model of the catalog."""
    return os.path.realpath(item.id) if os.path.isabs(item.id) else item.id


def copies() -> Path:
    """Where code that was trusted is kept, and run from."""
    return state_dir() / "trust"


# --- the store --------------------------------------------------------------------------------------------------------


def read_store() -> Store:
    """What is trusted. A store that is damaged, or that others could have written, counts for nothing."""
    file = state_dir() / STORE
    try:
        info = os.stat(file)
        if info.st_uid != os.geteuid() or info.st_mode & 0o022:
            return Store({}, "others may write to it")
        table = plain_json(regular_bytes(file, _MOST_STORE).decode())
        rows = table["models"]
        return Store({str(key): _record(key, row) for key, row in rows.items()})
    except FileNotFoundError:
        return Store({})
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


def remember(record: Record, source: Mapping[str, bytes]) -> None:
    """Trust a model from now on; its code is copied to where nobody else writes, and is run from there."""
    with _writing() as records:
        for folder in (copies(), record.copy) if source else ():
            folder.mkdir(exist_ok=True, mode=0o700)
        for path, text in source.items():
            target = record.copy / path
            target.parent.mkdir(exist_ok=True, mode=0o700)
            write_atomic(target, text)
        records[record.model] = record


def forget(key: str) -> Record | None:
    """Take trust back, with the private copy that nothing else needs; None when there was none."""
    with _writing() as records:
        gone = records.pop(key, None)
    if gone and not any(record.copy == gone.copy for record in read_store().records.values()):
        shutil.rmtree(gone.copy, ignore_errors=True)
    return gone


@contextmanager
def _writing() -> Iterator[dict[str, Record]]:
    """The records, to be changed, while nobody else does. A damaged store is put aside, not written over."""
    file = state_dir() / STORE
    try:
        with (state_dir() / f"{STORE}.lock").open("w") as lock:
            wait_for_lock(lock.fileno(), Control(), lambda: None)  # held for moments
            store = read_store()
            records = dict(store.records)
            before = dict(records)
            yield records
            if records == before:
                return
            if store.broken:
                os.replace(file, file.with_suffix(".broken"))
            rows = {key: _row(record) for key, record in records.items()}
            write_atomic(file, json.dumps({"version": 1, "models": rows}, indent=1).encode())
    except OSError as error:
        raise RunError(
            "trust-not-kept",
            f"{file} cannot be written: {error.strerror or error}.",
            suggestions=["Make room, or check the permissions of the folder."],
        ) from error


def _row(record: Record) -> dict[str, Any]:
    table = asdict(record)
    del table["model"]
    return table
