"""What is told of a place that holds no Wan pipeline in diffusers layout: what it holds instead, and what to do."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from engine.catalog import ModelSpec
from engine.compat.anatomy import Anatomy
from engine.compat.finding import Finding, Remedy, as_finding, remedy, verdict
from engine.compat.schema import INDEX
from engine.errors import ModelError
from engine.library.jsonfile import read_json

if TYPE_CHECKING:
    from engine.compat.recognise import Recognised

MODULAR_INDEX = "modular_model_index.json"
_MOST_ENTRIES = 2000  # of a folder, looked through for models below it
_LAYOUT = "Name a folder in diffusers layout."
_INSTEAD = "Use the model's repository in diffusers layout; `wan-tui models list` names them."


def judge_foreign(anatomy: Anatomy, models: Iterable[ModelSpec] = ()) -> Iterator[Finding]:
    """What lies there instead, and which of `models`, those this version runs, to use in its stead."""
    if verdict(anatomy.findings) == "cannot-run":
        return
    found = list(anatomy.recognised.values())
    names = "; ".join(sorted({one.name for one in found}))[:300]
    wan = [one for one in found if one.wan]
    path = anatomy.path
    if anatomy.layout != "component" and (other := _not_here(path)):
        yield other
        return
    match anatomy.layout:
        case "component":
            message = f"{path} is one component of a pipeline ({names or 'no weights'})."
            yield Finding("error", "one-component", message, suggestions=(f"Name the folder above: {path.parent}.",))
        case "pickle":
            yield Finding(
                "error",
                "pickled-weights",
                f"{path} holds pickled weights, which are not opened: reading one can run any code.",
                suggestions=("Use safetensors weights of the same model.",),
            )
        case "none":
            message = f"{path} holds no model: no model_index.json and no weights."
            instead = f"Name the folder it lies in: {path.parent}." if path.name == INDEX else _LAYOUT
            yield Finding("error", "not-a-pipeline", message, _unreadable(path), (instead,))
        case "lora" if wan:
            message = f"{path} is a {names}: it is added to a model, and is none by itself."
            yield Finding("error", "is-a-lora", message, suggestions=("This version does not apply LoRAs yet.",))
        case "gguf" | "single-file" | "original" if wan:
            code = {"gguf": "gguf-file", "original": "original-layout"}.get(anatomy.layout, "single-file")
            yield Finding(
                "error",
                code,
                f"{path} holds {names}, which is not a pipeline in diffusers layout: this version runs those alone.",
                "Weights by themselves lack the configuration, text encoder and VAE a run needs."
                if code != "original-layout"
                else "It is the authors' own layout.",
                (_INSTEAD,),
                tuple(_same_models(found, models)),
            )
        case _:
            yield Finding(
                "error",
                "not-wan",
                f"{path} is no Wan model: {names or 'unknown weights'}.",
                suggestions=("Use a model of Wan 2.1 or 2.2.",),
            )


def _not_here(path: Path) -> Finding | None:
    """A folder whose model is of a kind this version does not load, or lies in a folder below."""
    modular = path / MODULAR_INDEX
    if os.path.isfile(modular):
        try:
            kind = str(read_json(modular).get("_class_name"))
        except ModelError as error:
            return as_finding(error)
        code, what = ("not-yet", "does not run") if kind.startswith("Wan") else ("not-wan", "is for Wan, and not for")
        message = f"{path} holds the modular pipeline {kind:.80}: this version of wan-tui {what} such models."
        return Finding("error", code, message, suggestions=(_INSTEAD,))
    below = _models_below(path)
    if below:
        folders = ", ".join(str(folder) for folder in below[:3])
        message = f"{path} is no model itself; there are models in folders below it: {folders}."
        return Finding("error", "not-a-pipeline", message, suggestions=(f"Name the folder: {below[0]}.",))
    return None


def _models_below(path: Path) -> list[Path]:
    try:
        with os.scandir(path) as entries:
            names = sorted(entry.name for entry in islice(entries, _MOST_ENTRIES))
    except OSError:
        return []
    return [path / name for name in names if os.path.isfile(path / name / INDEX)]


def _unreadable(path: Path) -> str | None:
    """Why there may be nothing to see."""
    try:
        if stat.S_ISDIR(os.stat(path).st_mode):
            os.scandir(path).close()
        elif not stat.S_ISREG(os.stat(path).st_mode):
            return "It is neither a folder nor a regular file."
    except OSError as error:
        return f"It cannot be read: {error.strerror}."
    return None


def _same_models(found: Iterable[Recognised], models: Iterable[ModelSpec]) -> Iterator[Remedy]:
    for one in found:
        for spec in models:
            if spec.family in one.families and spec.version[:3] in one.versions and (one.size or "") in spec.id:
                yield remedy("download", "models", "download", spec.id)
                return
