"""An action: something a key, the palette and the help all name the same way."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Action:
    """`id` is `place.name`: the screen of that place, or the app, has a method `action_<name>` (dashes become `_`).

    `keys` are the default keys, parted by commas; `shown` puts it into the footer; a `priority` key works while text
    is typed, too.
    """

    id: str
    keys: str
    title: str
    help: str
    shown: bool = True
    priority: bool = False

    @property
    def place(self) -> str:
        return self.id.partition(".")[0]

    @property
    def method(self) -> str:
        """What Textual calls it: `action_` and this."""
        return self.id.partition(".")[2].replace("-", "_")
