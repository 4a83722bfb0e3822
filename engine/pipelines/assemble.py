"""A diffusers pipeline whose components wait on disk."""

from __future__ import annotations

import inspect
from typing import Any

from engine.compat.finding import remedy
from engine.compat.folder import WEIGHTLESS, ModelFolder
from engine.compat.grant import PIPELINE
from engine.errors import ModelError
from engine.pipelines.components import Components
from engine.pipelines.trusted import answerable, trusted_class

_SETTINGS = (bool, int, float, str)


def assemble(components: Components, pipeline: str, *, without: tuple[str, ...] = ()) -> Any:
    """The pipeline class named `pipeline`, built from stand-ins; components named in `without` are None.

    Of a folder with a pipeline of its own that the user trusts, that one.
    """
    folder = components.folder
    kind = _kind(folder, pipeline)
    own = folder.pipeline_module is not None
    parts: dict[str, Any] = {}
    for name, parameter in _parameters(kind).items():
        if name == "boundary_ratio":
            parts[name] = folder.boundary_ratio
        elif name == "expand_timesteps":
            parts[name] = folder.expand_timesteps
        elif name in without:
            parts[name] = None
        elif own and isinstance(folder.index.get(name), _SETTINGS):
            parts[name] = folder.index[name]
        elif own and name not in folder.components and parameter.default is not parameter.empty:
            continue
        else:
            parts[name] = components.small(name) if name in WEIGHTLESS else components.stand_in(name)
    pipe = _built(kind, parts) if own else kind(**parts)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _kind(folder: ModelFolder, pipeline: str) -> Any:
    """The class itself. Raises `ModelError` where it is code that is not trusted."""
    import diffusers

    if folder.pipeline_module is None:
        return getattr(diffusers, pipeline)
    if folder.grant is None or PIPELINE not in folder.grant.classes:  # the folder was checked; still
        raise ModelError(
            "remote-code",
            f"{folder.path} brings a pipeline of its own, and is not trusted.",
            suggestions=[remedy("trust", "trust", "add", str(folder.path)).command],
            actions=["trust"],
        )
    kind = trusted_class(folder.grant, PIPELINE)
    if not issubclass(kind, diffusers.DiffusionPipeline):
        raise ModelError("bad-code", f"{kind.__name__} of {folder.path} is no pipeline of diffusers.")
    return answerable(folder.grant, kind)


def _built(kind: Any, parts: dict[str, Any]) -> Any:
    """A pipeline of anybody's code, made, and held against what diffusers asks of one."""
    try:
        pipe = kind(**parts)
        _ = pipe.components
    except Exception as error:
        raise ModelError(
            "bad-code",
            f"The pipeline {kind.__name__} that came with the model cannot be built.",
            cause=" ".join(f"{type(error).__name__}: {error}".split())[:300],
            suggestions=["Ask who made the model which versions of diffusers and transformers it needs."],
        ) from error
    return pipe


def _parameters(kind: type) -> dict[str, inspect.Parameter]:
    """What a pipeline is built from; where its `__init__` hands `**kwargs` on, what the class below takes too."""
    found: dict[str, inspect.Parameter] = {}
    for one in kind.__mro__:
        if "__init__" not in vars(one):
            continue
        parameters = inspect.signature(one.__init__).parameters.values()  # type: ignore[misc]
        for parameter in parameters:
            if parameter.name != "self" and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                found.setdefault(parameter.name, parameter)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            break
    return found


def shifted(scheduler: Any, flow_shift: float | None) -> Any:
    """The scheduler with the job's flow shift; the one saved in a folder is often not the published one."""
    if flow_shift is None:
        return scheduler
    key = "flow_shift" if "flow_shift" in scheduler.config else "shift"
    return type(scheduler).from_config(scheduler.config, **{key: flow_shift})
