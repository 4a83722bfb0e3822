"""What is known of pipelines, families, models and variants: packages, memory, what their architecture allows.

Facts lie in layers: what ships, what `update-registry` merged, what the user adds. Nobody vouches for what these files
say: it is bounded, checked key by key, and never run.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeAlias

import platformdirs
import tomli_w

from engine.catalog import FAMILY_TASKS, ModelSpec, Variant
from engine.compat.needs import read_requirement
from engine.control import Control
from engine.errors import JobError, RunError
from engine.library.locks import wait_for_lock
from engine.paths import data_dir, data_place, write_atomic

FORM = 1
OPTIMISATIONS = ("resident", "staged", "streamed", "leaf", "windows", "cpu", "tiled-decode", "fp8-storage")
SECTIONS = ("pipelines", "families", "models", "variants")

_MOST_BYTES = 1 << 20
_MOST_DOTS = 64  # in a line: what a dotted key costs to read grows with the square of its parts
_MOST_TEXT = 500
_MOST_VRAM = 10**15
_JOINED = ("requires", "notes")  # of these the user's own add to what is there

# Section, then name, then key: models -> "t2v-1.3B@2.1.0" -> requires -> ("gguf>=0.10",)
_Tables: TypeAlias = Mapping[str, Mapping[str, Mapping[str, Any]]]


@dataclass(frozen=True)
class Facts:
    """All that is known of a model. `origin` says for people where each fact comes from; its keys are those of the
    facts, `requires.<package>` and `notes.<number>`."""

    pipeline: str | None
    requires: tuple[str, ...]
    optimisations: tuple[str, ...]
    vram_min_bytes: int | None
    vram_advice_bytes: int | None
    notes: tuple[str, ...]
    origin: Mapping[str, str]

    def asked_by(self, requirement: str) -> str:
        """Which fact asks for a package."""
        return self.origin[f"requires.{read_requirement(requirement).name}"]


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
class _Layer:
    source: Source
    tables: _Tables


@dataclass(frozen=True)
class Registry:
    """The facts, in the layers that count; `sources` are all files, those that were left out included."""

    sources: tuple[Source, ...]
    _layers: tuple[_Layer, ...] = field(repr=False)

    @property
    def problems(self) -> tuple[str, ...]:
        """What was left out because it is broken."""
        return tuple(f"{one.file} is left out: {one.left_out}" for one in self.sources if one.broken)

    def facts(self, spec: ModelSpec, variant: Variant | None = None) -> Facts:
        """What is known of a model, or of a variant of it."""
        origin: dict[str, str] = {}
        pipeline = spec.pipeline
        if pipeline:
            origin["pipeline"] = spec.source
        for value, source in self._said("models", spec.id).get("pipeline", ()):
            pipeline, origin["pipeline"] = value, source
        chain = [("pipelines", pipeline or ""), ("families", spec.family), ("models", spec.id)]
        if variant:
            chain += [("variants", variant.kind), ("models", f"{spec.id}:{variant.name}")]
        packages: dict[str, str] = {}
        notes: list[str] = []
        last: dict[str, Any] = {}
        for section, name in chain:
            for key, said in self._said(section, name).items():
                for value, source in said:
                    if key == "requires":
                        for one in map(read_requirement, value):
                            packages[one.name], origin[f"requires.{one.name}"] = str(one), source
                    elif key == "notes":
                        origin.update({f"notes.{len(notes) + number}": source for number in range(len(value))})
                        notes += value
                    elif key != "pipeline":
                        last[key], origin[key] = value, source
        return Facts(
            pipeline,
            tuple(packages.values()),
            last.get("optimisations", ()),
            last.get("vram_min_bytes"),
            last.get("vram_advice_bytes"),
            tuple(notes),
            origin,
        )

    def _said(self, section: str, name: str) -> dict[str, list[tuple[Any, str]]]:
        """What the layers say of one table, key by key: values and where they come from, the last one last."""
        said: dict[str, list[tuple[Any, str]]] = {}
        for layer in self._layers:
            source = f"{layer.source.title}, {_key((section, name))}"
            for key, value in layer.tables.get(section, {}).get(name, {}).items():
                adds = layer.source.kind == "own" and key in _JOINED
                said[key] = [*(said.get(key, ()) if adds else ()), (value, source)]
        return said


def own_file() -> Path:
    """Where the user's own additions are looked for."""
    return Path(platformdirs.user_config_dir("wan-tui")) / "registry.toml"


def kept_file() -> Path:
    """Where what `update-registry` merged is kept."""
    return data_place() / "registry.toml"


def load_registry() -> Registry:
    """The facts of this installation. What is broken among a user's files is left out, and said in `problems`."""
    shipped = _shipped()
    layers, sources = [shipped], [shipped.source]
    try:
        kept, old = _split(_kept(), shipped)
        layers += kept
        sources += [layer.source for layer in (*kept, *old)]
    except JobError as error:
        sources.append(Source("update", _shown(kept_file()), left_out=error.message, broken=True))
    own = Source("own", _shown(own_file()))
    try:
        if (data := _bytes(own_file(), absent_ok=True)) is not None:
            revised, tables = _document(_Place(own.file), data, dated=False)
            layers.append(_Layer(replace(own, revised=revised, sha256=_digest(data)), tables))
            sources.append(layers[-1].source)
    except JobError as error:
        sources.append(replace(own, left_out=error.message, broken=True))
    return Registry(tuple(sources), tuple(layers))


def _shipped() -> _Layer:
    file = Path(__file__).with_name("registry.toml")
    data = file.read_bytes()
    revised, tables = _document(_Place(str(file)), data, dated=True)
    return _Layer(Source("shipped", str(file), revised, _digest(data)), tables)


# --- updating ---------------------------------------------------------------------------------------------------------


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
    data = _bytes(path)
    assert data is not None  # only an absent file that may be
    place = _Place(_shown(path))
    revised, tables = _document(place, data, dated=True)
    assert revised is not None  # a dated document
    if not any(tables.values()):
        raise place.bad("holds no facts", f"Give tables such as [models.…]; sections are {', '.join(SECTIONS)}.")
    new = _Layer(Source("update", place.file, revised, _digest(data), datetime.now(UTC).replace(microsecond=0)), tables)
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
            f"{_shown(kept_file())} cannot be written: {error.strerror}. Nothing was merged.",
            suggestions=["Free some space." if full else "Check the folder's owner and permissions."],
        ) from error


def _merge(new: _Layer) -> Update:
    shipped, source = _shipped(), new.source
    kept, _ = _split(_kept(), shipped)
    newest = max((shipped, *kept), key=lambda layer: str(layer.source.revised))
    if str(source.revised) < str(newest.source.revised):
        remedy = "Take a newer file."
        if newest is not shipped:
            remedy += f" To begin again with what ships, remove {_shown(kept_file())}."
        raise JobError(
            "registry-older",
            f"{source.file} is of {source.revised}, older than what is here ({newest.source.title}). Nothing changed.",
            suggestions=[remedy],
        )
    known = {keys: value for layer in (shipped, *kept) for keys, value in _walk(layer.tables)}
    said = dict(_walk(new.tables))
    changes = tuple(Change(_key(keys), known.get(keys), now) for keys, now in said.items() if known.get(keys) != now)
    # What this one says again, the ones before need not say any more.
    rest = [(layer.source, _tables(pair for pair in _walk(layer.tables) if pair[0] not in said)) for layer in kept]
    data = _dump([*(_Layer(older, tables) for older, tables in rest if tables), new])
    if len(data) > _MOST_BYTES:
        raise JobError(
            "registry-full",
            f"With {source.file} the merged facts would take more than {_MOST_BYTES >> 20} MiB. Nothing changed.",
            suggestions=[f"To begin again with what ships, remove {_shown(kept_file())}."],
        )
    write_atomic(kept_file(), data)
    assert source.sha256
    assert source.revised
    return Update(source.file, source.sha256, source.revised, kept_file(), changes)


def _dump(layers: Iterable[_Layer]) -> bytes:
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


def _kept() -> list[_Layer]:
    """What updates have been merged, the oldest first."""
    data = _bytes(kept_file(), absent_ok=True)
    if data is None:
        return []
    place = _Place(_shown(kept_file()), remedy=f"Remove {_shown(kept_file())}, and merge your updates again.")
    document = _parse(place, data)
    _table(place, document, ("form", "provenance"))
    _form(place, document)
    layers = []
    for number, entry in enumerate(_list(place / "provenance", document.get("provenance", []))):
        here = place / "provenance" / str(number)
        _table(here, entry, ("file", "sha256", "when", "revised", "facts"))
        file = _text(here / "file", entry.get("file"), _MOST_BYTES)
        digest = _text(here / "sha256", entry.get("sha256"))
        when = entry.get("when")
        if not isinstance(when, datetime):
            raise (here / "when").wrong(when, "the time of the merge")
        revised = _date(here / "revised", entry.get("revised"))
        source = Source("update", file, revised, digest, when)
        layers.append(_Layer(source, _facts(here / "facts", entry.get("facts", {}))))
    return layers


def _split(kept: Sequence[_Layer], shipped: _Layer) -> tuple[list[_Layer], list[_Layer]]:
    """Those that count, and those older than what ships by now."""
    counting, old = [], []
    for layer in kept:
        if str(layer.source.revised) >= str(shipped.source.revised):
            counting.append(layer)
        else:
            why = f"it is older than what ships, which is of {shipped.source.revised}"
            old.append(replace(layer, source=replace(layer.source, left_out=why)))
    return counting, old


def _walk(tables: _Tables) -> Iterator[tuple[tuple[str, str, str], Any]]:
    for section, names in tables.items():
        for name, keys in names.items():
            for key, value in keys.items():
                yield (section, name, key), value


def _tables(pairs: Iterable[tuple[tuple[str, str, str], Any]]) -> _Tables:
    tables: dict[str, dict[str, dict[str, Any]]] = {}
    for (section, name, key), value in pairs:
        tables.setdefault(section, {}).setdefault(name, {})[key] = value
    return tables


# --- reading and checking ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Place:
    """A key of a file, for messages; `remedy` is what helps where the file is not the user's."""

    file: str
    keys: tuple[str, ...] = ()
    remedy: str | None = None

    def __truediv__(self, key: str) -> _Place:
        return replace(self, keys=(*self.keys, key))

    def bad(self, problem: str, remedy: str) -> JobError:
        where = f"{self.file}: {_key(self.keys)}" if self.keys else self.file
        return JobError("bad-registry", f"{where} {problem}.", suggestions=[self.remedy or remedy])

    def wrong(self, value: object, right: str) -> JobError:
        return self.bad("is missing" if value is None else f"cannot be {_value(value)}", f"Give {right}.")


def _bytes(path: Path, *, absent_ok: bool = False) -> bytes | None:
    """What a regular file of bounded size holds; None when it is absent and may be."""
    place = _Place(_shown(path))
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # opening a pipe would wait for its writer
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise place.bad("is no regular file", "Name a TOML file.")
            with os.fdopen(handle, "rb", closefd=False) as file:
                data = file.read(_MOST_BYTES + 1)
        finally:
            os.close(handle)
    except OSError as error:
        if absent_ok and error.errno in (errno.ENOENT, errno.ENOTDIR):
            return None
        raise place.bad(f"cannot be read: {error.strerror}", "Name a TOML file that you may read.") from error
    if len(data) > _MOST_BYTES:
        raise place.bad(f"is larger than {_MOST_BYTES >> 20} MiB", "Name a file of compatibility facts.")
    return data


def _parse(place: _Place, data: bytes) -> dict[str, Any]:
    try:
        text = data.decode("utf-8")
        for number, line in enumerate(text.split("\n"), 1):
            if line.count(".") > _MOST_DOTS and not line.lstrip().startswith("#"):
                raise place.bad(f"has more than {_MOST_DOTS} dots in line {number}", "Write it in several lines.")
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        shown = "".join(char if char.isprintable() else "?" for char in why)[:200]
        raise place.bad(f"is not valid TOML: {shown}", "Correct the file at that place.") from error


def _document(place: _Place, data: bytes, *, dated: bool) -> tuple[date | None, _Tables]:
    """The date and the facts of a file. Raises `JobError` naming the first thing that is wrong."""
    document = _parse(place, data)
    _table(place, document, ("form", "revised", *SECTIONS))
    if dated or "form" in document:
        _form(place, document)
    revised = _date(place / "revised", document.get("revised")) if dated or "revised" in document else None
    return revised, _facts(place, {key: value for key, value in document.items() if key in SECTIONS})


def _facts(place: _Place, document: object) -> _Tables:
    tables: dict[str, dict[str, dict[str, Any]]] = {}
    for section, names in _table(place, document, SECTIONS).items():
        for name, keys in _table(place / section, names, FAMILY_TASKS if section == "families" else None).items():
            here = place / section / name
            rules = _RULES if section == "models" else {k: rule for k, rule in _RULES.items() if k != "pipeline"}
            for key, value in _table(here, keys, rules).items():
                tables.setdefault(section, {}).setdefault(name, {})[key] = rules[key](here / key, value)
    return tables


def _table(place: _Place, value: object, known: Iterable[str] | None) -> dict[str, Any]:
    """A table whose keys are among the known ones, or, without any, are plain text."""
    if not isinstance(value, dict):
        raise place.wrong(value, "a table")
    names = None if known is None else tuple(known)
    for key in value:
        if names is None:
            _text(place / key, key)
        elif key not in names:
            raise (place / key).bad("is unknown", _hint(key, names))
    return value


def _list(place: _Place, value: object) -> list[Any]:
    if not isinstance(value, list):
        raise place.wrong(value, "a list")
    return value


def _text(place: _Place, value: object, most: int = _MOST_TEXT) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= most or not value.isprintable():
        raise place.wrong(value, f"text of one line, at most {most} characters, without control characters")
    return value


def _date(place: _Place, value: object) -> date:
    if not isinstance(value, date) or isinstance(value, datetime):
        raise place.wrong(value, "the date of the facts, as 2026-11-21")
    return value


def _form(place: _Place, document: Mapping[str, Any]) -> None:
    value = document.get("form")
    if type(value) is int and value > FORM:
        raise (place / "form").bad(f"is {value}, which this version does not read", "Install a newer wan-tui.")
    if type(value) is not int or value != FORM:
        raise (place / "form").wrong(value, f"form = {FORM}")


def _packages(place: _Place, value: object) -> tuple[str, ...]:
    found = []
    for number, one in enumerate(_list(place, value)):
        here = place / str(number)
        try:
            found.append(str(read_requirement(_text(here, one))))
        except ValueError as error:
            raise here.bad(f"= {_value(one)} {error}", 'Give a name and versions, as "ftfy>=6.3".') from None
    return tuple(found)


def _optimisations(place: _Place, value: object) -> tuple[str, ...]:
    for number, one in enumerate(_list(place, value)):
        if one not in OPTIMISATIONS:
            here, wrong = place / str(number), one if isinstance(one, str) else ""
            raise here.bad(f"cannot be {_value(one)}", _hint(wrong, OPTIMISATIONS))
    return tuple(_list(place, value))


def _memory(place: _Place, value: object) -> int:
    if type(value) is not int or not 0 < value <= _MOST_VRAM:
        raise place.wrong(value, "a number of bytes, as 24_000_000_000")
    return value


def _notes(place: _Place, value: object) -> tuple[str, ...]:
    return tuple(_text(place / str(number), one) for number, one in enumerate(_list(place, value)))


def _pipeline(place: _Place, value: object) -> str:
    if not re.fullmatch(r"[A-Z]\w{0,99}", text := _text(place, value), re.ASCII):
        raise place.wrong(value, "the name of a class")
    return text


_RULES: dict[str, Callable[[_Place, object], Any]] = {
    "pipeline": _pipeline,
    "requires": _packages,
    "optimisations": _optimisations,
    "vram_min_bytes": _memory,
    "vram_advice_bytes": _memory,
    "notes": _notes,
}


# --- words ------------------------------------------------------------------------------------------------------------


def _key(keys: Sequence[str]) -> str:
    """A dotted key as TOML writes it, cut short."""
    return ".".join(key if re.fullmatch(r"[\w-]+", key, re.ASCII) else f"{_plain(key)!r:.80}" for key in keys)


def _value(value: object) -> str:
    """A value as messages show it, cut short."""
    try:
        return f"{value!r:.80}"
    except ValueError:  # Python writes no whole number of thousands of digits
        return "a number as long as that"


def _hint(wrong: str, known: Iterable[str]) -> str:
    names = tuple(known)
    near = get_close_matches(wrong[:100].casefold(), names, 3, 0.45)
    return f"Did you mean {' or '.join(near)}?" if near else f"Known: {', '.join(names)}."


def _shown(path: Path) -> str:
    """A path as text that can be written and shown."""
    return _plain(os.fsencode(path).decode("utf-8", "backslashreplace"))


def _plain(text: str) -> str:
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
