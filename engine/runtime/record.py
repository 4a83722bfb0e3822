"""What is remembered beside a video: the complete job, and how it was made."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from types import MappingProxyType
from typing import Any

from engine.job import Job
from engine.library.digest import file_digest
from engine.memory import traced
from engine.memory.plan import Plan
from engine.runtime.lessons import WITHIN
from engine.runtime.prepare import Checked

_PACKAGES = ("wan-tui", "torch", "diffusers", "transformers")
_OF_PLAN = ("profile", "form", "storage", "vram_bytes", "ram_bytes", "seconds")
_OF_STAGE = ("name", "component", "flops", "moved_bytes", "loaded_bytes", "vram_bytes", "ram_bytes", "seconds")


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


def planned(plan: Plan, family: str) -> dict[str, Any]:
    """A plan's figures, to be kept beside what is measured: `lessons` draws on both.

    `format` is that of the traces they follow from, `pace` the rates and `lessons` the factors they were made with.
    """
    return {
        "format": traced.FORMAT,
        "family": family,
        **_figures(plan),
        "stages": [{name: getattr(stage, name) for name in _OF_STAGE} for stage in plan.stages],
        "pace": plan.pace and asdict(plan.pace),
        "lessons": list(plan.lessons),
    }


def _figures(plan: Plan) -> dict[str, Any]:
    """What a plan says of the whole run, and of the seconds of each stage of the way."""
    stages = {}
    for name, parts in WITHIN.items():
        seconds = [stage.seconds for stage in plan.stages if stage.name in parts]
        known = [one for one in seconds if one is not None]
        if known and len(known) == len(seconds):
            stages[name] = round(sum(known), 3)
    return {**{name: getattr(plan, name) for name in _OF_PLAN}, "stage_seconds": stages}


def sidecar(
    asked: Checked,
    plan: Plan,
    started: str,
    inputs: dict[str, Any],
    stages: dict[str, float],
    dtype: str,
    found: Mapping[str, Any] = MappingProxyType({}),
) -> str:
    """The job as TOML with every value filled in, and a `[recorded]` table that is ignored when it is run again.

    `stages` are the seconds of those that are over, `found` is what else is to be recorded.
    """
    recorded: dict[str, Any] = {
        "model": asked.spec.id,
        "revision": asked.revision,
        "task": asked.job.task,
        "started": started,
        "plan": {**_figures(plan), "device": plan.device.name, "dtype": dtype, "reasons": plan.reasons},
        "versions": versions(),
        "inputs_sha256": inputs,
        "seconds": stages,
        **found,
    }
    return asked.job.toml(recorded)
