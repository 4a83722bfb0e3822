"""Themes: those that ship, and the user's own in the folder `themes` of the configuration folder.

A file that is no theme is left out and told in a sentence; the others load.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from textual.color import Color, ColorParseError
from textual.theme import BUILTIN_THEMES, Theme

from engine.paths import shipped
from engine.regular import regular_bytes
from wan_tui.settings import config_dir
from wan_tui.settings_fields import THEME_NAME
from wan_tui.settings_text import parse_settings

_MOST_BYTES = 64 << 10
_MOST_FILES = 100
_MOST_VARIABLES = 200
_COLOURS = (
    *("primary", "secondary", "accent", "success", "warning", "error"),
    *("foreground", "background", "surface", "panel", "boost"),
)
_FLAGS = ("dark", "ansi")
_TOP = ("name", *_COLOURS, *_FLAGS, "variables")
Stamps = Mapping[Path, tuple[int, ...]]  # files, and what becomes another when one is written: time, size, inode
# What a `…-style` variable may hold; any other is a colour.
_STYLES = re.compile(r"(?:(?:not )?(?:none|bold|b|italic|i|underline|u|reverse|r|dim|d|strike) ?){1,4}")
_SHARE = re.compile(r"(.*?)(?: (?:100|[1-9]?[0-9])%)?")


def theme_folder() -> Path:
    """Where the user's own themes lie; it need not be there."""
    return config_dir() / "themes"


def load_themes() -> tuple[tuple[Theme, ...], tuple[str, ...]]:
    """Every theme that is one, the user's in the place of ours of the same name, and a sentence about each file that
    is none."""
    found: dict[str, Theme] = {}
    problems: list[str] = []
    for folder in (shipped("themes"), theme_folder()):
        files = sorted(folder.glob("*.toml"))
        if files[_MOST_FILES:]:
            problems.append(f"{folder} holds {len(files)} themes; those after the first {_MOST_FILES} are left out.")
        for file in files[:_MOST_FILES]:
            try:
                found[file.stem] = read_theme(file)
            except ValueError as error:
                problems.append(f"{file} is no theme: {error}. It is left out.")
    return tuple(found.values()), tuple(problems)


@dataclass(frozen=True)
class ThemeNews:
    """What became of the user's themes: those that were written anew, and a sentence about each file that is none."""

    stamps: Stamps
    themes: tuple[Theme, ...]
    problems: tuple[str, ...]


def own_stamps() -> Stamps:
    """The user's theme files as they are now; none where the folder is not there."""
    found: dict[Path, tuple[int, ...]] = {}
    for file in sorted(theme_folder().glob("*.toml"))[:_MOST_FILES]:
        with suppress(OSError):  # gone meanwhile, or a link to nothing
            status = file.stat()
            found[file] = (status.st_mtime_ns, status.st_size, status.st_ino)
    return found


def theme_news(seen: Stamps) -> ThemeNews:
    """Read the user's themes that are others than they were when they were `seen`."""
    stamps = own_stamps()
    themes: list[Theme] = []
    problems: list[str] = []
    for file, stamp in stamps.items():
        if stamp == seen.get(file):
            continue
        try:
            themes.append(read_theme(file))
        except ValueError as error:
            problems.append(f"{file} is no theme: {error}. The colours stay as they were.")
    return ThemeNews(stamps, tuple(themes), tuple(problems))


def known_themes() -> tuple[frozenset[str], tuple[str, ...]]:
    """The names a setting may hold, Textual's own among them, and what is wrong with theme files."""
    themes, problems = load_themes()
    return frozenset(BUILTIN_THEMES).union(theme.name for theme in themes), problems


def read_theme(file: Path) -> Theme:
    """One theme. Raises `ValueError` with what is wrong with the file."""
    try:
        table = parse_settings(regular_bytes(file, _MOST_BYTES))
    except OSError as error:
        raise ValueError(f"it cannot be read ({error.strerror})") from None
    if not THEME_NAME.fullmatch(file.stem):
        raise ValueError("a theme is named as its file: at most 40 of a-z, 0-9 and dashes")
    if table.get("name", file.stem) != file.stem:
        raise ValueError(f"its name is {_shown(table['name'])}, but a theme is named as its file; leave name out")
    for key, value in table.items():
        _check(key, value)
    if "primary" not in table:
        raise ValueError("it has no primary colour")
    colours: dict[str, Any] = {key: Color.parse(table[key]).hex for key in _COLOURS if key in table}
    flags: dict[str, Any] = {key: table[key] for key in _FLAGS if key in table}
    return Theme(name=file.stem, **colours, **flags, variables=_variables(table.get("variables", {}), colours, flags))


def choose(wanted: str, known: Collection[str], environ: Mapping[str, str]) -> tuple[str, str | None]:
    """The theme to begin with, and a sentence when the one that was wanted is not there."""
    if "NO_COLOR" in environ:
        return "wan-16", None  # without colours only a theme that reverses what is chosen shows it
    if wanted in known:
        return wanted, None
    default = "wan-16" if environ.get("TERM", "").startswith(("linux", "vt")) else "wan-dark"
    if wanted == "auto":
        return default, None
    near = get_close_matches(wanted, known, 1, 0.5)
    hint = f" Did you mean {near[0]}?" if near else ""
    return default, f"There is no theme {wanted}.{hint} {default} is used."


def _check(key: str, value: Any) -> None:
    """Refuse what a theme does not have."""
    if key not in _TOP:
        near = get_close_matches(key, _TOP, 1, 0.5)
        raise ValueError(f"{_shown(key)[1:-1]} is no key of a theme" + (f"; did you mean {near[0]}?" if near else ""))
    if key in _FLAGS and not isinstance(value, bool):
        raise ValueError(f"{key} must be true or false, not {_shown(value)}")
    if key in _COLOURS and not _is_colour(value):
        raise ValueError(f"{key} cannot be {_shown(value)}; give a colour such as #6cb6ff or ansi_blue")
    if key == "variables" and (not isinstance(value, dict) or len(value) > _MOST_VARIABLES):
        raise ValueError(f"variables must be a table of at most {_MOST_VARIABLES} entries")


def _variables(given: Mapping[str, Any], colours: Mapping[str, Any], flags: Mapping[str, Any]) -> dict[str, str]:
    """Single colours and styles; only those the app has, because they become part of its style sheet."""
    known = Theme(name="full", **{**colours, **flags, "ansi": False}).to_color_system().generate()
    for name, value in given.items():
        if name not in known:
            near = get_close_matches(name, known, 1, 0.5)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ValueError(f"there is no variable {_shown(name)[1:-1]}{hint}")
        styled = name.endswith("-style") or "-style-" in name
        if styled and not (isinstance(value, str) and _STYLES.fullmatch(value)):
            raise ValueError(f"{name} cannot be {_shown(value)}; give a style such as bold, reverse or none")
        if not styled and not (isinstance(value, str) and _is_share(value)):
            raise ValueError(
                f"{name} cannot be {_shown(value)}; give a colour such as #6cb6ff, alone or as #6cb6ff 40%"
            )
    return (_missing(known, colours, flags) if flags.get("ansi") else {}) | dict(given)


def _missing(known: Collection[str], colours: Mapping[str, Any], flags: Mapping[str, Any]) -> dict[str, str]:
    """What Textual leaves out of themes of the terminal's colours, though a style sheet that uses it crashes; and the
    muted colours, which there are the colours themselves: text would stand on its own colour."""
    made = Theme(name="own", **colours, **flags).to_color_system().generate()
    return {name: "ansi_default" for name in {*known, *made} if name not in made or name.endswith("-muted")}


def _is_share(value: str) -> bool:
    """A colour, or `auto` for what stands out from its ground; alone or with a share of opacity behind it."""
    match = _SHARE.fullmatch(value)
    return bool(match and (match[1] == "auto" or _is_colour(match[1])))


def _is_colour(value: Any) -> bool:
    if not isinstance(value, str) or len(value) > 40 or not value.isascii() or not value.isprintable():
        return False
    try:
        Color.parse(value)
    except (ColorParseError, ValueError, OverflowError):
        return False
    return True


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:50]}…{shown[-1]}"
