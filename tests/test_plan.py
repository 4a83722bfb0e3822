"""Plans of real models at their sizes, in rooms that are made up."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.catalog import ModelSpec, load_catalog
from engine.errors import FitError, JobError
from engine.hardware import Device, cpu
from engine.job import Inputs, Job, Memory, Output, Segment
from engine.jobfile import size_in_bytes
from engine.memory import choice
from engine.memory.figures import Figures
from engine.memory.ladder import NAMES, RUNGS, Hold, hold
from engine.memory.pace import Pace, seconds_of
from engine.memory.parts import PRECISIONS, model_of_spec
from engine.memory.plan import Plan, check_memory, make_plan
from engine.memory.predict import CONTEXT, WORKSPACES, can_predict, predicted, reserved
from engine.memory.room import Room, held_here, room
from engine.memory.table import table
from engine.runtime.foresee import foresee
from engine.runtime.prepare import Checked, prepare

GIB = 2**30
CATALOG = load_catalog()
KNOWN = [spec for spec in CATALOG.models if can_predict(model_of_spec(spec))]
ANY = st.sampled_from(KNOWN)
SIZES = st.sampled_from(((480, 256), (832, 480), (480, 832), (1280, 704), (1920, 1088)))
FRAMES = st.sampled_from((1, 5, 9, 49, 81, 121, 241, 401))
VRAM = st.integers(2, 120)
RAM = st.sampled_from((8, 16, 32, 64, 128, 512))
ORDER = (*NAMES[:-1], "windows")


def the(id: str) -> ModelSpec:
    return CATALOG.find(id)[0]


def job_of(spec: ModelSpec, width: int = 1280, height: int = 704, frames: int = 81, **memory: Any) -> Job:
    images = {"image": Path("/a.png")} if "text" not in spec.tasks else {}
    if "image" not in spec.tasks and "first-last" in spec.tasks:
        images["last_image"] = Path("/b.png")
    defaults = spec.defaults
    return Job(
        model=spec.id, width=width, height=height, frames=frames, steps=defaults.steps, guidance=defaults.guidance,
        inputs=Inputs(**images), memory=Memory(**memory), output=Output(Path("/out/clip.mp4")),
    )  # fmt: skip


def card(vram: float) -> Device:
    return Device("cuda:0", "GPU-1", "Card", round(vram * GIB), round(vram * GIB))


@cache
def plan(spec_id: str, job: Job, vram: float = 24, ram: float = 256, **more: Any) -> Plan:
    spec = the(spec_id)
    there = Room(round(vram * GIB), round(ram * GIB), None)
    limited = min(there.vram or 0, job.memory.vram_limit or there.vram or 0)
    return make_plan(
        job, model_of_spec(spec), card(vram), replace(there, vram=limited),
        half=True, trace=False, sizes=spec.sizes, **more,
    )  # fmt: skip


A14B, FIVE = "t2v-A14B@2.2.0", "ti2v-5B@2.2.0"


@pytest.mark.parametrize(
    ("id", "vram", "profile", "form"),
    [
        (A14B, 141, "resident", "whole"),
        (A14B, 48, "staged", "whole"),
        (A14B, 24, "streamed", "whole"),
        (A14B, 16, "streamed", "tiled"),
        (A14B, 11, "leaf", "tiled"),
        (FIVE, 80, "resident", "whole"),
        (FIVE, 24, "staged", "whole"),
        (FIVE, 8, "streamed", "tiled"),
    ],
)
def test_the_ladder(id: str, vram: float, profile: str, form: str) -> None:
    found = plan(id, job_of(the(id)), vram)
    assert (found.profile, found.form, found.fits) == (profile, form, True)
    assert found.reasons[0].startswith(f"{profile}: ")
    assert json.loads(json.dumps(found.as_dict()))["device"]["uuid"] == "GPU-1"
    assert found.hold.rung.name == found.rung and found.hold.form.name == found.form


@settings(deadline=None, max_examples=60)
@given(ANY, SIZES, FRAMES, VRAM, RAM)
def test_a_plan_that_fits_keeps_to_its_room(
    spec: ModelSpec, size: tuple[int, int], frames: int, vram: int, ram: int
) -> None:
    found = plan(spec.id, job_of(spec, *size, frames), vram, ram)
    within = (found.vram_bytes or 0) * 1.05 <= vram * GIB and (found.ram_bytes or 0) * 1.05 <= ram * GIB
    assert found.fits is within
    assert found.vram_bytes == max(stage.vram_bytes for stage in found.stages)
    assert (found.windows is not None) is (found.profile == "windows")
    assert found.hold.rung.name == found.rung == (found.rung if found.windows else found.profile)


def rank(found: Plan) -> int:
    """The lower the better; a plan that does not fit is worse than any."""
    return ORDER.index(found.profile) if found.fits else len(ORDER)


@settings(deadline=None, max_examples=40)
@given(ANY, SIZES, FRAMES, st.lists(VRAM, min_size=2, max_size=2), RAM, RAM)
def test_more_room_never_chooses_a_slower_rung(
    spec: ModelSpec, size: tuple[int, int], frames: int, vram: list[int], ram: int, more: int
) -> None:
    job = job_of(spec, *size, frames)
    assert rank(plan(spec.id, job, max(vram), max(ram, more))) <= rank(plan(spec.id, job, min(vram), min(ram, more)))


@settings(deadline=None, max_examples=40)
@given(ANY, SIZES, SIZES, FRAMES, FRAMES, VRAM, RAM)
def test_a_smaller_job_never_takes_a_slower_rung(
    spec: ModelSpec, one: tuple[int, int], other: tuple[int, int], few: int, many: int, vram: int, ram: int
) -> None:
    less, more = sorted((one, other), key=lambda size: size[0] * size[1])
    small, large = job_of(spec, *less, min(few, many)), job_of(spec, *more, max(few, many))
    assert rank(plan(spec.id, small, vram, ram)) <= rank(plan(spec.id, large, vram, ram))


def test_streaming_fills_what_is_free() -> None:
    for vram in (12, 14, 20, 24, 30):
        found = plan(A14B, job_of(the(A14B), 832, 480), vram)
        assert found.profile == "streamed" and found.resident_bytes > 0
        figures = Figures(model_of_spec(the(A14B)), PRECISIONS[0], trace=False)
        weights = figures.weights("transformer")
        assert weights
        more = replace(found.hold, resident_bytes=found.resident_bytes + 2 * max(weights.blocks))
        over = predicted(figures, choice.clip_of(job_of(the(A14B), 832, 480)), more)
        assert over and over.vram_bytes * 1.05 > vram * GIB


def test_a_named_profile_is_obeyed_and_its_lack_is_told() -> None:
    found = plan(A14B, job_of(the(A14B), profile="staged", allow_lossy=True))
    assert found.profile == "staged" and found.fits is False
    told = "\n".join(found.reasons)
    assert "the job asks for staged" in told and "more than the 25.8 GB" in told and "streamed would fit" in told
    assert found.alternatives[0].set == {"memory.profile": "auto"} and found.alternatives[0].profile == "streamed"
    fitting = plan(A14B, job_of(the(A14B), profile="leaf"))
    assert (fitting.profile, fitting.fits) == ("leaf", True)


def test_windows_are_the_last_resort_and_announced() -> None:
    found = plan(A14B, job_of(the(A14B), frames=401), 16)
    assert found.profile == "windows" and found.fits and found.rung in NAMES[:-1]
    assert found.windows == {"frames": 81, "count": 6}
    assert any("another video" in reason for reason in found.reasons)
    piece = next(other for other in found.alternatives if "one piece" in other.says)
    assert piece.set == {"frames": found.max_frames} and (found.max_frames or 0) < 401
    assert plan(A14B, job_of(the(A14B), frames=401), 80).windows is None
    named = plan(A14B, job_of(the(A14B), frames=401, profile="windows"), 80)
    assert (named.profile, named.rung, named.windows) == ("windows", "staged", found.windows)
    pair = the("flf2v-14B-720P@2.1.0")  # two pictures: no windows
    assert plan(pair.id, job_of(pair, frames=401), 16).fits is False


@pytest.mark.parametrize("id", [A14B, FIVE, "i2v-A14B@2.2.0", "i2v-14B-480P@2.1.0"])
def test_a_long_clip_in_windows_takes_what_one_window_takes(id: str) -> None:
    job = job_of(the(id), 832, 480, 81, window=81)
    short, long = plan(id, job), plan(id, replace(job, frames=801))
    assert long.windows and long.windows["count"] >= 10 and short.windows == {"frames": 81, "count": 1}
    assert (long.vram_bytes or 0) <= 1.1 * (short.vram_bytes or 0)
    work = [sum(stage.flops for stage in one.stages if stage.name == "denoise") for one in (short, long)]
    assert 0.9 * long.windows["count"] <= work[1] / work[0] <= 1.15 * 801 / 81


def test_segments_are_windows() -> None:
    job = replace(job_of(the(A14B), frames=161), segments=(Segment(81, "a"), Segment(81, "b")))
    found = plan(A14B, job)
    assert found.windows and found.windows["count"] > 1 and found.profile != "windows"
    check_memory(replace(job, frames=None))  # they follow from the segments
    with pytest.raises(JobError, match="frames = 81 is too few"):
        check_memory(replace(job, frames=81))


@pytest.mark.parametrize("id", [A14B, FIVE])
@pytest.mark.parametrize("vram", [8, 12, 24])
def test_most_frames_and_the_largest_size_are_just_that(id: str, vram: float) -> None:
    job = job_of(the(id), 832, 480)
    found = plan(id, job, vram)
    assert found.max_frames and found.max_size
    assert plan(id, replace(job, frames=found.max_frames), vram).fits
    assert plan(id, replace(job, frames=found.max_frames + 4), vram).profile == "windows"
    width, height = found.max_size
    grid = the(id).grid
    assert width % grid == height % grid == 0 and abs(width / height - 832 / 480) < 0.2
    assert plan(id, replace(job, width=width, height=height), vram).fits
    assert not plan(id, replace(job, width=width + grid, height=height + grid), vram).fits


def test_alternatives_are_true() -> None:
    for vram in (8, 12, 24, 80):
        for id in (A14B, FIVE):
            job = job_of(the(id), 1280, 704, 121)
            found = plan(id, job, vram)
            for other in found.alternatives:
                top = {key: value for key, value in other.set.items() if "." not in key and key != "device"}
                memory = {key.partition(".")[2]: value for key, value in other.set.items() if "." in key}
                if "device" not in other.set:
                    then = plan(id, replace(job, memory=replace(job.memory, **memory), **top), vram)
                    assert then.fits and (then.profile, then.vram_bytes) == (other.profile, other.vram_bytes)


def test_alternatives_of_a_job_that_fits_and_of_one_that_does_not() -> None:
    says = [other.says for other in plan(A14B, job_of(the(A14B), 1280, 720), 80).alternatives]
    assert says == ["at 832x480 it fits resident, 3.9x faster", "at 49 frames 2.2x faster"]
    says = [other.says for other in plan(A14B, job_of(the(A14B), 1280, 720), 8).alternatives]
    assert len(says) == 3 and "frames it fits" in says[0] and "on the CPU" in says[2]


def test_time_follows_from_the_pace() -> None:
    job, pace = job_of(the(FIVE)), Pace(flops=1e14, copy=2e10, load=1e9)
    found = plan(FIVE, job, pace=pace, lessons=(2.0, 1.0))
    assert found.seconds == pytest.approx(2 * sum(seconds_of(stage, pace) for stage in found.stages))
    assert plan(FIVE, job).seconds is None
    assert all(other.seconds and other.seconds < found.seconds for other in found.alternatives)


def test_what_earlier_runs_taught() -> None:
    job = job_of(the(FIVE))
    plain, learnt = plan(FIVE, job, 26), plan(FIVE, job, 26, lessons=(1.0, 1.2))
    assert learnt.fits and (learnt.form, plain.form) == ("tiled", "whole")
    lower = plan(FIVE, job, 80, begin=("streamed", "tiled"))
    assert (lower.profile, lower.form) == ("streamed", "tiled")
    assert any("ran out of memory in an earlier run" in reason for reason in lower.reasons)
    assert plan(FIVE, replace(job, memory=Memory("staged")), 80, begin=("leaf", "whole")).profile == "staged"


# --- limits and rooms -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", ["1KiB", "1MiB", "500MiB"])
def test_a_limit_below_what_a_gpu_takes_is_refused(limit: str) -> None:
    taken = size_in_bytes(limit, Path())
    with pytest.raises(FitError) as caught:
        plan(FIVE, job_of(the(FIVE), vram_limit=taken))
    assert caught.value.code == "limit-too-small" and caught.value.status == 4
    assert "this job fits in no less" in caught.value.suggestions[0]
    on_cpu = make_plan(
        job_of(the(FIVE), vram_limit=taken), model_of_spec(the(FIVE)), cpu(), Room(None, 2**40, None), half=False,
        trace=False,
    )  # fmt: skip
    assert on_cpu.fits and any("of no account on the CPU" in reason for reason in on_cpu.reasons)


def test_a_limit_below_the_job_does_not_fit_and_one_beyond_the_card_is_the_card() -> None:
    small = plan(FIVE, job_of(the(FIVE), vram_limit=2 * GIB))
    assert small.fits is False and any("vram_limit leaves it" in reason for reason in small.reasons)
    large = plan(FIVE, job_of(the(FIVE), vram_limit=999 * GIB))
    assert large.fits and any("the card counts" in reason for reason in large.reasons)


def test_what_others_use_is_told() -> None:
    device = Device("cuda:0", "GPU-1", "Card", 24 * GIB, 9 * GIB)
    there = room(device, None, None)
    assert there.vram == 9 * GIB and held_here(device) == 0 and there.disk is None
    found = make_plan(job_of(the(FIVE)), model_of_spec(the(FIVE)), device, there, half=True, trace=False)
    assert any("16.1 GB are used by others" in reason for reason in found.reasons)


def test_a_room(tmp_path: Path) -> None:
    device = Device("cuda:0", "GPU-1", "Card", 24 * GIB, 20 * GIB)
    assert room(device, 12 * GIB, None).vram == 12 * GIB and room(device, 99 * GIB, None).vram == 20 * GIB
    there = room(cpu(), 12 * GIB, tmp_path / "not" / "yet" / "clip.mp4")
    assert there.vram is None and there.ram and there.disk
    assert room(replace(device, free_bytes=None), None, None).vram is None


def test_ram_counts() -> None:
    found = plan(A14B, job_of(the(A14B), 832, 480), 16, 48)
    assert found.profile == "leaf" and found.fits  # what streams is pinned, and there is no room for that
    assert any("of RAM" in reason for reason in found.reasons)
    assert plan(A14B, job_of(the(A14B), 832, 480), 16, 24).fits is False


def test_a_device_without_figures_and_a_model_without_known_parts() -> None:
    unknown = Device("xpu", "xpu", "XPU (untested)", None, None)
    found = make_plan(
        job_of(the(FIVE)), model_of_spec(the(FIVE)), unknown, Room(None, 2**40, None), half=True, trace=False
    )
    assert (found.profile, found.fits, found.max_frames, found.alternatives) == ("staged", None, None, ())
    assert found.vram_bytes
    other = the("vace-14B@2.1.0")
    for model in (model_of_spec(other), None):
        found = make_plan(job_of(the(FIVE)), model, card(24), Room(24 * GIB, 2**40, None), half=True, trace=False)
        assert found.fits is found.vram_bytes is found.seconds is None and "not predicted" in found.reasons[-1]
        assert found.hold == hold("staged")


# --- stages, table, the way -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", KNOWN, ids=lambda spec: spec.id)
def test_stages_agree_with_themselves(spec: ModelSpec) -> None:
    figures, clip = Figures(model_of_spec(spec), PRECISIONS[0], trace=False), choice.clip_of(job_of(spec))
    for rung in RUNGS[:-1]:
        found = predicted(figures, clip, Hold(rung))
        assert found
        for stage in found.stages:
            assert stage.vram_bytes == reserved(stage.weights_bytes, stage.activations_bytes)
        denoising = [stage for stage in found.stages if stage.name == "denoise"]
        weights = figures.weights("transformer")
        assert weights and all(stage.loaded_bytes == weights.parameters for stage in denoising)
        calls = clip.steps * 2 // len(denoising) if rung.level else 1
        assert denoising[0].moved_bytes == pytest.approx(calls * weights.parameters, rel=0.1)
    on_cpu = predicted(figures, clip, hold("cpu"))
    assert on_cpu and all(stage.moved_bytes == stage.vram_bytes == 0 for stage in on_cpu.stages)


def test_the_table_is_whole_and_monotone() -> None:
    rows = table(CATALOG.models, 24 * GIB)
    assert len(rows) == len(KNOWN) * 2 * 3 * len(RUNGS)
    for _, lines in groupby(rows, key=lambda row: (row.model, row.width, row.frames)):
        vram = [row.vram_bytes for row in lines]
        assert vram == sorted(vram, reverse=True) and vram[-1] == 0
    for key in (lambda row: (row.model, row.rung, row.width), lambda row: (row.model, row.rung, row.frames)):
        for _, lines in groupby(sorted(rows, key=key), key=key):
            for less, more in pairwise(sorted(lines, key=lambda row: row.width * row.height * row.frames)):
                assert (
                    less.vram_bytes <= more.vram_bytes and less.flops < more.flops and less.ram_bytes <= more.ram_bytes
                )
    assert all(row.fits is (row.vram_bytes * 1.05 <= 24 * GIB) for row in rows)
    assert all(row.vram_bytes > CONTEXT + WORKSPACES for row in rows if row.rung != "cpu")


@pytest.fixture
def asked(tiny_model: Callable[[str], Path], tmp_path: Path, own_home: Path) -> Checked:
    """A checked job of a model that was never traced."""
    (own_home / "cache" / "wan-tui" / "traces").unlink()
    job = Job(
        model=str(tiny_model("t2v")), prompt="a cat", width=64, height=64, frames=9, steps=2, seed=1, device="cpu",
        output=Output(tmp_path / "clip.mp4"),
    )  # fmt: skip
    return prepare(job, tmp_path / "job.toml", CATALOG)


def test_a_job_is_foreseen(asked: Checked) -> None:
    before = foresee(asked, cpu(), ("a reason",), trace=False)
    assert before.fits is None and before.reasons[0] == "a reason" and before.disk_bytes
    found = foresee(asked, cpu(), ())
    assert (found.profile, found.fits, found.vram_bytes) == ("staged", True, 0)
    assert found.ram_bytes and found.max_frames and found.max_size and found.stages[0].component == "text_encoder"
    again = foresee(asked, cpu(), (), trace=False)  # from what is kept
    assert (again.stages, again.max_frames) == (found.stages, found.max_frames)
    tight = foresee(asked, cpu(), (), trace=False, within=Room(None, GIB, None))
    assert tight.fits is False and any("does not fit" in reason and "of RAM" in reason for reason in tight.reasons)


def test_a_model_that_cannot_be_traced_may_run(asked: Checked, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("an operation without a fake\nand more")

    monkeypatch.setattr("engine.memory.trace.steps", broken)
    plan = foresee(asked, cpu(), ())
    assert (plan.fits, plan.profile, plan.stages) == (None, "staged", ())
    assert "it could not be traced: an operation without a fake" in plan.reasons
