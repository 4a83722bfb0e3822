"""What running out of memory has taught: how far earlier runs of the same clip on this device had to go down.

A row of the journal has in `recorded` what came of the run: `fallbacks` are its steps down, each with the rung and the
form of the VAE it led to.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from engine.job import Job
from engine.memory.ladder import FORMS, NAMES
from engine.runtime.journal import JobRow, State
from engine.tomltext import loads

LAST = 20  # runs of a clip; what was learnt longer ago is tried again
_FORMS = tuple(form.name for form in FORMS)


def lowest(
    rows: Iterable[JobRow], device: str, model: str, clip: Job, storage: str | None = None
) -> tuple[str, str] | None:
    """(rung, form) that earlier runs of a clip like `clip` went down to; None where none ran out of memory.

    `rows` are the newest first, `device` is a UUID, `model` as the complete job has it. Clips are alike when their
    size, frames and windows are, and the limit they ran under. With `storage` only runs whose weights were stored so
    count: those of exact ones tell nothing of what fits in fp8.
    """
    steps: list[tuple[str, str]] = []
    seen = 0
    for row in rows:
        mine = row.state == State.FINISHED and (row.device, row.model) == (device, model)
        stored = storage in (None, _storage(row.recorded))
        if mine and stored and seen < LAST and _alike(row.job_toml, clip):
            steps += _steps((row.recorded or {}).get("fallbacks"))
            seen += 1
    if not steps:
        return None
    return max((rung for rung, _ in steps), key=NAMES.index), max((form for _, form in steps), key=_FORMS.index)


def _storage(recorded: Any) -> Any:
    """How a run stored its weights; None where that was not noted."""
    plan = recorded.get("plan") if isinstance(recorded, dict) else None
    return plan.get("storage") if isinstance(plan, dict) else None


def _steps(noted: Any) -> Iterator[tuple[str, str]]:
    """(rung, form) after each step down; what is not known here, from another version, is left out."""
    for step in noted if isinstance(noted, list) else ():
        if isinstance(step, dict) and step.get("rung") in NAMES and step.get("form") in _FORMS:
            yield step["rung"], step["form"]


def _alike(text: str, clip: Job) -> bool:
    """Whether a job's TOML asks for the same amount of work under the same limit."""
    try:
        job = loads(text)
    except (ValueError, RecursionError):
        return False
    memory, wanted = job.get("memory"), clip.memory
    if not isinstance(memory, dict):
        return False
    limit = None if wanted.vram_limit is None else f"{wanted.vram_limit}B"
    windows = (memory.get("window"), memory.get("overlap"), memory.get("vram_limit"))
    sizes = (job.get("width"), job.get("height"), job.get("frames"))
    return windows == (wanted.window, wanted.overlap, limit) and sizes == (clip.width, clip.height, clip.frames)
