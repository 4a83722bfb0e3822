"""Job files into a form, and a form into a job file."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine.errors import JobError
from engine.job import Inputs, Job
from engine.jobfile import job_from_table, read_table
from engine.paths import write_atomic
from engine.tomltext import loads
from wan_tui.composing.form import Form
from wan_tui.composing.read import form_of, path_text

# Strings are passed over, so that a # inside one is none of a comment.
_COMMENT = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}|' r"'''.*?'{3,5}|" r'"(?:\\.|[^"\\\n])*"|' r"'[^'\n]*'|" r"(?P<comment>#)", re.DOTALL
)
_WORDS = {
    "segments": "the prompts of its segments",
    "memory.window": "memory.window",
    "memory.overlap": "memory.overlap",
    "memory.allow_lossy": "memory.allow_lossy",
}


@dataclass(frozen=True)
class Loaded:
    """A form from a file, what its `[recorded]` table holds, and sentences on what the form does not show."""

    form: Form
    recorded: Mapping[str, Any] | None
    notes: tuple[str, ...]


def load(file: Path, here: Path) -> Loaded:
    """A job file, or the sidecar of a clip, as a form; its paths are shown from `here`.

    Raises `JobError` where the file is no valid job.
    """
    file = here / file
    return _loaded(*read_table(file), file, here)


def load_text(source: str, file: Path, here: Path) -> Loaded:
    """The same of a text that lies, or lay, in `file`. Raises `JobError`."""
    file = here / file
    try:
        table = loads(source)
    except (ValueError, RecursionError) as error:
        raise JobError("bad-toml", f"{file} is not valid TOML: {error}.") from None
    return _loaded(table, source, file, here)


def _loaded(table: dict[str, Any], source: str, file: Path, here: Path) -> Loaded:
    job = job_from_table(table, file, source)
    form = form_of(_moved(job, file.parent, here), here)
    recorded = table.get("recorded")
    return Loaded(form, recorded if isinstance(recorded, dict) else None, tuple(_notes(form, source)))


def save(job: Job, file: Path, here: Path, *, overwrite: bool = False) -> None:
    """Write a job to a file, whole or not at all; what lies below the file's folder is named from there.

    Raises `JobError`: `file-exists` where something is there and `overwrite` was not said, else `not-written`.
    """
    file = here / file
    write_text(file, _named_from(_moved(job, here, file.parent), file.parent).toml(), overwrite=overwrite)


def write_text(file: Path, text: str, *, overwrite: bool) -> None:
    """Write a text under a name nobody holds, or over what was there. Raises `JobError` as `save` does."""
    try:
        data = text.encode()
        file.parent.mkdir(parents=True, exist_ok=True)
        if not overwrite and not _claim(file):
            raise JobError("file-exists", f"{file} is there already.", suggestions=["Take another name."])
        write_atomic(file, data, shared=True)
    except (OSError, ValueError) as error:  # a name or a text that is no UTF-8 is a ValueError
        reason = getattr(error, "strerror", None) or str(error)
        hints = ["Choose another folder or name."]
        raise JobError("not-written", f"{file} cannot be written: {reason}.", suggestions=hints) from None


def _claim(file: Path) -> bool:
    """Take a name that is free: two that save at once do not both think it so."""
    try:
        file.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _notes(form: Form, source: str) -> list[str]:
    notes = [
        f"The form does not show {_WORDS[key]}: it is kept, and goes into the job and into files saved from it."
        for key in form.kept
    ]
    if any(found["comment"] for found in _COMMENT.finditer(source)):
        notes.append("The file has comments: a file saved from the form has none.")
    return notes


def _moved(job: Job, origin: Path, here: Path) -> Job:
    """A model that is a folder, named from `here` where it was named from `origin`."""
    name = job.model
    if "/" not in name and not name.startswith((".", "~")):
        return job
    folder = origin / os.path.expanduser(name)
    if not os.path.lexists(folder):  # the name of a repository, perhaps: it is told as it was written
        return job
    text = path_text(folder, here)
    return replace(job, model=text if "/" in text else os.path.join(".", text))


def _named_from(job: Job, folder: Path) -> Job:
    """The job with paths below `folder` named from there."""

    def near(path: Path) -> Path:
        return Path(path_text(path, folder))

    inputs: dict[str, Any] = {
        name: tuple(map(near, value)) if isinstance(value, tuple) else near(value)
        for name in job.inputs.given()
        for value in (getattr(job.inputs, name),)
    }
    output = replace(job.output, path=near(job.output.path)) if job.output.path else job.output
    return replace(job, inputs=Inputs(**inputs), output=output)
