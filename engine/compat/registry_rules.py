"""What may stand in a file of facts, key by key, and how messages say what is wrong there."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeAlias

from engine.catalog import FAMILY_TASKS
from engine.compat.needs import read_requirement
from engine.errors import JobError

FORM = 1
OPTIMISATIONS = ("resident", "staged", "streamed", "leaf", "windows", "cpu", "tiled-decode", "fp8-storage")
SECTIONS = ("pipelines", "families", "models", "variants")

_MOST_TEXT = 500
_MOST_VRAM = 10**15

# Section, then name, then key: models -> "t2v-1.3B@2.1.0" -> requires -> ("gguf>=0.10",)
Tables: TypeAlias = Mapping[str, Mapping[str, Mapping[str, Any]]]


@dataclass(frozen=True)
class Place:
    """A key of a file, for messages; `remedy` is what helps where the file is not the user's."""

    file: str
    keys: tuple[str, ...] = ()
    remedy: str | None = None

    def __truediv__(self, key: str) -> Place:
        return replace(self, keys=(*self.keys, key))

    def bad(self, problem: str, remedy: str) -> JobError:
        where = f"{self.file}: {dotted(self.keys)}" if self.keys else self.file
        return JobError("bad-registry", f"{where} {problem}.", suggestions=[self.remedy or remedy])

    def wrong(self, value: object, right: str) -> JobError:
        return self.bad("is missing" if value is None else f"cannot be {_value(value)}", f"Give {right}.")


def read_tables(place: Place, document: object) -> Tables:
    """The facts of a document, every one of them checked. Raises `JobError` naming the first that is wrong."""
    tables: dict[str, dict[str, dict[str, Any]]] = {}
    for section, names in read_table(place, document, SECTIONS).items():
        for name, keys in read_table(place / section, names, FAMILY_TASKS if section == "families" else None).items():
            here = place / section / name
            rules = _RULES if section == "models" else {k: rule for k, rule in _RULES.items() if k != "pipeline"}
            for key, value in read_table(here, keys, rules).items():
                tables.setdefault(section, {}).setdefault(name, {})[key] = rules[key](here / key, value)
    return tables


# --- kinds of values --------------------------------------------------------------------------------------------------


def read_table(place: Place, value: object, known: Iterable[str] | None) -> dict[str, Any]:
    """A table whose keys are among the known ones, or, without any, are plain text."""
    if not isinstance(value, dict):
        raise place.wrong(value, "a table")
    names = None if known is None else tuple(known)
    for key in value:
        if names is None:
            read_text(place / key, key)
        elif key not in names:
            raise (place / key).bad("is unknown", _hint(key, names))
    return value


def read_list(place: Place, value: object) -> list[Any]:
    if not isinstance(value, list):
        raise place.wrong(value, "a list")
    return value


def read_text(place: Place, value: object, most: int = _MOST_TEXT) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= most or not value.isprintable():
        raise place.wrong(value, f"text of one line, at most {most} characters, without control characters")
    return value


def read_date(place: Place, value: object) -> date:
    if not isinstance(value, date) or isinstance(value, datetime):
        raise place.wrong(value, "the date of the facts, as 2026-11-21")
    return value


def check_form(place: Place, document: Mapping[str, Any]) -> None:
    """Refuse a document in a form that this version does not read."""
    value = document.get("form")
    if type(value) is int and value > FORM:
        raise (place / "form").bad(f"is {value}, which this version does not read", "Install a newer wan-tui.")
    if type(value) is not int or value != FORM:
        raise (place / "form").wrong(value, f"form = {FORM}")


# --- facts ------------------------------------------------------------------------------------------------------------


def _packages(place: Place, value: object) -> tuple[str, ...]:
    found = []
    for number, one in enumerate(read_list(place, value)):
        here = place / str(number)
        try:
            found.append(str(read_requirement(read_text(here, one))))
        except ValueError as error:
            raise here.bad(f"= {_value(one)} {error}", 'Give a name and versions, as "ftfy>=6.3".') from None
    return tuple(found)


def _optimisations(place: Place, value: object) -> tuple[str, ...]:
    for number, one in enumerate(read_list(place, value)):
        if one not in OPTIMISATIONS:
            here, wrong = place / str(number), one if isinstance(one, str) else ""
            raise here.bad(f"cannot be {_value(one)}", _hint(wrong, OPTIMISATIONS))
    return tuple(read_list(place, value))


def _memory(place: Place, value: object) -> int:
    if type(value) is not int or not 0 < value <= _MOST_VRAM:
        raise place.wrong(value, "a number of bytes, as 24_000_000_000")
    return value


def _notes(place: Place, value: object) -> tuple[str, ...]:
    return tuple(read_text(place / str(number), one) for number, one in enumerate(read_list(place, value)))


def _pipeline(place: Place, value: object) -> str:
    if not re.fullmatch(r"[A-Z]\w{0,99}", text := read_text(place, value), re.ASCII):
        raise place.wrong(value, "the name of a class")
    return text


_RULES: dict[str, Callable[[Place, object], Any]] = {
    "pipeline": _pipeline,
    "requires": _packages,
    "optimisations": _optimisations,
    "vram_min_bytes": _memory,
    "vram_advice_bytes": _memory,
    "notes": _notes,
}


# --- words ------------------------------------------------------------------------------------------------------------


def dotted(keys: Sequence[str]) -> str:
    """A dotted key as TOML writes it, cut short."""
    return ".".join(key if re.fullmatch(r"[\w-]+", key, re.ASCII) else f"{_plain(key)!r:.80}" for key in keys)


def shown(path: Path) -> str:
    """A path as text that can be written and shown."""
    return _plain(os.fsencode(path).decode("utf-8", "backslashreplace"))


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


def _plain(text: str) -> str:
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)
