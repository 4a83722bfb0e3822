"""Models that were never traced, traced in a process of their own: torch does not come into this one for it."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wan_tui.composing.examine import Untraced


class Tracing:
    """One at a time. What was tried once is not tried again: it is known then, or cannot be traced."""

    def __init__(self) -> None:
        self.tried: set[Untraced] = set()
        self._child: subprocess.Popen[bytes] | None = None
        self._over = False

    def trace(self, what: Untraced) -> None:
        """Trace a model, and wait for it. What is found is kept on disk, where the next plan finds it."""
        self.tried.add(what)
        if self._over:
            return
        command = (sys.executable, "-m", "engine.memory.unknown", what.reference, str(what.precision))
        nowhere = subprocess.DEVNULL
        self._child = subprocess.Popen(
            (*command, str(int(what.image))), stdin=nowhere, stdout=nowhere, stderr=nowhere, start_new_session=True
        )
        if self._over:  # meanwhile
            self._child.terminate()
        self._child.wait()

    def stop(self) -> None:
        """End what is being traced; nothing is begun from then on."""
        self._over = True
        if self._child and self._child.poll() is None:
            self._child.terminate()
