"""What runs teach the next plan: from rows of any shape, from a real journal, and through real runs."""

from __future__ import annotations

import sqlite3
import tomllib
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.hardware import cpu
from engine.memory import traced
from engine.memory.pace import Pace, known_pace, pace_from, seconds_of
from engine.memory.predict import CONTEXT, Stage
from engine.runtime.journal import JobRow, Journal, State, runs_on
from engine.runtime.lessons import Lessons, learned, lessons, taught
from engine.runtime.owner import Owner
from tests.runs import events, job_file, wan_tui

PACE = Pace(flops=1e12, copy=1e10, load=1e9, pictures=5e11)
WORK = {"text": 10**12, "denoise": 10**15, "decode": 10**13}  # 1 s, 1000 s and, at the rate of pictures, 20 s
COMPONENTS = {"text": "text_encoder", "denoise": "transformer", "decode": "vae"}
TOOK = {"check": 0.5, "encode": 4.0, "denoise": 2010.0, "decode": 41.0}
LOADING = {"encode": 2.0, "denoise": 10.0, "decode": 0.0}
GIB = 1 << 30


@pytest.fixture(autouse=True)
def own_paces(own_home: Path) -> None:
    """No pace is known from other tests."""
    (own_home / "cache" / "wan-tui" / "paces").unlink()


def planned(**more: Any) -> dict[str, Any]:
    """A plan as a row keeps it."""
    stages = [
        {
            "name": name,
            "component": COMPONENTS[name],
            "flops": flops,
            "moved_bytes": 0,
            "loaded_bytes": 2 * 10**9,
            "seconds": 1.0,
        }
        for name, flops in WORK.items()
    ]
    bare = {"vram_bytes": 10 * GIB, "pace": asdict(PACE), "lessons": [1.0, 1.0], "family": "t2v", "stages": stages}
    return {"format": traced.FORMAT, **bare, **more}


def recorded(**more: Any) -> dict[str, Any]:
    return {"plan": planned(), "seconds": TOOK, "loading": LOADING, "peak_vram_bytes": 8 * GIB, **more}


def row(values: Any = None, model: str = "m@1", device: str = "GPU-1", state: State = State.FINISHED) -> JobRow:
    empty = dict.fromkeys(("started", "finished", "file", "cancel_requested", "output", "scratch", "seconds", "error"))
    told: Any = recorded() if values is None else values
    kept = {"model": model, "task": "text", "prompt": "p", "job_toml": "x = 1", "created": "2026-01-01T00:00:00"}
    return JobRow(id="1", state=state, device=device, owner=Owner("h", "b", 1, 1), recorded=told, **kept, **empty)


def of(*rows: JobRow, model: str = "m@1", family: str = "t2v") -> Lessons:
    return lessons(rows, "GPU-1", model, family)


def slower(factor: float) -> dict[str, Any]:
    """A run whose denoising took so many times the prediction."""
    return recorded(seconds={**TOOK, "denoise": 10.0 + 1000.0 * factor})


def test_a_run_teaches_how_long_its_stages_and_its_loading_took() -> None:
    found = of(row())
    assert found == Lessons(seconds=2.0, vram=1.0, runs=1, rest=pytest.approx(43 / 21), load=pytest.approx(5e8))
    pace = taught(PACE, found)
    assert pace == replace(PACE, load=found.load, denoising=2.0, others=found.rest)
    denoising = Stage("denoise", "transformer", 0, 0, 10**15, loaded_bytes=10**9)
    assert seconds_of(denoising, pace) == pytest.approx(2 + 2000)
    assert taught(PACE, Lessons()) == PACE


def test_what_was_shown_at_the_time_changes_no_lesson() -> None:
    corrected = asdict(taught(PACE, Lessons(seconds=2.0, rest=3.0)))
    assert of(row(recorded(plan=planned(pace=corrected)))) == of(row())
    raised = recorded(plan=planned(vram_bytes=15 * GIB, lessons=[1.0, 1.5]), peak_vram_bytes=12 * GIB)
    assert of(row(raised)).vram == pytest.approx((12 * GIB + CONTEXT) / (10 * GIB))


def test_a_stage_whose_time_was_not_foretold_teaches_nothing() -> None:
    plan = planned()
    plan["stages"][2]["seconds"] = None  # a VAE on the CPU, beside a GPU
    assert of(row(recorded(plan=plan))) == replace(of(row()), rest=pytest.approx(2.0))


def test_memory_is_only_ever_raised() -> None:
    peaks = {4 * GIB: 1.0, 9 * GIB: 1.0, 11 * GIB: (11 * GIB + CONTEXT) / (10 * GIB), 100 * GIB: 1.5}
    for peak, factor in peaks.items():
        assert of(row(recorded(peak_vram_bytes=peak))).vram == pytest.approx(factor)
    assert of(row(recorded(peak_vram_bytes=None))).vram == 1.0
    assert of(row(recorded(plan=planned(vram_bytes=None)))).vram == 1.0


def test_runs_of_the_same_model_count_alone() -> None:
    mine, kin, other = row(slower(2)), row(slower(3), "kin@1"), row(slower(5), "other@1")
    other = replace(other, recorded={**slower(5), "plan": planned(family="i2v")})
    assert of(other, kin, mine).seconds == 2.0
    assert of(other, kin).seconds == 3.0
    assert of(other).seconds == 5.0
    assert of(other, kin, mine).runs == 1
    assert of() == Lessons()


def test_small_runs_teach_nothing_of_other_models() -> None:
    small = planned()
    small["stages"][1]["flops"] = 10**10
    tiny = row(recorded(plan=small, seconds={**TOOK, "denoise": 10.05}), "tiny@1")
    assert of(tiny) == Lessons()
    assert of(tiny, model="tiny@1").seconds == pytest.approx(5.0)


def test_rows_that_are_not_alike_teach_nothing() -> None:
    others = [
        row(device="GPU-2"),
        row(state=State.FAILED),
        row(recorded(fallbacks=[{"stage": "decode", "rung": "staged", "form": "tiled"}])),
        row(recorded(plan=planned(format=traced.FORMAT + 1))),
        row({"peak_vram_bytes": 1, "seed": 7, "frames": 81}),  # of a version that predicted nothing
    ]
    assert of(*others) == Lessons()
    assert of(row(recorded(fallbacks=[]))).runs == 1


def test_the_last_twenty_runs_count() -> None:
    assert of(*[row(slower(2))] * 20, *[row(slower(9))] * 40).seconds == 2.0
    assert of(*[row(slower(2))] * 20, *[row(slower(9))] * 40).runs == 20


@pytest.mark.parametrize(("factor", "kept"), [(1e-9, 0.01), (0.5, 0.5), (99, 99), (1e9, 100)])
def test_factors_stay_within_bounds(factor: float, kept: float) -> None:
    assert of(row(slower(factor))).seconds == pytest.approx(kept)


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=20), st.randoms())
def test_a_lesson_is_the_median_of_the_runs(factors: list[float], order: Any) -> None:
    rows = [row(slower(factor)) for factor in factors]
    found = of(*rows)
    assert found.seconds == pytest.approx(median(factors)) and found.runs == len(factors)
    order.shuffle(rows)
    assert of(*rows) == found


plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)
values = st.recursive(plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner))
NAMES = ["plan", "seconds", "loading", "fallbacks", "peak_vram_bytes"]
PARTS = ["format", "pace", "lessons", "family", "stages", "vram_bytes"]


@given(st.dictionaries(st.sampled_from(NAMES), values), st.dictionaries(st.sampled_from(PARTS), values), values)
@pytest.mark.soak
def test_rows_of_any_shape_are_survived(top: dict[str, Any], plan: dict[str, Any], stage: Any) -> None:
    stages = [*planned()["stages"], stage]
    for told in (recorded(**top), recorded(plan=planned(**plan)), recorded(plan=planned(stages=stages)), stage):
        found = of(row(told if told is not None else []))
        assert 0.01 <= found.seconds <= 100 and 0.01 <= found.rest <= 100 and 1 <= found.vram <= 1.5
        assert found.load is None or 0 < found.load < 1e12


# --- a real journal --------------------------------------------------------------------------------------------------


def ran(journal: Journal, values: dict[str, Any], device: str = "GPU-1", model: str = "m@1") -> str:
    id = journal.accept(model=model, task="text", prompt="p", job_toml="x = 1")
    assert journal.start(id) and journal.note(id, device=device)
    assert journal.finish(id, output="/v.mp4", seconds=1.0, recorded=values)
    return id


def test_the_journal_teaches() -> None:
    assert learned("GPU-1", "m@1", "t2v") == Lessons()
    journal = Journal()
    for factor in (2, 4, 3):
        ran(journal, slower(factor))
    ran(journal, slower(9), device="GPU-2")
    ran(journal, slower(9), model="other@1")
    assert learned("GPU-1", "m@1", "t2v") == replace(of(row()), seconds=3.0, runs=3)
    assert learned("GPU-2", "m@1", "t2v").seconds == 9.0


def test_no_journal_is_made_or_mended_for_a_lesson(own_home: Path) -> None:
    file = own_home / "state" / "wan-tui" / "journal.sqlite3"
    assert runs_on("GPU-1", 5) == [] and not file.exists()
    file.parent.mkdir()
    file.write_bytes(b"no database at all" * 100)
    assert learned("GPU-1", "m@1", "t2v") == Lessons()
    assert [found.name for found in file.parent.iterdir()] == [file.name]
    file.unlink()
    with closing(sqlite3.connect(file)) as db:
        db.execute("CREATE TABLE jobs (id TEXT)")
    assert learned("GPU-1", "m@1", "t2v") == Lessons()


def test_a_damaged_row_and_one_of_a_later_version_do_not_stop_a_plan() -> None:
    journal = Journal()
    first = ran(journal, slower(2))
    with closing(sqlite3.connect(journal.path)) as db, db:
        db.execute("UPDATE jobs SET recorded = '[' WHERE id = ?", (first,))
    assert learned("GPU-1", "m@1", "t2v") == Lessons()
    with closing(sqlite3.connect(journal.path)) as db, db:
        db.execute("UPDATE jobs SET recorded = NULL")
        db.execute("ALTER TABLE jobs ADD COLUMN colour TEXT")
    assert learned("GPU-1", "m@1", "t2v") == Lessons()


def test_a_long_history_is_not_read_as_a_whole() -> None:
    journal = Journal()
    newest = ran(journal, slower(2))
    with closing(sqlite3.connect(journal.path)) as db, db:
        columns = "state, created, model, task, prompt, job_toml, owner, recorded"
        db.executemany(
            f"INSERT INTO jobs (id, device, {columns}) SELECT ?, ?, {columns} FROM jobs WHERE id = ?",
            [(f"0-{i:05}", "GPU-1" if i % 2 else "GPU-2", newest) for i in range(2000)],
        )
    assert len(runs_on("GPU-1", 60)) == 60
    assert len(runs_on("GPU-1", 10_000)) == 1 + 250
    assert runs_on("GPU-3", 60) == []


# --- real runs -------------------------------------------------------------------------------------------------------


def told_and_kept(file: Path) -> tuple[dict[str, Any], JobRow]:
    """The plan a run told of, and its row."""
    done = wan_tui("--run", file, "--json")
    assert done.returncode == 0, done.stderr
    return next(event for event in events(done.stdout) if event["event"] == "plan"), Journal().rows(1)[0]


def stage_of(kept: dict[str, Any]) -> Stage:
    return Stage(kept["name"], kept["component"], 0, 0, kept["flops"], loaded_bytes=kept["loaded_bytes"])


@pytest.mark.soak
def test_a_second_run_is_predicted_by_what_the_first_one_took(tiny_model: Any, tmp_path: Path) -> None:
    file = job_file(tmp_path, tiny_model("ti2v"))
    told, first = told_and_kept(file)
    measured, kept = first.recorded or {}, (first.recorded or {})["plan"]
    bare = known_pace(cpu(), half=False)
    assert bare and kept["pace"] == asdict(bare) and kept["format"] == traced.FORMAT and kept["family"] == "ti2v"
    assert told["seconds"] == kept["seconds"] == pytest.approx(sum(kept["stage_seconds"].values()), abs=0.002)
    assert kept["stage_seconds"].keys() == {"encode", "denoise", "decode"} <= measured["seconds"].keys()
    assert all(0 < measured["loading"][name] <= measured["seconds"][name] for name in kept["stage_seconds"])
    assert measured["peak_rss_bytes"] > 0 and kept["ram_bytes"] > 0 and measured["seed"] == 7

    found = learned("cpu", first.model, "ti2v")
    denoising = measured["seconds"]["denoise"] - measured["loading"]["denoise"]
    work = sum(stage["flops"] for stage in kept["stages"] if stage["name"] == "denoise") / bare.flops
    assert found.runs == 1 and found.seconds == pytest.approx(min(100.0, denoising / work))

    told, second = told_and_kept(file)
    kept = (second.recorded or {})["plan"]
    pace = pace_from(kept["pace"])
    assert pace and pace == taught(bare, found)
    stages = [
        Stage(s["name"], s["component"], 0, 0, s["flops"], loaded_bytes=s["loaded_bytes"]) for s in kept["stages"]
    ]
    assert [s["seconds"] for s in kept["stages"]] == pytest.approx([seconds_of(stage, pace) for stage in stages])
    assert told["seconds"] == pytest.approx(sum(seconds_of(stage, pace) for stage in stages))


def test_a_sidecar_tells_what_was_predicted_beside_what_was_measured(tiny_model: Any, tmp_path: Path) -> None:
    _, row = told_and_kept(job_file(tmp_path, tiny_model("t2v")))
    told = tomllib.loads(Path(row.output or "").with_suffix(".job.toml").read_text())["recorded"]
    kept = (row.recorded or {})["plan"]
    for name in ("profile", "form", "vram_bytes", "ram_bytes", "seconds", "stage_seconds"):
        assert told["plan"][name] == kept[name]
    assert told["seconds"].items() <= (row.recorded or {})["seconds"].items()
