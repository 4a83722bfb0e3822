"""What the user has trusted of one model, as it may be used: code from a private copy, hashed again as it is read."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from engine.compat.finding import remedy
from engine.errors import ModelError
from engine.regular import regular_bytes

PIPELINE = "pipeline"  # what the pipeline's own class is called among the classes that come with a model
MOST_BYTES = 1 << 20  # of one file of code


@dataclass(frozen=True)
class Grant:
    """`code` is path to SHA-256 of the files below `copy`; `classes` is component (or `PIPELINE`) to its module's
    path and its name; `pickled` are components whose weights are pickles; `identity` changes when any of it does."""

    model: str
    copy: Path
    code: Mapping[str, str]
    classes: Mapping[str, tuple[str, str]]
    pickled: frozenset[str]
    identity: str

    def source(self, path: str) -> bytes:
        """The code at `path`, read from the private copy. Raises `ModelError` when it is not what was trusted."""
        try:
            text = regular_bytes(self.copy / path, MOST_BYTES)
        except (OSError, ValueError):
            text = None
        if text is None or hashlib.sha256(text).hexdigest() != self.code.get(path):
            raise ModelError(
                "trust-changed",
                f"The copy of {path} that was trusted for {self.model} is gone or has changed: it is not run.",
                cause=f"It lies in {self.copy}.",
                suggestions=["To look at it and trust it again:", remedy("trust", "trust", "add", self.model).command],
                actions=["trust"],
            )
        return text
