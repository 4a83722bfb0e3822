"""What can be set: every setting with its default, what it may be, and what it does.

`config show`, `config init` and docs/config.md are made from this.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

_MOST_KEYS = 500  # in [keys]
THEME_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_ACTION = re.compile(r"[a-z0-9][a-z0-9._-]{0,59}")
_KEY = re.compile(r"(?:(?:ctrl|shift|alt|super|hyper|meta)\+)*(?:[A-Za-z0-9_]{1,40}|[^\s,\x00-\x20\x7f-\x9f])")


class Refused(Exception):
    """A value that will not do, with the nearest that would where there is one."""

    def __init__(self, nearest: Any = None) -> None:
        super().__init__()
        self.nearest = nearest


def _is(right: str, rule: Callable[[Any], Any], about: str) -> dict[str, Any]:
    """What a setting may be, and what it does; `rule` gives the value it takes, or raises `Refused`."""
    return {"right": right, "rule": rule, "about": about}


def _one_of(*choices: str | bool) -> Callable[[Any], Any]:
    meant: dict[str, str | bool] = {"yes": True, "on": True, "1": True, "no": False, "off": False, "0": False}
    meant |= {str(choice).lower(): choice for choice in choices}

    def rule(value: Any) -> Any:
        if any(type(value) is type(choice) and value == choice for choice in choices):
            return value
        near = [meant[word] for word in get_close_matches(str(value)[:60].lower(), meant, len(meant), 0.5)]
        raise Refused(next((choice for choice in near if choice in choices), None))

    return rule


def _theme(value: Any) -> str:
    if isinstance(value, str) and THEME_NAME.fullmatch(value):
        return value
    near = re.sub(r"[^a-z0-9-]+", "-", str(value).lower()).strip("-")[:40]
    raise Refused(near if THEME_NAME.fullmatch(near) else None)


def _folder(value: Any) -> Path:
    if isinstance(value, str) and value.strip() and value.isprintable() and len(value) <= 1000:
        return Path(os.path.expanduser(value))
    raise Refused


def flat_keys(table: Mapping[str, Any]) -> dict[str, Any]:
    """Without quotes `library.download = "d"` is a table within a table; it means the same here."""
    flat: dict[str, Any] = {}
    for id, keys in table.items():
        flat |= {f"{id}.{name}": under for name, under in keys.items()} if isinstance(keys, dict) else {id: keys}
    return flat


def _key_table(value: Any) -> dict[str, str]:
    """The entries of `[keys]` that are well formed; who reads the file tells the others."""
    if not isinstance(value, dict):
        raise Refused
    texts = {id: keys for id, keys in flat_keys(value).items() if _ACTION.fullmatch(id) and isinstance(keys, str)}
    parted = {id: [part.strip() for part in keys.split(",")] for id, keys in texts.items()}
    good = {id: ",".join(parts) for id, parts in parted.items() if all(map(_KEY.fullmatch, parts))}
    return dict(list(good.items())[:_MOST_KEYS])


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the user chose, or the defaults."""

    theme: str = field(
        default="auto",
        metadata=_is(
            '"auto" or the name of a theme',
            _theme,
            "The colours: wan-dark, wan-light, wan-clear (for colour-blind eyes), wan-16 (16 colours), or the name of "
            "a file in the folder themes of your configuration folder. auto is wan-dark, or wan-16 on terminals "
            "of few colours (TERM=linux, vt…). Where NO_COLOR is set it is wan-16 whatever stands here.",
        ),
    )
    mouse: bool = field(
        default=True,
        metadata=_is(
            "true or false",
            _one_of(True, False),
            "Whether the app listens to the mouse. false leaves it to the terminal, which can then select text; "
            "wan-tui --no-mouse does so once.",
        ),
    )
    low_bandwidth: bool = field(
        default=False,
        metadata=_is(
            "true or false",
            _one_of(True, False),
            "For slow lines: figures change less often; clips are drawn, and played, only when asked for.",
        ),
    )
    ascii: str | bool = field(
        default="auto",
        metadata=_is(
            '"auto", true or false',
            _one_of("auto", True, False),
            "Draw with ASCII characters alone. auto does so where the locale is not UTF-8.",
        ),
    )
    preview: str = field(
        default="auto",
        metadata=_is(
            '"auto", "halfblock" or "off"',
            _one_of("auto", "halfblock", "off"),
            "Pictures of clips in the terminal: halfblock draws them in half blocks, two pixels a cell; off draws "
            "none. auto is halfblock where the terminal has the colours and the characters for it; kitty, Ghostty and "
            "terminals with sixels draw stills of the gallery themselves, in full detail, unless low_bandwidth is set "
            "or tmux stands between.",
        ),
    )
    output: Path = field(
        default=Path("outputs"),
        metadata=_is(
            "the path of a folder",
            _folder,
            "Where videos made in the app go. A relative path is taken from the folder the app was started in.",
        ),
    )
    keys: Mapping[str, str] = field(
        default_factory=dict,
        metadata=_is(
            "a table",
            _key_table,
            'Keys of your own: the id of an action, then its keys, such as "d" or "d,delete" or "ctrl+r". They take '
            "the place of its default keys. A comma parts keys; the comma itself is called comma.",
        ),
    )


def checked(name: str, value: Any) -> Any:
    """The value a setting takes. Raises `Refused`, and `KeyError` where there is no such setting."""
    return FIELDS[name].metadata["rule"](value)


def toml_value(value: str | bool | Path) -> str:
    """A value as it is written in the file."""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(char if char.isprintable() else f"\\U{ord(char):08x}" for char in text) + '"'


FIELDS: dict[str, Field[Any]] = {one.name: one for one in fields(Settings)}
