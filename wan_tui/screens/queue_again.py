"""A job of the journal asked for once more."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import JobError

if TYPE_CHECKING:
    from engine.job import Job
    from engine.runtime.journal import Journal
    from engine.runtime.prepare import Checked


def again(journal: Journal, id: str, *, new_seed: bool) -> list[Checked]:
    """The same job, checked as if it were new: model and inputs may have changed since.

    Called in a thread. Raises `WanError`.
    """
    from engine.catalog import load_catalog
    from engine.job import draw_seed
    from engine.jobfile import job_from_table
    from engine.runtime.prepare import prepare

    row = journal.row(id)
    file = Path(row.file) if row.file else Path.cwd() / "again"  # names the job; it is not read
    try:
        table = tomllib.loads(row.job_toml)
    except tomllib.TOMLDecodeError as error:
        raise JobError(
            "bad-toml", f"The settings that the journal keeps of job {row.id} cannot be read.", cause=str(error)
        ) from None
    job = job_from_table(table, file)
    return [prepare(_reseeded(job, draw_seed()) if new_seed else job, file, load_catalog())]


def _reseeded(job: Job, seed: int) -> Job:
    """With another seed, also in the name of the video where that ends with the old one."""
    path, ending = job.output.path, f"-{job.seed}"
    if path and path.stem.endswith(ending):
        path = path.with_stem(path.stem.removesuffix(ending) + f"-{seed}")
    return replace(job, seed=seed, output=replace(job.output, path=path))
