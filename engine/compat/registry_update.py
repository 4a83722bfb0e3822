"""`update-registry`: the facts of a file come over those that ship, and are kept with where they come from."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from engine.compat.registry import kept_file, kept_layers, shipped_layer
from engine.compat.registry_file import MOST_BYTES, Layer, dump_kept, read_bytes, read_layer
from engine.compat.registry_rules import SECTIONS, Place, Tables, dotted, shown
from engine.control import Control
from engine.errors import JobError, RunError
from engine.library.locks import wait_for_lock
from engine.paths import data_dir, write_atomic

_AHEAD = timedelta(days=366)  # clocks may be wrong


@dataclass(frozen=True)
class Change:
    """A fact that is new (`old` is None) or another one."""

    key: str
    old: Any
    new: Any


@dataclass(frozen=True)
class Update:
    """What an update changed; `kept` is the file that holds it now."""

    file: str
    sha256: str
    revised: date
    kept: Path
    changes: tuple[Change, ...]


def update_registry(file: Path) -> Update:
    """Merge the facts of a file over those that ship. Raises `JobError` when it is broken or older, and keeps nothing
    of it then."""
    path = Path(os.path.abspath(file))
    data = read_bytes(path)
    assert data is not None  # only an absent file that may be
    new = read_layer("update", shown(path), data, when=datetime.now(UTC).replace(microsecond=0))
    if not any(new.tables.values()):
        remedy = f"Give tables such as [models.…]; sections are {', '.join(SECTIONS)}."
        raise Place(new.source.file).bad("holds no facts", remedy)
    if new.source.revised and new.source.revised > date.today() + _AHEAD:
        remedy = "Give the day it was revised: one far ahead would keep every later update out."
        raise Place(new.source.file).bad(f"says it was revised on {new.source.revised}", remedy)
    try:
        folder = os.open(data_dir(), os.O_RDONLY | os.O_CLOEXEC)
        try:
            wait_for_lock(folder, Control(), lambda: None)  # two updates at once: the second sees what the first kept
            return _merge(new)
        finally:
            os.close(folder)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise RunError(
            "disk-full" if full else "cannot-save",
            f"{shown(kept_file())} cannot be written: {error.strerror}. Nothing was merged.",
            suggestions=["Free some space." if full else "Check the folder's owner and permissions."],
        ) from error


def _merge(new: Layer) -> Update:
    shipped, source = shipped_layer(), new.source
    kept, _ = kept_layers(shipped)
    _refuse_older(new, shipped, kept)
    known = {keys: value for layer in (shipped, *kept) for keys, value in _walk(layer.tables)}
    said = dict(_walk(new.tables))
    changes = tuple(Change(dotted(keys), known.get(keys), now) for keys, now in said.items() if known.get(keys) != now)
    # What this one says again, the ones before need not say any more.
    rest = [replace(one, tables=_tables(pair for pair in _walk(one.tables) if pair[0] not in said)) for one in kept]
    data = dump_kept([*(layer for layer in rest if layer.tables), new])
    if len(data) > MOST_BYTES:
        raise JobError(
            "registry-full",
            f"With {source.file} the merged facts would take more than {MOST_BYTES >> 20} MiB. Nothing changed.",
            suggestions=[f"To begin again with what ships, remove {shown(kept_file())}."],
        )
    write_atomic(kept_file(), data)
    assert source.sha256
    assert source.revised
    return Update(source.file, source.sha256, source.revised, kept_file(), changes)


def _refuse_older(new: Layer, shipped: Layer, kept: Sequence[Layer]) -> None:
    newest = max((shipped, *kept), key=lambda layer: str(layer.source.revised))
    if str(new.source.revised) >= str(newest.source.revised):
        return
    remedy = "Take a newer file."
    if newest is not shipped:
        remedy += f" To begin again with what ships, remove {shown(kept_file())}."
    is_of = f"{new.source.file} is of {new.source.revised}"
    raise JobError(
        "registry-older",
        f"{is_of}, older than what is here ({newest.source.title}). Nothing changed.",
        suggestions=[remedy],
    )


def _walk(tables: Tables) -> Iterator[tuple[tuple[str, str, str], Any]]:
    for section, names in tables.items():
        for name, keys in names.items():
            for key, value in keys.items():
                yield (section, name, key), value


def _tables(pairs: Iterable[tuple[tuple[str, str, str], Any]]) -> Tables:
    tables: dict[str, dict[str, dict[str, Any]]] = {}
    for (section, name, key), value in pairs:
        tables.setdefault(section, {}).setdefault(name, {})[key] = value
    return tables
