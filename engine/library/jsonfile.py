"""The JSON files of a model folder, which anybody may have written: bounded, regular files, plain JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from engine.errors import ModelError
from engine.regular import regular_bytes

# The largest there is, the index of the shards of a 17 B model, has 150 kB. Parsed, JSON takes up to 30 times its size.
_MOST_BYTES = 2 << 20


def read_json(file: Path, most: int = _MOST_BYTES) -> dict[str, Any]:
    """A JSON object from a model folder, of at most `most` bytes. Raises `ModelError` when it is not one.

    NaN and infinity are let through: diffusers itself writes `-Infinity` into the configuration of a scheduler.
    """
    try:
        value = plain_json(regular_bytes(file, most).decode("utf-8"), endless=True)
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(
            "bad-model-file",
            f"{file} cannot be read as JSON.",
            cause=what_failed(error),
            suggestions=["Download the model again, or restore this file."],
        ) from None
    if not isinstance(value, dict):
        raise ModelError("bad-model-file", f"{file} holds no JSON object.")
    return value


def what_failed(error: Exception) -> str:
    """Why something could not be read, in a few words."""
    if isinstance(error, RecursionError):
        return "It is nested too deeply."
    return (error.strerror if isinstance(error, OSError) and error.strerror else f"{error}")[:300]


def plain_json(text: str, *, endless: bool = False) -> Any:
    """JSON as its standard has it: no name twice and, unless `endless`, no NaN or infinity. Raises `ValueError`."""
    if endless:
        return json.loads(text, object_pairs_hook=_once)
    return json.loads(text, object_pairs_hook=_once, parse_constant=_refuse, parse_float=_finite)


def _once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    pairs = list(pairs)
    table = dict(pairs)
    if len(table) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"it has {twice!r:.80} twice")
    return table


def _refuse(word: str) -> None:
    raise ValueError(f"it holds {word}, which is no JSON")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"it holds {text[:40]}, which is beyond all numbers")
    return value
