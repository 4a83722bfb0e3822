"""The JSON files of a model folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from engine.errors import ModelError


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object from a model folder. Raises `ModelError` when it is not one."""
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(
            "bad-model-file",
            f"{file} cannot be read as JSON.",
            cause=str(error),
            suggestions=["Download the model again, or restore this file."],
        ) from None
    if not isinstance(value, dict):
        raise ModelError("bad-model-file", f"{file} holds no JSON object.")
    return value
