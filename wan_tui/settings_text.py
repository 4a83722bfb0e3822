"""The settings as text: the commented file, the page of the documentation, one line changed in a user's file."""

from __future__ import annotations

import re
import textwrap
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from engine.tomltext import loads
from wan_tui.settings_fields import FIELDS, Settings, toml_value

# A value on one line, as a pattern.
_SIMPLE = r"""(?:"(?:[^"\\]|\\.)*"|'[^']*'|[^\s#"'\[{]+)"""


_DEFAULTS = Settings()


def commented_file() -> str:
    """Every setting with its default, as comments: a file that changes nothing until a line of it is made to count."""
    from wan_tui.actions import ACTIONS  # a dozen files, and reading the settings needs none of them

    lines = ["# Settings of wan-tui. What is commented out is the default; docs/config.md says the same.", ""]
    for name, one in FIELDS.items():
        lines += [f"# {line}" for line in textwrap.wrap(one.metadata["about"], 98, break_on_hyphens=False)]
        if name == "keys":
            lines += ["# These are the actions and their default keys.", "# [keys]"]
            lines += [f"# {toml_value(action.id)} = {toml_value(action.keys)}" for action in ACTIONS]
        else:
            lines += [f"# It is {one.metadata['right']}.", f"# {name} = {toml_value(getattr(_DEFAULTS, name))}", ""]
    return "\n".join([*lines, ""])


def reference() -> str:
    """docs/config.md."""
    rows = []
    for name, one in FIELDS.items():
        default = "none" if name == "keys" else f"`{toml_value(getattr(_DEFAULTS, name))}`"
        rows.append(f"| `{name}` | {one.metadata['right']} | {default} | {one.metadata['about']} |")
    return _PAGE.replace("ROWS", "\n".join(rows))


_PAGE = """# Settings

The app reads `config.toml` in your configuration folder (`~/.config/wan-tui`), or the file that `WAN_TUI_CONFIG` names.
`wan-tui config init` writes one with every key as a comment, `wan-tui config show` says what holds and where it comes
from, `wan-tui config path` where the file is. A value that is wrong is told and its default holds; the others count.
The file that `config init` writes lists every action with its default keys.

| key | is | default | |
|---|---|---|---|
ROWS

```toml
theme = "wan-light"

[keys]
"library.download" = "d,f5"
```

## Themes of your own

A file `NAME.toml` in the folder `themes` of your configuration folder is the theme `NAME`; copy one of the
[themes that ship](../themes) and change it. A theme of the same name takes the place of ours.

| key | is |
|---|---|
| `primary`, `secondary`, `accent`, `success`, `warning`, `error`, `foreground`, `background`, \
`surface`, `panel`, `boost` | a colour: `#rrggbb`, `rgb(…)`, `hsl(…)`, a name, or one of the terminal's own\
 (`ansi_red`, `ansi_default`); all but `primary` may be left out |
| `dark` | true on dark grounds, false on light ones |
| `ansi` | true when all colours are the terminal's own |
| `[variables]` | single colours of the app's parts, such as `border` or `footer-key-foreground` |

The text above is made from `wan_tui/settings_fields.py`; a test holds it to that.
"""


def parse_settings(data: bytes) -> dict[str, Any]:
    """The table of a file. Raises `ValueError` with what is wrong with it."""
    try:
        return loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ValueError(f"it is not UTF-8 (line {line})") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"it is not valid TOML: {error}") from None


def with_line(old: bytes, name: str, line: str) -> bytes:
    """The file with one top-level key set: a guess by lines, held to what TOML makes of it. Raises `ValueError`."""
    wanted = {**parse_settings(old), **parse_settings(line.encode())}
    text = old.decode("utf-8-sig")
    for guess in _guesses(text.split("\n"), name, line):
        new = guess.encode()
        if _parsed(new) == wanted:
            return (b"\xef\xbb\xbf" if old.startswith(b"\xef\xbb\xbf") else b"") + new
    raise ValueError("it is written there in a way this program does not change")


def _guesses(lines: Sequence[str], name: str, line: str) -> Iterator[str]:
    """In the place of the line that sets it; after the comment that shows it; before the first table; at the end."""
    own = re.compile(rf"""([ \t]*)(?:{name}|"{name}"|'{name}')[ \t]*=[ \t]*{_SIMPLE}([ \t]*(?:\#.*)?\r?)""")
    for at, text in enumerate(lines):
        if match := own.fullmatch(text):
            yield "\n".join([*lines[:at], f"{match[1]}{line}{match[2]}", *lines[at + 1 :]])
    ending = "\r" if lines[0].endswith("\r") else ""
    commented = [at + 1 for at, text in enumerate(lines) if text.startswith(f"# {name} = ")]
    headers = [at for at, text in enumerate(lines) if re.match(r"[ \t]*\[", text)]
    for place in (*commented, *headers[:1], len(lines) - (lines[-1] == "")):
        if place < len(lines):
            yield "\n".join([*lines[:place], line + ending, *lines[place:]])
        else:
            yield "\n".join(lines) + f"{ending}\n{line}"


def _parsed(data: bytes) -> Mapping[str, Any] | None:
    try:
        return parse_settings(data)
    except ValueError:
        return None
