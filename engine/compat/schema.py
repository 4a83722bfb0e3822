"""What a `model_index.json` may say, and what is told where it says something else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.errors import ModelError

INDEX = "model_index.json"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,119}")
_MOST_KEYS = 100
_SHOWN = 3


def check_index(index: Mapping[str, Any], file: Path) -> None:
    """Raise `ModelError` (`bad-model-file`) naming what is wrong with an index, and what is right."""
    problems = [problem for key, value in index.items() if (problem := _problem(key, value))]
    if "_class_name" not in index:
        problems.insert(0, "_class_name is missing; it names the pipeline, such as WanPipeline")
    if len(index) > _MOST_KEYS:
        problems.append(f"it has {len(index)} keys, and a pipeline has a dozen")
    if problems:
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise ModelError(
            "bad-model-file",
            f"{file} is not the index of a pipeline.",
            cause="; ".join(problems[:_SHOWN]) + more + ".",
            suggestions=["Restore model_index.json from the repository of the model."],
        )


def _problem(key: str, value: Any) -> str | None:
    shown = f"{value!r:.60}"
    if not _is_name(key):  # a component's name is that of its folder
        return f"it has the key {key!r:.60}, which is no plain name"
    match key:
        case "_class_name":
            right = _is_name(value) or (isinstance(value, list) and len(value) == 2 and all(map(_is_name, value)))
            return None if right else f"_class_name is {shown}, where the name of a class is due"
        case "boundary_ratio":
            right = value is None or (type(value) in (int, float) and 0 < value < 1)
            return None if right else f"boundary_ratio is {shown}, where a number between 0 and 1 is due"
        case "expand_timesteps":
            right = value is None or isinstance(value, bool)
            return None if right else f"expand_timesteps is {shown}, where true or false is due"
    if key not in COMPONENTS:  # a setting of the pipeline, or a component of another kind of model
        return None
    pair = isinstance(value, list) and len(value) == 2
    right = value is None or (pair and (value == [None, None] or all(map(_is_name, value))))
    return None if right else f"{key} is {shown}, where [library, class] or [null, null] is due"


COMPONENTS = (
    "transformer",
    "transformer_2",
    "vae",
    "text_encoder",
    "tokenizer",
    "scheduler",
    "image_encoder",
    "image_processor",
)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and _NAME.fullmatch(value) is not None
