"""Files of facts, and the one file that keeps what updates brought, entry by entry.

Nobody vouches for what they say: they are bounded, checked key by key, and never run.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import tomli_w

from engine.compat.registry_rules import (
    FORM,
    SECTIONS,
    Place,
    Tables,
    check_form,
    read_date,
    read_list,
    read_table,
    read_tables,
    read_text,
    shown,
)
from engine.tomltext import loads

MOST_BYTES = 1 << 20
_MOST_DOTS = 64  # in a line: what a dotted key costs to read grows with the square of its parts


@dataclass(frozen=True)
class Source:
    """A file of facts. `kind` is shipped, update or own; `left_out` says why it does not count, `broken` whether
    somebody should mend it."""

    kind: str
    file: str
    revised: date | None = None
    sha256: str | None = None
    when: datetime | None = None
    left_out: str | None = None
    broken: bool = False

    @property
    def title(self) -> str:
        if self.kind == "shipped":
            return f"shipped {self.revised}"
        return f"{self.file} of {self.revised}" if self.revised else self.file


@dataclass(frozen=True)
class Layer:
    """What one file says."""

    source: Source
    tables: Tables


def read_bytes(path: Path, *, absent_ok: bool = False) -> bytes | None:
    """What a regular file of bounded size holds; None when it is absent and may be."""
    place = Place(shown(path))
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # opening a pipe would wait for its writer
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise place.bad("is no regular file", "Name a TOML file.")
            with os.fdopen(handle, "rb", closefd=False) as file:
                data = file.read(MOST_BYTES + 1)
        finally:
            os.close(handle)
    except OSError as error:
        if absent_ok and error.errno in (errno.ENOENT, errno.ENOTDIR):
            return None
        raise place.bad(f"cannot be read: {error.strerror}", "Name a TOML file that you may read.") from error
    if len(data) > MOST_BYTES:
        raise place.bad(f"is larger than {MOST_BYTES >> 20} MiB", "Name a file of compatibility facts.")
    return data


def read_layer(kind: str, file: str, data: bytes, *, dated: bool = True, when: datetime | None = None) -> Layer:
    """What a file says. Raises `JobError` naming the first thing that is wrong."""
    place = Place(file)
    document = _parse(place, data)
    read_table(place, document, ("form", "revised", *SECTIONS))
    if dated or "form" in document:
        check_form(place, document)
    revised = read_date(place / "revised", document.get("revised")) if dated or "revised" in document else None
    tables = read_tables(place, {key: value for key, value in document.items() if key in SECTIONS})
    return Layer(Source(kind, file, revised, hashlib.sha256(data).hexdigest(), when), tables)


def _parse(place: Place, data: bytes) -> dict[str, Any]:
    try:
        text = data.decode("utf-8")
        for number, line in enumerate(text.split("\n"), 1):
            if line.count(".") > _MOST_DOTS and not line.lstrip().startswith("#"):
                raise place.bad(f"has more than {_MOST_DOTS} dots in line {number}", "Write it in several lines.")
        return loads(text)
    except (ValueError, RecursionError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        told = "".join(char if char.isprintable() else "?" for char in why)[:200]
        raise place.bad(f"is not valid TOML: {told}", "Correct the file at that place.") from error


# --- what updates brought ---------------------------------------------------------------------------------------------


def dump_kept(layers: Iterable[Layer]) -> bytes:
    """Layers of updates as one file, each with where it comes from."""
    entries = [
        {
            "file": layer.source.file,
            "sha256": layer.source.sha256,
            "when": layer.source.when,
            "revised": layer.source.revised,
            "facts": layer.tables,
        }
        for layer in layers
    ]
    note = "# What `wan-tui update-registry` merged over the facts that ship, one entry a file.\n"
    return (note + tomli_w.dumps({"form": FORM, "provenance": entries})).encode()


def read_kept(file: str, data: bytes) -> list[Layer]:
    """The layers that `dump_kept` wrote. Raises `JobError` naming the first thing that is wrong."""
    place = Place(file, remedy=f"Remove {file}, and merge your updates again.")
    document = _parse(place, data)
    read_table(place, document, ("form", "provenance"))
    check_form(place, document)
    entries = read_list(place / "provenance", document.get("provenance", []))
    return [_entry(place / "provenance" / str(number), entry) for number, entry in enumerate(entries)]


def _entry(place: Place, entry: object) -> Layer:
    table = read_table(place, entry, ("file", "sha256", "when", "revised", "facts"))
    file = read_text(place / "file", table.get("file"), MOST_BYTES)
    digest = read_text(place / "sha256", table.get("sha256"))
    when = table.get("when")
    if not isinstance(when, datetime):
        raise (place / "when").wrong(when, "the time of the merge")
    revised = read_date(place / "revised", table.get("revised"))
    return Layer(Source("update", file, revised, digest, when), read_tables(place / "facts", table.get("facts", {})))
