"""A value that is refused, and how that is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class Refused(Exception):
    """A value that will not do: what is wrong with it and, where there is one, the nearest that would."""

    def __init__(self, problem: str, nearest: object = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.nearest = nearest


def refusal_words(key: str, value: Any, refused: Refused) -> tuple[str, list[str]]:
    """A refusal in words, and the nearest valid value as a hint where there is one."""
    hints = [] if refused.nearest is None else [f"The nearest valid value is {show(refused.nearest)}."]
    return f"{key} = {show(value)} {refused.problem}.", hints


def show(value: Any) -> str:
    """A value as a person would know it again: short, on one line, without control characters."""
    shown = str(value) if isinstance(value, Path) else repr(value)
    return shown if len(shown) <= 80 else f"{shown[:60]}… ({len(shown)} characters)"


def show_key(key: str) -> str:
    """A key in the same way, without quotes."""
    shown = repr(key)[1:-1]
    return shown if len(shown) <= 80 else shown[:60] + "…"


def kind(value: Any) -> str:
    """What a value is, in words."""
    kinds = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", list: "a list"}
    return kinds.get(type(value), "a table" if isinstance(value, dict) else f"a {type(value).__name__}")
