"""The families that run, one file each: which pipeline does a task, and what it is given.

A family file holds `RECIPES`, task to `Recipe`. It is found by its name, so that a new family is one added file.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from engine.errors import ModelError
from engine.job import Job


@dataclass(frozen=True)
class Recipe:
    """How a task is asked of diffusers.

    `pipeline` is the class in diffusers, `components` those it cannot do without, `arguments` what its call takes
    beyond prompts, sizes and steps.
    """

    pipeline: str
    components: tuple[str, ...]
    arguments: Callable[[Job], Mapping[str, Any]] = lambda job: {}


def recipe(family: str, task: str) -> Recipe:
    """The recipe of a task. Raises `ModelError` when this version cannot run it."""
    name = f"{__name__}.{family}"
    recipes: Mapping[str, Recipe] = {}
    if family.isidentifier() and importlib.util.find_spec(name):
        recipes = importlib.import_module(name).RECIPES
    if task not in recipes:
        can = " and ".join(recipes) or "none of its tasks"
        raise ModelError(
            "not-yet",
            f"This version of wan-tui does not run {task} with {family} models yet (it runs {can}).",
            suggestions=["Families that run: t2v and ti2v from text, i2v and ti2v from an image."],
        )
    return recipes[task]
