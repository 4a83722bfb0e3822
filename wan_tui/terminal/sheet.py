"""A stylesheet that parses nothing twice.

Textual parses all it knows anew, twice, whenever a place is shown for the first time, with the same outcome: 40 to
120 ms in which no key is painted.
"""

from __future__ import annotations

from typing import Any

from textual.cache import LRUCache
from textual.css.stylesheet import Stylesheet

_MOST = 256  # sources of a theme; there are about 60
_THEMES = 4  # a theme file that is edited while it is shown makes a new one each time
_parsed: LRUCache[tuple[tuple[str, str], ...], LRUCache[tuple[Any, ...], Any]] = LRUCache(_THEMES)


class Sheet(Stylesheet):
    """Rules are kept by the variables they were parsed with, for as long as the program runs."""

    def __init__(self, *, variables: dict[str, str] | None = None) -> None:
        super().__init__(variables=variables)
        self._recall()

    def set_variables(self, variables: dict[str, str]) -> None:
        if variables == self._variables:
            return
        self._parse_cache = LRUCache(1)  # the base class empties it
        super().set_variables(variables)
        self._recall()

    def reparse(self) -> None:
        """As `parse`, which leaves the rules as they are where it fails; the base class begins with an empty sheet."""
        self.parse()

    def _recall(self) -> None:
        key = tuple(sorted(self._variables.items()))
        if (kept := _parsed.get(key)) is None:
            kept = _parsed[key] = LRUCache(_MOST)
        self._parse_cache = kept
