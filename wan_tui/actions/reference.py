"""The page of all keys, `docs/keys.md`: `python -m wan_tui.actions.reference > docs/keys.md` writes it again."""

from __future__ import annotations

from wan_tui.actions import ACTIONS
from wan_tui.actions.action import Action

_PLACES = {
    "app": "Everywhere",
    "list": "In every list",
    "library": "Library",
    "diagnostics": "Diagnostics",
    "composer": "Composer",
    "monitor": "Monitor",
    "queue": "Queue",
    "gallery": "Gallery",
}
_NAMES = {
    "question_mark": "?",
    "slash": "/",
    "equals_sign": "=",
    "space": "Space",
    "enter": "Enter",
    "delete": "Del",
    "up": "Up",
    "down": "Down",
    "left": "Left",
    "right": "Right",
    "home": "Home",
    "end": "End",
    "pageup": "PgUp",
    "pagedown": "PgDn",
}
_ABOUT = """\
# Keys

Every action of the app, with its default keys. The same list stands in the app under `?`, and `Ctrl+p` finds each of
them by its name. To have other keys, put the action's id into the configuration file (`wan-tui config path` tells
where it lies); names of keys are written as here in small letters, signs by their names (`slash`, `question_mark`):

```toml
[keys]
"library.download" = "ctrl+d,g"
```

Esc leaves whatever is open. Where text is typed, letters and digits are text: F keys and Ctrl still work.
"""


def page() -> str:
    """The whole text of it."""
    return "\n".join([_ABOUT, *(_group(place, title) for place, title in _PLACES.items())])


def _group(place: str, title: str) -> str:
    rows = [_row(action) for action in ACTIONS if action.place == place]
    return "\n".join([f"## {title}\n", "| keys | action | id | what it does |", "|---|---|---|---|", *rows, ""])


def _row(action: Action) -> str:
    keys = " ".join(f"`{key_name(key)}`" for key in action.keys.split(","))
    return f"| {keys} | {action.title} | `{action.id}` | {action.help} |"


def key_name(key: str) -> str:
    """`Ctrl+r`, `F5`, `?`: a key as people write it."""
    *held, last = key.split("+")
    function = last[:1] == "f" and last[1:].isdigit()
    return "+".join([*(one.capitalize() for one in held), last.upper() if function else _NAMES.get(last, last)])


if __name__ == "__main__":
    print(page(), end="")
