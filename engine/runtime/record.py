"""What is remembered beside a video: the complete job, and how it was made."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from engine.job import Job
from engine.library.digest import file_digest
from engine.memory.plan import Plan
from engine.runtime.prepare import Checked

_PACKAGES = ("wan-tui", "torch", "diffusers", "transformers")


def versions(*more: str) -> dict[str, str]:
    """Of what decides a result, and of `more` packages; a checkout that is not installed has none."""
    found = {"python": platform.python_version()}
    for name in (*_PACKAGES, *more):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found


def input_digests(job: Job) -> dict[str, Any]:
    """SHA-256 of every input, taken when the run begins: hours later a file may be another, or gone."""
    return {
        name: [file_digest(p) for p in value] if isinstance(value, tuple) else file_digest(value)
        for name in job.inputs.given()
        for value in (getattr(job.inputs, name),)
    }


def sidecar(
    asked: Checked, plan: Plan, started: str, inputs: dict[str, Any], stages: dict[str, float], dtype: str
) -> str:
    """The job as TOML with every value filled in, and a `[recorded]` table that is ignored when it is run again."""
    recorded: dict[str, Any] = {
        "model": asked.spec.id,
        "revision": asked.revision,
        "task": asked.job.task,
        "started": started,
        "plan": {"profile": plan.profile, "device": plan.device.name, "dtype": dtype, "reasons": plan.reasons},
        "versions": versions(),
        "inputs_sha256": inputs,
        "seconds": stages,
    }
    return asked.job.toml(recorded)
