"""The plan of a run: which rung of the memory ladder it takes, and on what.

This version knows one rung, `staged`: one component in memory at a time. What is not predicted is None.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.errors import JobError
from engine.hardware import Device
from engine.job import Job

RUNGS = ("staged",)


@dataclass(frozen=True)
class Plan:
    """What a run will do with memory; figures in bytes and seconds, None while unknown."""

    profile: str
    device: Device
    fits: bool | None
    vram_bytes: int | None
    ram_bytes: int | None
    seconds: float | None
    reasons: tuple[str, ...]


def check_memory(job: Job) -> None:
    """Refuse what no rung of this version does. Raises `JobError`."""
    if job.memory.profile not in ("auto", *RUNGS):
        raise JobError(
            "no-such-rung",
            f"memory.profile = {job.memory.profile!r} is not among the rungs of this version.",
            suggestions=['Use "auto" or "staged": one component in memory at a time.'],
        )
    if job.memory.window or job.segments:
        what = "[[segments]]" if job.segments else "memory.window"
        raise JobError(
            "no-windows",
            f"{what} asks for long video in windows, which this version does not make.",
            suggestions=["Ask for one clip with frames and prompt."],
        )


def make_plan(job: Job, device: Device, reasons: tuple[str, ...]) -> Plan:
    """The rung for a checked job on `device`."""
    why = "one component in memory at a time; memory and time are not predicted yet"
    return Plan("staged", device, None, None, None, None, (*reasons, why))
