"""Asking before something is done that cannot be undone."""

from __future__ import annotations

import os
import select
import sys

from engine.control import Control
from engine.errors import JobError
from wan_tui.cli.errors import plain

_LOOK_S = 0.2


def agreed(question: str, control: Control, *, yes: bool, as_json: bool) -> bool:
    """Whether the user says yes. Raises `JobError` when there is nobody to ask and no `--yes`, `Cancelled`."""
    if yes:
        return True
    if as_json or not os.isatty(0) or not os.isatty(2):
        raise JobError("not-confirmed", f"{question} Nothing was done.", suggestions=["Give --yes to agree."])
    print(plain(f"{question} [y/N] "), end="", file=sys.stderr, flush=True)
    while not select.select([0], [], [], _LOOK_S)[0]:  # a signal alone would not end a read
        control.check()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
