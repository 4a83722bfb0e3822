"""The user's settings: `config.toml`.

A key that is wrong takes its default and is told in a sentence, the others hold; the file itself is never mended.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import platformdirs

from engine.errors import JobError
from engine.paths import write_atomic
from engine.regular import regular_bytes
from wan_tui.settings_fields import FIELDS, Refused, Settings, checked, flat_keys, toml_value
from wan_tui.settings_text import commented_file, parse_settings, with_line

__all__ = ["Settings", "bad_keys", "config_dir", "load_settings", "read_settings", "save_setting", "settings_file"]

MOST_BYTES = 1 << 20


def settings_file() -> Path:
    """The file: the one `WAN_TUI_CONFIG` names, else in the user's configuration folder."""
    if named := os.environ.get("WAN_TUI_CONFIG"):
        return Path(os.path.expanduser(named)).absolute()
    return config_dir() / "config.toml"


def config_dir() -> Path:
    """The folder of the file's usual place; user themes lie below it. It need not be there."""
    return Path(platformdirs.user_config_dir("wan-tui"))


def load_settings() -> tuple[Settings, tuple[str, ...]]:
    """The settings that hold, and a sentence about each thing in the file that does not."""
    settings, _, problems = read_settings()
    return settings, problems


def read_settings() -> tuple[Settings, frozenset[str], tuple[str, ...]]:
    """The same, with the names of the keys whose value is the file's."""
    file = settings_file()
    try:
        table = parse_settings(regular_bytes(file, MOST_BYTES))
    except FileNotFoundError:
        named = bool(os.environ.get("WAN_TUI_CONFIG"))
        gone = f"{file}, which WAN_TUI_CONFIG names, does not exist; the defaults hold. wan-tui config init makes it."
        return Settings(), frozenset(), (gone,) if named else ()
    except (OSError, ValueError) as error:
        unusable = f"{file} cannot be used: {_reason(error)}. The defaults hold until it is mended."
        return Settings(), frozenset(), (unusable,)
    values: dict[str, Any] = {}
    problems: list[str] = []
    for name, value in table.items():
        try:
            values[name] = checked(name, value)
        except Refused as refused:
            problems.append(_refusal(file, name, value, refused))
        except KeyError:
            problems.append(f"{file}: {_shown(name)[1:-1]} is no setting.{_nearest(name, FIELDS)} It is left out.")
    if "keys" in values:
        problems += _misread_keys(file, flat_keys(table["keys"]), values["keys"])
    return Settings(**values), frozenset(values), tuple(problems)


def bad_keys(settings: Settings, known_ids: Collection[str]) -> tuple[str, ...]:
    """A sentence about each entry of `[keys]` that names no action; what it asks for cannot be done."""
    file = settings_file()
    return tuple(
        f"{file}: keys.{id} is no action.{_nearest(id, known_ids)} It is left out."
        for id in settings.keys
        if id not in known_ids
    )


def save_setting(name: str, value: str | bool | Path) -> None:
    """Write one setting into the user's file; every other byte of it stays. Raises `JobError` where that cannot be.

    A file that is not there is begun with every key as a comment.
    """
    file = settings_file().resolve()  # a link into somebody's dotfiles stays a link
    line = f"{name} = {toml_value(value)}"
    try:
        checked(name, str(value) if isinstance(value, Path) else value)
        try:
            old, shared = regular_bytes(file, MOST_BYTES), bool(file.stat().st_mode & 0o044)
        except FileNotFoundError:
            old, shared = commented_file().encode(), False
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomic(file, with_line(old, name, line), shared=shared)
    except Refused:
        raise JobError("setting-not-saved", f"{name} must be {FIELDS[name].metadata['right']}.") from None
    except (OSError, ValueError) as error:
        message = f"{name} could not be written into {file}: {_reason(error)}."
        raise JobError("setting-not-saved", message, suggestions=[f"Write {line} into the file yourself."]) from None


def _misread_keys(file: Path, given: Mapping[str, Any], good: Mapping[str, str]) -> list[str]:
    right = 'give the names of keys, such as "d" or "f5" or "ctrl+r,delete"'
    bad = [id for id in given if id not in good]
    told = [
        f"{file}: keys.{_shown(id)[1:-1]} cannot be {_shown(given[id])}; {right}. It is left out." for id in bad[:20]
    ]
    return [*told, f"{file}: {len(bad) - 20} more entries of [keys] are left out."] if bad[20:] else told


def _refusal(file: Path, name: str, value: Any, refused: Refused) -> str:
    near = "" if refused.nearest is None else f" The nearest is {toml_value(refused.nearest)}."
    default = "no key of yours" if name == "keys" else toml_value(getattr(Settings(), name))
    right = FIELDS[name].metadata["right"]
    return f"{file}: {name} cannot be {_shown(value)}; give {right}.{near} Until then {default} holds."


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _nearest(name: str, known: Collection[str]) -> str:
    near = get_close_matches(name, known, 1, 0.5)
    return f" Did you mean {near[0]}?" if near else ""


def _shown(value: Any) -> str:
    """A value as a person would know it again; what controls a terminal is escaped."""
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:50]}…{shown[-1]}"
