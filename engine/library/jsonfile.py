"""The JSON files of a model folder, which anybody may have written: bounded, regular files, plain JSON."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from engine.errors import ModelError

# The largest there is, the index of the shards of a 17 B model, has 150 kB. Parsed, JSON takes up to 30 times its size.
_MOST_BYTES = 2 << 20


def read_json(file: Path, most: int = _MOST_BYTES) -> dict[str, Any]:
    """A JSON object from a model folder, of at most `most` bytes. Raises `ModelError` when it is not one."""
    try:
        value = plain_json(regular_bytes(file, most).decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(
            "bad-model-file",
            f"{file} cannot be read as JSON.",
            cause=(error.strerror if isinstance(error, OSError) and error.strerror else f"{error}")[:300],
            suggestions=["Download the model again, or restore this file."],
        ) from None
    if not isinstance(value, dict):
        raise ModelError("bad-model-file", f"{file} holds no JSON object.")
    return value


def regular_bytes(file: Path, most: int) -> bytes:
    """All of a regular file. Raises `OSError`, and `ValueError` when it is no such file or longer than `most`."""
    # A pipe would keep an open waiting for ever.
    with os.fdopen(os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
        info = os.fstat(stream.fileno())
        if not stat.S_ISREG(info.st_mode):
            raise ValueError("it is not a regular file")
        if info.st_size > most:
            raise ValueError(f"it has {info.st_size} bytes, and such a file has at most {most}")
        return stream.read(most)


def plain_json(text: str) -> Any:
    """JSON as its standard has it: no name twice, no NaN, no number beyond a float. Raises `ValueError`."""
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
