"""Reading job files: every check that needs no model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.job import Job
from engine.jobfile.checker import Checker
from engine.jobfile.keys import MAKES, TABLES, TOP, TOP_NAMES
from engine.jobfile.overrides import lay_over
from engine.jobfile.source import read_table


def read_job(file: Path, overrides: Sequence[str] = ()) -> Job:
    """Read, override (`key=value`, dotted keys) and check one job file.

    Raises `JobError` with the file, the key, its line where known, the value and the nearest valid one.
    """
    table, source = read_table(file)
    lay_over(table, overrides)
    return job_from_table(table, file, source)


def job_from_table(table: Mapping[str, Any], file: Path, source: str = "") -> Job:
    """Check a parsed job; relative paths are taken from the folder of `file`."""
    check = Checker(file, source)
    job = _each_key(table, check)
    check.together(job, table)
    return job


def job_of_keys(table: Mapping[str, Any], file: Path, source: str = "") -> Job:
    """A job of which each key is right by itself: `conflicts` may have more to say, and the prompt may be missing."""
    return _each_key(table, Checker(file, source))


def _each_key(table: Mapping[str, Any], check: Checker) -> Job:
    check.names("", table, TOP_NAMES)
    values = check.values("", {k: v for k, v in table.items() if k in TOP}, TOP)
    if "size" in table:
        values |= check.size(table)
    for name, rules in TABLES.items():
        if name in table:
            values[name] = MAKES[name](**check.table(name, table[name], rules))
    if "segments" in table:
        values["segments"] = check.segments(table["segments"])
    return Job(**values)
