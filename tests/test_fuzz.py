"""Whatever a job file holds, it is a job or one `JobError`: nothing else comes out of reading it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.catalog import load_catalog
from engine.errors import JobError, WanError
from engine.job import Job, expand
from engine.jobfile import job_from_table, read_job
from engine.jobfile.keys import TABLES, TOP
from engine.runtime.prepare import prepare

CATALOG = load_catalog()
FILE = Path("/jobs/job.toml")
SAMPLE = settings(max_examples=150, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
SOAK = settings(max_examples=30_000, deadline=None, suppress_health_check=list(HealthCheck))

plain = st.one_of(
    st.booleans(),
    st.integers(-(2**65), 2**65),
    st.integers(-2, 100),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(
        ["auto", "cpu", "ti2v-5B", "t2v-A14B@2.2.0", "i2v-A14B:x", "12GiB", "832*480", "a.mp4", "./x", "staged"]
    ),
)
value: st.SearchStrategy[Any] = st.recursive(
    plain,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def keys(known: Any) -> st.SearchStrategy[str]:
    return st.sampled_from(sorted(known)) | st.text(max_size=8)


tables = st.dictionaries(keys({*TOP, "size", "segments", "recorded"}), value, max_size=8).flatmap(
    lambda top: st.fixed_dictionaries(
        {},
        optional={name: st.dictionaries(keys(rules), value, max_size=4) | value for name, rules in TABLES.items()},
    ).map(lambda sub: {"prompt": "a cat", **top, **sub})
)


def dumped(table: dict[str, Any]) -> bytes:
    return tomli_w.dumps(table).encode(errors="replace")


def check_table(table: dict[str, Any]) -> None:
    try:
        job = job_from_table(table, FILE)
    except JobError as error:
        assert error.message
        return
    assert isinstance(job, Job)
    for one in expand(job)[:2]:
        try:
            whole = prepare(one, FILE, CATALOG).job
        except WanError as error:
            assert error.message.isprintable() or "\n" in error.message
            continue
        assert None not in (whole.width, whole.height, whole.frames, whole.steps, whole.guidance, whole.seed)


def check_bytes(data: bytes, folder: Path) -> None:
    file = folder / "job.toml"
    file.write_bytes(data)
    try:
        job = read_job(file)
    except JobError:
        return
    again = folder / "again.toml"
    again.write_text(job.toml(), encoding="utf-8")
    assert read_job(again) == job  # what is a job stays the same job when it is written and read


@SAMPLE
@given(tables)
def test_any_table(table: dict[str, Any]) -> None:
    check_table(table)


@SAMPLE
@given(data=st.binary(max_size=200) | tables.map(dumped))
def test_any_bytes(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    check_bytes(data, tmp_path_factory.getbasetemp())


@pytest.mark.soak
@SOAK
@given(tables)
def test_any_table_long(table: dict[str, Any]) -> None:
    check_table(table)


@pytest.mark.soak
@SOAK
@given(data=st.binary(max_size=200) | tables.map(dumped))
def test_any_bytes_long(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    check_bytes(data, tmp_path_factory.getbasetemp())
