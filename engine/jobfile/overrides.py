"""`--set key=value`, laid over the table of a job file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.errors import JobError
from engine.tomltext import loads


def lay_over(table: dict[str, Any], overrides: Sequence[str]) -> None:
    """Lay each `key=value` over the table. Raises `JobError`."""
    for override in overrides:
        _apply(override, table)
    _one_size(table, {override.partition("=")[0].strip() for override in overrides})


def _apply(override: str, table: dict[str, Any]) -> None:
    """Lay one `key=value` over the table. The value is TOML; what is not is taken as text."""
    dotted, equals, raw = override.partition("=")
    names = [name.strip() for name in dotted.split(".")]
    if not equals or not all(names) or len(names) > 2:
        raise JobError(
            "bad-override", f"--set {override!r} is not key=value.", suggestions=["Write it as --set steps=20."]
        )
    target: Any = table
    for name in names[:-1]:
        target = target.setdefault(name, {})
        if not isinstance(target, dict):
            raise JobError("bad-override", f"--set {override!r}: {name} is not a table.")
    target[names[-1]] = _override_value(names, raw)


def _one_size(table: dict[str, Any], overridden: set[str]) -> None:
    """A size given over the file's is the whole of it, however either is written."""
    if "size" in overridden and not {"width", "height"} & overridden:
        table.pop("width", None)
        table.pop("height", None)
    elif {"width", "height"} <= overridden and "size" not in overridden:
        table.pop("size", None)


def _override_value(names: list[str], raw: str) -> Any:
    if names[-1] in ("prompt", "negative_prompt", "model", "device") or names == ["output", "path"]:
        return raw
    return literal(raw)


def literal(raw: str) -> Any:
    """A value as TOML writes it; what is not TOML is a text."""
    try:
        parsed = loads(f"v = {raw}")
    except (ValueError, RecursionError):
        return raw
    return parsed["v"] if set(parsed) == {"v"} else raw
