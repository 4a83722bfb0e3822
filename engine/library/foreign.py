"""Files in the way that are not ours: a folder the user filled is never written over."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from engine.control import Control
from engine.errors import ModelError
from engine.library.digest import Digests
from engine.library.resolve import Want
from engine.library.store import has_bytes


class Foreign:
    """What lies where files should go, in plain folders that no list tells anything of, and is something else."""

    def __init__(self, wants: Iterable[Want], digests: Digests) -> None:
        places = {want.place for want in wants if not want.place.cached}
        self._unlisted = {place for place in places if replace(place, commit=None).listing() is None}
        self._digests = digests
        self._found: set[Path] = set()

    def holds(self, want: Want, control: Control) -> bool:
        """Whether another file lies in this one's place."""
        if want.place not in self._unlisted or not os.path.lexists(want.store) or not want.place.holds(want.store):
            return False
        if has_bytes(want.store, want.file, self._digests, control):
            return False
        self._found.add(want.store)
        return True

    def refuse(self) -> None:
        """Raise `ModelError` (`foreign-files`) naming what was found."""
        if not self._found:
            return
        names = sorted(map(str, self._found))
        raise ModelError(
            "foreign-files",
            f"Other files lie where the model should go: {', '.join(names[:3])}{' …' if names[3:] else ''}.",
            cause="Nothing on this box says that they came from its repository, so they are not written over.",
            suggestions=["Move that folder away, or remove those files if they are broken downloads."],
        )
