"""The rules of values: each returns the value, or refuses it with the nearest valid one."""

from __future__ import annotations

import difflib
import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from engine.jobfile.refusal import Refused, kind

Rule: TypeAlias = Callable[[Any, Path], Any]
"""Takes the value and the folder that relative paths begin in. Raises `Refused`."""


def whole(low: int, high: int) -> Rule:
    def rule(value: Any, folder: Path) -> int:
        if isinstance(value, float) and value.is_integer():
            raise Refused("must be a whole number, written without a point", int(value))
        if isinstance(value, bool) or not isinstance(value, int):
            raise Refused(f"must be a whole number, not {kind(value)}")
        if not low <= value <= high:
            raise Refused(f"must lie between {low} and {high}", min(max(value, low), high))
        return value

    return rule


def number(low: float, high: float, *, above: bool = False) -> Rule:
    def rule(value: Any, folder: Path) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Refused(f"must be a number, not {kind(value)}")
        if isinstance(value, float) and not math.isfinite(value):
            raise Refused("must be a finite number")
        if above and value <= low:
            raise Refused(f"must be greater than {low:g}, at most {high:g}")
        if not low <= value <= high:
            raise Refused(f"must lie between {low:g} and {high:g}", min(max(value, low), high))
        return float(value)

    return rule


_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_CONTROL_IN_LINES = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def text(limit: int, *, lines: bool = False) -> Rule:
    def rule(value: Any, folder: Path) -> str:
        if not isinstance(value, str):
            raise Refused(f"must be a text in quotes, not {kind(value)}")
        try:
            size = len(value.encode())
        except UnicodeEncodeError:
            raise Refused("is not valid UTF-8") from None
        if size > limit:
            raise Refused(f"is {size} bytes long; at most {limit} are taken")
        if found := (_CONTROL_IN_LINES if lines else _CONTROL).search(value):
            allowed = "; only newline and tab are taken" if lines else ""
            raise Refused(f"holds the control character U+{ord(found[0]):04X}{allowed}")
        return value

    return rule


def choice(*options: str) -> Rule:
    def rule(value: Any, folder: Path) -> str:
        if value not in options or not isinstance(value, str):
            near = difflib.get_close_matches(str(value), options, 1, 0.4)
            raise Refused("must be one of " + ", ".join(options), near[0] if near else None)
        return value

    return rule


def flag(value: Any, folder: Path) -> bool:
    if not isinstance(value, bool):
        raise Refused(f"must be true or false, not {kind(value)}")
    return value


def four_k_plus_one(low: int, high: int) -> Rule:
    def rule(value: Any, folder: Path) -> int:
        count: int = whole(1, high)(value, folder)
        if count % 4 != 1 or count < low:
            raise Refused(
                "must be 4k+1 (the VAE packs frames by four after the first)", max(low, nearest_frames(count))
            )
        return count

    return rule


def nearest_frames(count: int) -> int:
    """The nearest number of frames of the form 4k+1."""
    return max(1, round((count - 1) / 4) * 4 + 1)


def path(value: Any, folder: Path) -> Path:
    name: str = text(4096)(value, folder)
    if not name.strip():
        raise Refused("is empty")
    return folder / os.path.expanduser(name)  # an unknown ~user stays as it is


def paths(value: Any, folder: Path) -> tuple[Path, ...]:
    if not isinstance(value, list):
        raise Refused(f"must be a list of paths, not {kind(value)}")
    return tuple(path(item, folder) for item in value)


_UNITS = {"b": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}
_UNITS |= {"kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}


def size_in_bytes(value: Any, folder: Path) -> int:
    """`"12GiB"` (or MiB, GB, MB, …) in bytes."""
    match = re.fullmatch(r"\s*(\d{1,16}(?:\.\d{1,6})?)\s*([KMGT]?i?B)\s*", str(value), re.IGNORECASE)
    if isinstance(value, bool | list | dict) or not match or match[2].lower() not in _UNITS:
        raise Refused('must be a size with its unit, such as "12GiB"')
    size = int(float(match[1]) * _UNITS[match[2].lower()])
    if not 1 <= size <= 2**50:  # what a device can do with a small one, the plan says
        raise Refused("must be more than nothing, and 1024TiB at most")
    return size


def device_name(value: Any, folder: Path) -> str:
    name: str = text(100)(value, folder)
    if not re.fullmatch(r"auto|cpu|mps|(cuda|xpu)(:\d{1,3})?|(GPU|MIG)-[0-9A-Za-z/-]+", name):
        raise Refused('must be "auto", "cpu", "cuda", "cuda:1" or the UUID of a GPU', "auto")
    return name


SIDE = whole(16, 8192)


def size(value: Any, folder: Path) -> tuple[int, int]:
    """`"832*480"` as width and height."""
    match = re.fullmatch(r"\s*(\d{1,6})\s*[*xX×]\s*(\d{1,6})\s*", value) if isinstance(value, str) else None
    if not match:
        raise Refused('must be "width*height", such as "832*480"')
    return SIDE(int(match[1]), folder), SIDE(int(match[2]), folder)
