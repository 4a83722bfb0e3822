"""Whether a job reads what is to be taken away."""

from __future__ import annotations

from pathlib import Path

from engine.errors import RunError, WanError
from engine.library.item import Item
from engine.library.remove import Removal
from engine.runtime.journal import Journal, State


def refuse_running(item: Item, removal: Removal) -> None:
    """Raise `RunError` (`busy`) while a job that is queued or runs, of whichever process, reads some of it."""
    try:
        rows = Journal().rows(states=(State.QUEUED, State.RUNNING))
    except WanError:  # on a full disk, where removing is the remedy
        return
    gone = [*removal.folders, *removal.files]

    def reads(model: str) -> bool:  # by its id, or by the folder it lies in
        folder = Path(model)
        by_path = folder.is_absolute() and any(path.is_relative_to(folder) or path in folder.parents for path in gone)
        return by_path or model in (item.id, *removal.needed_by)

    if busy := next((row for row in rows if reads(row.model)), None):
        raise RunError(
            "busy",
            f"Job {busy.id} is {busy.state} with {busy.model}: nothing was removed.",
            suggestions=[f"Wait for it, or stop it: wan-tui jobs cancel {busy.id}"],
        )
