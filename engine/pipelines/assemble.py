"""A diffusers pipeline whose components wait on disk."""

from __future__ import annotations

import inspect
from typing import Any

from engine.compat.folder import WEIGHTLESS
from engine.pipelines.components import Components


def assemble(components: Components, pipeline: str, *, without: tuple[str, ...] = ()) -> Any:
    """The pipeline class named `pipeline`, built from stand-ins; components named in `without` are None."""
    import diffusers

    kind = getattr(diffusers, pipeline)
    folder = components.folder
    parts: dict[str, Any] = {}
    for name in inspect.signature(kind.__init__).parameters:
        if name == "self":
            continue
        if name == "boundary_ratio":
            parts[name] = folder.boundary_ratio
        elif name == "expand_timesteps":
            parts[name] = folder.expand_timesteps
        elif name in without:
            parts[name] = None
        else:
            parts[name] = components.small(name) if name in WEIGHTLESS else components.stand_in(name)
    pipe = kind(**parts)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def shifted(scheduler: Any, flow_shift: float | None) -> Any:
    """The scheduler with the job's flow shift; the one saved in a folder is often not the published one."""
    if flow_shift is None:
        return scheduler
    key = "flow_shift" if "flow_shift" in scheduler.config else "shift"
    return type(scheduler).from_config(scheduler.config, **{key: flow_shift})
