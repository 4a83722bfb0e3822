"""From one form to the jobs of one submit: values laid out over fields, and seeds.

Clips of one sweep may ask for the same output: the engine gives each the first free name, and never overwrites.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

from engine.errors import JobError
from engine.job import MAX_SEED, Job, draw_seed, expand
from wan_tui.composing.form import Form
from wan_tui.composing.read import read

MOST_CLIPS = 200  # of a sweep: some hundred hours of a card

# Values of these stand one a line; those of other fields are parted by commas.
_BY_LINE = ("prompt", "negative_prompt", "model", "output.path")
_NUMBER = r"\s*([+-]?\d{1,19}(?:\.\d{1,6})?)\s*"
_RANGE = re.compile(rf"{_NUMBER}\.\.{_NUMBER}(?:\.\.{_NUMBER})?")


@dataclass(frozen=True)
class Axis:
    """The values one field takes in turn, as texts of that field."""

    key: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Submission:
    """One job for each clip, every seed filled in, and the form as it stands after them."""

    jobs: tuple[Job, ...]
    form: Form


def axis(key: str, text: str) -> Axis:
    """The values `text` lists: `20, 30, 40`, `1..4`, `3..5..0.5` (from, to, step), or lines of prompts or paths.

    Raises `JobError` where there are none, or far too many.
    """
    by_line = key in _BY_LINE or key.startswith("inputs.")
    values: list[str] = []
    for part in text.split("\n" if by_line else ","):
        span = None if by_line else _RANGE.fullmatch(part)
        values += _range(key, part, *span.groups()) if span else [part if by_line else part.strip()]
    given = tuple(dict.fromkeys(value for value in values if value.strip()))
    if not given:
        raise _bad(f"The sweep over {key} has no values.", "List some, such as 20, 30, 40 or 1..4.")
    if len(given) > MOST_CLIPS:
        raise _too_many(len(given))
    return Axis(key, given)


def combinations(axes: Sequence[Axis]) -> int:
    """How many jobs a sweep makes; 1 without axes."""
    return math.prod(len(one.values) for one in axes)


def sweep(form: Form, axes: Sequence[Axis], here: Path) -> list[Job]:
    """A job for each combination of values; the last axis changes fastest.

    Raises `JobError`, with the combination, for the first that is no valid job.
    """
    keys = [one.key for one in axes]
    if twice := {key for key in keys if keys.count(key) > 1}:
        raise _bad(f"The sweep has {twice.pop()} twice.", "Put all its values into one list.")
    if axes and combinations(axes) > MOST_CLIPS:
        raise _too_many(combinations(axes))
    jobs = []
    for values in itertools.product(*(one.values for one in axes)):
        changed = form
        for key, value in zip(keys, values, strict=True):
            changed = changed.put(key, value)
        jobs.append(_job(changed, tuple(keys), here))
    if axes and (clips := sum(job.count for job in jobs)) > MOST_CLIPS:
        raise _too_many(clips)
    return jobs


def submit(form: Form, axes: Sequence[Axis], here: Path) -> Submission:
    """The clips of a submit. Without a sweep over seeds all its jobs begin with one seed, so that they compare.

    That seed is drawn where none is typed; a fixed form keeps it, one that counts on goes to the next unused one.
    """
    jobs = sweep(form, axes, here)
    drawn = draw_seed(max(job.count for job in jobs))
    jobs = [job if job.seed is not None else replace(job, seed=drawn) for job in jobs]
    clips = tuple(clip for job in jobs for clip in expand(job))
    if form.seed_mode == "random" or any(one.key == "seed" for one in axes):
        return Submission(clips, form)
    first, last = clips[0].seed or 0, max(clip.seed or 0 for clip in clips)
    after = first if form.seed_mode == "fixed" else (last + 1) % (MAX_SEED + 1)
    return Submission(clips, form.put("seed", str(after)))


def _job(form: Form, keys: Sequence[str], here: Path) -> Job:
    reading = read(form, here)
    if reading.job:
        return reading.job
    where = ", ".join(f"{key} = {_short(form.texts[key])}" for key in keys if key in form.texts)
    key, sentence = next(iter(reading.problems.items()))
    message = sentence if key in keys or not where else f"{sentence} (At {where}.)"
    raise _bad(message, "Correct it, or take it out of the sweep." if keys else "Correct it first.")


def _range(key: str, part: str, first: str, last: str, step: str | None) -> list[str]:
    low, high, by = Decimal(first), Decimal(last), Decimal(step or 1)
    if by == 0 or (high - low) * by < 0:
        raise _bad(f"{part.strip()} in the sweep over {key} leads nowhere.", "Write from..to or from..to..step.")
    count = int((high - low) / by) + 1
    if count > MOST_CLIPS:
        raise _too_many(count)
    return [format(low + by * number, "f") for number in range(count)]


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:30]}… ({len(text)} characters)"


def _too_many(count: int) -> JobError:
    return _bad(f"The sweep asks for {count} clips; one makes at most {MOST_CLIPS}.", "Give fewer values.")


def _bad(message: str, suggestion: str) -> JobError:
    return JobError("bad-sweep", message, suggestions=[suggestion])
