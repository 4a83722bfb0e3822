"""What is remembered beside a video: the complete job, and how it was made."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any

from engine.library.digest import file_digest
from engine.memory.plan import Plan
from engine.runtime.prepare import Checked

_PACKAGES = ("wan-tui", "torch", "diffusers", "transformers")


def sidecar(asked: Checked, plan: Plan, started: str, stages: dict[str, float], dtype: str) -> str:
    """The job as TOML with every value filled in, and a `[recorded]` table that is ignored when it is run again."""
    job = asked.job
    inputs = {
        name: [file_digest(p) for p in value] if isinstance(value, tuple) else file_digest(value)
        for name in job.inputs.given()
        for value in (getattr(job.inputs, name),)
    }
    recorded: dict[str, Any] = {
        "model": asked.spec.id,
        "revision": asked.revision,
        "task": job.task,
        "started": started,
        "plan": {"profile": plan.profile, "device": plan.device.name, "dtype": dtype, "reasons": plan.reasons},
        "versions": {name: version(name) for name in _PACKAGES} | {"python": platform.python_version()},
        "inputs_sha256": inputs,
        "seconds": stages,
    }
    return job.toml(recorded)
