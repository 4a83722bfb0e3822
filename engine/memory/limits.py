"""Bounds of a plan beside the ladder: the least limit that means anything, and what a video takes on disk."""

from __future__ import annotations

import math

from engine.errors import FitError
from engine.job import Job
from engine.memory.choice import Choice, least_vram
from engine.memory.predict import CONTEXT, WORKSPACES
from engine.units import size

# Bytes a pixel of a finished video, at the upper end: H.264 and VP9 of noise at the default quality; else PNGs.
_ON_DISK = {".mp4": 0.5, ".webm": 0.5, ".gif": 1.0}
_PNG = 3.0


def check_limit(job: Job, chosen: Choice | None) -> None:
    """Refuse a limit that is smaller than what a GPU takes before there is any work. Raises `FitError`."""
    limit, least = job.memory.vram_limit, CONTEXT + WORKSPACES
    if limit is None or limit >= least:
        return
    needed = least_vram(chosen) if chosen else None
    raise FitError(
        "limit-too-small",
        f"memory.vram_limit is {size(limit)}; a GPU takes {size(least)} before it computes anything.",
        suggestions=[f"Give {size(needed)} or more: this job fits in no less." if needed else "Give some GiB more."],
    )


def disk_bytes(job: Job) -> int | None:
    """What the finished video may take, more than most do; None where it has no place yet."""
    if job.output.path is None:
        return None
    pixels = math.prod((job.width or 0, job.height or 0, job.frames or 0))
    return round(pixels * _ON_DISK.get(job.output.path.suffix.lower(), _PNG))
