"""Where earlier runs of the same clip had to go down to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from engine.job import Job, Memory
from engine.runtime.journal import JobRow, Journal
from engine.runtime.remembered import LAST, lowest

JOB = Job(model="t2v-1.3B@2.1.0", prompt="a cat", width=832, height=480, frames=81, seed=1)
STEP = {"stage": "denoise", "component": "transformer", "rung": "streamed", "form": "whole"}
TILED = {"stage": "decode", "component": "vae", "rung": "staged", "form": "tiled"}


def ran(job: Job, *steps: Any, device: str = "GPU-1", fails: bool = False) -> None:
    """A run that is over, in the journal, with the steps down it noted."""
    journal = Journal()
    name = journal.accept(
        model=job.model, task="text", prompt=job.prompt, job_toml=job.toml(), file=None, device=device
    )
    journal.start(name)
    recorded = {"fallbacks": list(steps)} if steps else {}
    journal.note(name, recorded=recorded)
    if fails:
        journal.fail(name, {"code": "out-of-memory"})
    else:
        journal.finish(name, output="/a.mp4", seconds=1.0)


def rows() -> list[JobRow]:
    return Journal().rows()


def found(job: Job = JOB, device: str = "GPU-1") -> tuple[str, str] | None:
    return lowest(rows(), device, job.model, job)


def test_the_lowest_rung_and_form_of_all_runs() -> None:
    assert found() is None
    ran(JOB)
    assert found() is None
    ran(replace(JOB, seed=2, prompt="a dog"), STEP)
    assert found() == ("streamed", "whole")
    ran(JOB, STEP | {"rung": "leaf"}, TILED)
    ran(JOB)
    assert found() == ("leaf", "tiled")


def test_what_exact_weights_ran_out_of_does_not_count_in_fp8() -> None:
    ran(JOB, STEP)
    assert found() == ("streamed", "whole")
    assert lowest(rows(), "GPU-1", JOB.model, JOB, "fp8") is None
    lossy = replace(rows()[0], recorded={"fallbacks": [STEP], "plan": {"storage": "fp8"}})
    assert lowest([lossy], "GPU-1", JOB.model, JOB, "fp8") == ("streamed", "whole")
    assert lowest([lossy], "GPU-1", JOB.model, JOB) == ("streamed", "whole")  # it would not have fitted exactly either
    assert lowest([replace(lossy, recorded={"plan": 3})], "GPU-1", JOB.model, JOB, "fp8") is None


@pytest.mark.parametrize(
    "other",
    [
        replace(JOB, width=640),
        replace(JOB, frames=49),
        replace(JOB, model="t2v-14B@2.1.0"),
        replace(JOB, memory=Memory(window=49)),
        replace(JOB, memory=Memory(vram_limit=8 * 2**30)),
    ],
    ids=["size", "frames", "model", "windows", "limit"],
)
def test_another_clip_learns_nothing(other: Job) -> None:
    ran(other, STEP)
    assert found() is None
    assert found(other) == ("streamed", "whole")


def test_another_device_learns_nothing() -> None:
    ran(JOB, STEP)
    assert found(device="GPU-2") is None


def test_a_run_that_failed_teaches_nothing() -> None:
    """It went down to the bottom, for whatever reason, and that did not help."""
    ran(JOB, STEP, fails=True)
    assert found() is None


def test_what_was_long_ago_is_forgotten() -> None:
    ran(JOB, STEP)
    for _ in range(LAST - 1):
        ran(JOB)
    assert found() == ("streamed", "whole")
    ran(JOB)
    assert found() is None


@pytest.mark.parametrize(
    "steps", [None, "odd", 3, [], [3], [{}], [{"rung": "fp8", "form": "whole"}], [{"rung": ["leaf"], "form": 1}]]
)
def test_rows_of_other_versions(steps: Any) -> None:
    ran(JOB)
    (row,) = rows()
    assert lowest([replace(row, recorded={"fallbacks": steps})], "GPU-1", JOB.model, JOB) is None
    assert lowest([replace(row, job_toml="odd = [")], "GPU-1", JOB.model, JOB) is None
    assert lowest([replace(row, job_toml="memory = 3")], "GPU-1", JOB.model, JOB) is None
