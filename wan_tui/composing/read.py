"""From a form to a job and back, by the rules of job files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from engine.job import Inputs, Job
from engine.jobfile import RULES, Refused, conflicts, job_of_keys, literal, refusal_words
from wan_tui.composing.form import KEPT, Form

NAME = "form"  # stands where the name of a job file would; no such file is read

# What is typed into these is a text as it is. The others are read as TOML reads a value.
_AS_TYPED = ("prompt", "negative_prompt", "model", "size", "device", "memory.profile", "memory.vram_limit")
_UNITS = (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10))


@dataclass(frozen=True)
class Reading:
    """The job a form stands for; None while `problems` (a sentence for each field that has one) is not empty."""

    job: Job | None
    problems: Mapping[str, str]


def read(form: Form, here: Path) -> Reading:
    """Judge every field by itself, then what they say together. Relative paths are taken from `here`."""
    problems = {key: found for key, text in form.texts.items() if (found := problem(key, text, here))}
    job = job_of_keys(table_of(form.without(problems)), here / NAME)
    if "prompt" not in form.texts and not job.segments:
        problems["prompt"] = "prompt is missing: say what is to be seen."
    for key, value, refused in conflicts(job):
        problems.setdefault(key, _sentence(key, value, refused))
    return Reading(None if problems else job, problems)


def problem(key: str, text: str, here: Path) -> str | None:
    """What is wrong with the text of one field, with the nearest valid value; None where nothing is."""
    value = value_of(key, text)
    try:
        RULES[key](value, here)
    except Refused as refused:
        return _sentence(key, value, refused)
    return None


def value_of(key: str, text: str) -> Any:
    """The value a job file would hold for a text typed."""
    if key == "inputs.references":
        return [line for line in text.split("\n") if line.strip()]
    if key in _AS_TYPED or key == "output.path" or key.startswith("inputs."):
        return text
    return literal(text)


def table_of(form: Form) -> dict[str, Any]:
    """The job file a form stands for, as TOML parses it; nothing in it is checked yet."""
    table: dict[str, Any] = {}
    for key, value in (*((key, value_of(key, text)) for key, text in form.texts.items()), *form.kept.items()):
        home, _, name = key.rpartition(".")
        (table.setdefault(home, {}) if home else table)[name] = value
    return table


def changed(form: Form, changes: Mapping[str, Any]) -> Form:
    """The form with some keys of its job given other values; a size comes as `width` and `height`."""
    texts = {key: str(value) for key, value in changes.items() if key not in ("width", "height", *KEPT)}
    if "width" in changes:
        texts["size"] = f"{changes['width']}*{changes['height']}"
    for key, text in texts.items():
        form = form.without((key,)) if text == "auto" else form.put(key, text)
    return replace(form, kept={**form.kept, **{key: value for key, value in changes.items() if key in KEPT}})


def form_of(job: Job, here: Path) -> Form:
    """The form that stands for a job; paths below `here` are shown from there."""
    texts: dict[str, str | None] = {
        "model": None if job.model == "auto" else job.model,
        "prompt": None if job.segments and not job.prompt else job.prompt,
        "negative_prompt": job.negative_prompt,
        "size": f"{job.width}*{job.height}" if job.width and job.height else None,
        "count": str(job.count) if job.count != 1 else None,
        "device": None if job.device == "auto" else job.device,
        "memory.profile": None if job.memory.profile == "auto" else job.memory.profile,
        "memory.vram_limit": None if job.memory.vram_limit is None else bytes_text(job.memory.vram_limit),
        "output.path": None if job.output.path is None else path_text(job.output.path, here),
        "output.crf": _text(job.output.crf),
    }
    for key in ("frames", "fps", "steps", "guidance", "guidance_2", "flow_shift", "seed"):
        texts[key] = _text(getattr(job, key))
    for key in ("strength", "conditioning_scale"):
        texts[key] = _text(getattr(job, key))
    for one in fields(Inputs):
        value = getattr(job.inputs, one.name)
        paths = value if isinstance(value, tuple) else (value,) if value else ()
        texts[f"inputs.{one.name}"] = "\n".join(path_text(path, here) for path in paths) or None
    shown = {key: text for key, text in texts.items() if text is not None}
    return Form(shown, "random" if job.seed is None else "fixed", _kept(job))


def bytes_text(count: int) -> str:
    """Bytes in the largest unit that gives a whole number of them."""
    unit, step = next(((unit, step) for unit, step in _UNITS if count % step == 0), ("B", 1))
    return f"{count // step}{unit}"


def path_text(path: Path, here: Path) -> str:
    """A path as it is typed: from `here` where it lies below, else in full."""
    try:
        text = str(path.relative_to(here))
    except ValueError:
        return str(path)
    return str(path) if text.startswith("~") else text  # which would be taken for a home


def _kept(job: Job) -> dict[str, Any]:
    memory = job.memory
    kept: dict[str, Any] = {"memory.allow_lossy": True} if memory.allow_lossy else {}
    kept |= {} if memory.window is None else {"memory.window": memory.window}
    kept |= {} if memory.overlap is None else {"memory.overlap": memory.overlap}
    segments = [{"frames": segment.frames, "prompt": segment.prompt} for segment in job.segments]
    return kept | ({"segments": segments} if segments else {})


def _text(value: float | None) -> str | None:
    return None if value is None else str(value)


def _sentence(key: str, value: Any, refused: Refused) -> str:
    problem, hints = refusal_words(key, value, refused)
    return " ".join((problem, *hints))
