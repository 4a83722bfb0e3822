"""Asking before something is done that cannot be undone."""

from __future__ import annotations

import os
import select
import sys
import termios
from contextlib import suppress

from engine.control import Control
from engine.errors import Cancelled, JobError
from wan_tui.text import plain

_LOOK_S = 0.2


def agreed(question: str, control: Control, *, yes: bool, as_json: bool) -> bool:
    """Whether the user says yes. Raises `JobError` when there is nobody to ask and no `--yes`, `Cancelled`."""
    if yes:
        return True
    if as_json or not os.isatty(0) or not os.isatty(2):
        raise JobError(
            "not-confirmed",
            "Nothing was done: there is nobody to ask.",
            cause=f"The question is: {question}",
            suggestions=["Give --yes to agree."],
        )
    with suppress(termios.error):
        termios.tcflush(0, termios.TCIFLUSH)  # what was typed before the question is no answer to it
    print(plain(f"{question} [y/N] "), end="", file=sys.stderr, flush=True)
    try:
        while not select.select([0], [], [], _LOOK_S)[0]:  # a signal alone would not end a read
            control.check()
    except (Cancelled, KeyboardInterrupt):
        print(file=sys.stderr)  # what comes next begins a line
        raise
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):
        print(file=sys.stderr)
    return answer.strip().lower() in ("y", "yes")
