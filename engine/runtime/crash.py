"""The report of a crash: what a maintainer needs, and nothing that is the user's."""

from __future__ import annotations

import platform
import time
import traceback
from pathlib import Path

from engine.compat.redact import known_secrets, redacted
from engine.paths import state_dir, write_atomic
from engine.runtime.record import versions


def keep_report(error: BaseException) -> Path | None:
    """Write versions and the traceback, without local variables, tokens and names of users; where it lies. None where
    it cannot be written."""
    about = ", ".join(f"{name} {number}" for name, number in versions("textual").items()) + f", {platform.platform()}"
    text: str = redacted(f"{about}\n\n{''.join(traceback.format_exception(error))}", known_secrets())
    try:
        report = _free(state_dir() / time.strftime("crash-%Y%m%d-%H%M%S.txt"))
        write_atomic(report, text.encode(errors="backslashreplace"))
    except OSError:
        return None
    return report


def _free(path: Path) -> Path:
    """Of two crashes in a second neither report replaces the other."""
    numbered = (path.with_stem(f"{path.stem}-{number}") for number in range(2, 100))
    return next((one for one in (path, *numbered) if not one.exists()), path)
