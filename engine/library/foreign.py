"""Files in the way that are not ours: a folder the user filled is never written over."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace

from engine.control import Control
from engine.errors import ModelError
from engine.library.crew import Task, work
from engine.library.digest import Digests
from engine.library.resolve import Want
from engine.library.store import has_bytes

_THREADS = 4


def refuse_foreign(wants: Iterable[Want], digests: Digests, control: Control) -> None:
    """Raise `ModelError` (`foreign-files`) when plain folders that no list tells anything of hold other files where
    these should go."""
    wants = [want for want in wants if not want.place.cached]
    unlisted = {place for place in {want.place for want in wants} if replace(place, commit=None).listing() is None}
    found: list[str] = []

    def looking(want: Want) -> Task:
        def task(control: Control) -> None:
            if os.path.lexists(want.store) and not has_bytes(want.store, want.file, digests, control):
                found.append(str(want.store))

        return task

    # What lies behind a link that leads out is refused when it is to be written.
    suspects = [want for want in wants if want.place in unlisted and want.place.holds(want.store)]
    work([looking(want) for want in suspects], _THREADS, control)
    if found:
        found.sort()
        raise ModelError(
            "foreign-files",
            f"Other files lie where the model should go: {', '.join(found[:3])}{' …' if found[3:] else ''}.",
            cause="Nothing on this box says that they came from its repository, so they are not written over.",
            suggestions=["Move that folder away, or remove those files if they are broken downloads."],
        )
