"""The arithmetic of windows: every frame is covered, seams move, no window is too long, every segment has its own."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from engine.errors import JobError
from engine.job import Inputs, Job, Memory, Segment
from engine.memory.plan import check_memory
from engine.memory.windows import (
    Layout,
    Window,
    frames_of,
    grid,
    latents_of,
    layout,
    segment_of,
    shares,
    stretches,
    turns,
    windows_of,
)
from engine.video.drift import Drift, mean_lab

TIMESTEPS = tuple(range(999, 0, -37))
LAYOUTS = [
    Layout(total, window, overlap)
    for window in (3, 9, 21, 31)
    for overlap in (2, 3, 4, 8, 20)
    if overlap < window
    for total in (window + 1, window + 2, 2 * window - overlap, 2 * window, 101, 301)
    if total > window
]
ids = {"ids": lambda found: f"{found.total}-{found.window}-{found.overlap}"}


@pytest.mark.parametrize("found", LAYOUTS, **ids)
def test_a_grid_covers_the_clip_at_the_cost_of_its_overlap(found: Layout) -> None:
    least = 1 + -(-(found.total - found.window) // (found.window - found.overlap))
    for timestep in TIMESTEPS:
        windows = grid(found, timestep)
        assert len(windows) <= least
        assert (windows[0].start, windows[-1].stop) == (0, found.total)
        for before, after in pairwise(windows):
            assert before.start + after.start > 0 and before.start < after.start < before.stop < after.stop
        for window in windows:
            anchors = 1 if window.start else 0
            assert found.window // 3 < anchors + window.stop - window.start <= found.window


@pytest.mark.parametrize("found", LAYOUTS, **ids)
def test_what_windows_decide_of_a_latent_adds_to_one(found: Layout) -> None:
    for timestep in TIMESTEPS:
        windows = grid(found, timestep)
        sums, counts = [0.0] * found.total, [0] * found.total
        for window, share in zip(windows, shares(windows), strict=True):
            assert len(share) == window.stop - window.start and min(share) > 0
            for at, part in enumerate(share, window.start):
                sums[at] += part
                counts[at] += 1
        assert sums == pytest.approx([1.0] * found.total)
        alone = [total for total, count in zip(sums, counts, strict=True) if count == 1]
        assert alone == [1.0] * len(alone)


def test_seams_move_from_step_to_step_and_never_for_the_same_step() -> None:
    found = Layout(101, 21, 4)
    starts = {grid(found, timestep)[1].start for timestep in TIMESTEPS}
    assert len(starts) == 6
    assert grid(found, 500.0) == grid(found, 500)
    tight = Layout(21 + 17 * 3, 21, 4)  # windows fit without reaching over the end
    assert len({grid(tight, timestep)[1].start for timestep in TIMESTEPS}) > 2


def test_a_clip_no_longer_than_a_window_is_one_window() -> None:
    for total in (1, 20, 21):
        assert grid(Layout(total, 21, 4), 3.0) == turns(Layout(total, 21, 4), 1) == (Window(0, total),)


@pytest.mark.parametrize("anchors", [0, 1])
@pytest.mark.parametrize("found", LAYOUTS, **ids)
def test_windows_in_turn_hand_on_and_add_evenly(found: Layout, anchors: int) -> None:
    windows = turns(found, anchors)
    assert (windows[0], windows[-1].stop) == (Window(0, found.window), found.total)
    assert len(windows) == 1 + -(-(found.total - found.window) // (found.window - found.overlap))
    new = [window.stop - window.start - window.known for window in windows[1:]]
    assert max(new) - min(new) <= 1 and min(new) > 0
    for before, after in pairwise(windows):
        assert after.known == found.overlap - anchors > 0
        assert before.stop == after.start + after.known
        assert anchors + after.stop - after.start <= found.window


def test_the_time_axis() -> None:
    assert [latents_of(frames) for frames in (1, 5, 81, 401)] == [1, 2, 21, 101]
    assert [frames_of(latents) for latents in (0, 1, 2, 21, 101)] == [0, 1, 5, 81, 401]


def test_a_job_says_its_windows_in_frames() -> None:
    assert layout(Job(frames=401, memory=Memory(window=81))) == Layout(101, 21, 3)
    assert layout(Job(frames=401, memory=Memory(window=81, overlap=16))) == Layout(101, 21, 4)
    assert layout(Job(frames=401, memory=Memory(window=81, overlap=30))) == Layout(101, 21, 8)
    assert layout(Job(frames=401, memory=Memory(window=9, overlap=1))) == Layout(101, 3, 2)
    assert layout(Job(frames=49, memory=Memory(window=81))) == Layout(13, 21, 3)
    parts = (Segment(81, "a"), Segment(49, "b"), Segment(33, "c"))
    assert layout(Job(frames=161, segments=parts)) == Layout(41, 9, 3, (21, 33, 41))
    assert layout(Job(frames=161, segments=parts, memory=Memory(window=21, overlap=8))).window == 6


def test_the_windows_of_a_job_follow_its_pipeline() -> None:
    job = Job(frames=401, memory=Memory(window=81))
    assert windows_of(replace(job, memory=Memory()), "WanPipeline", False) == ()
    assert windows_of(job, "WanPipeline", True) == grid(layout(job), 0)
    assert windows_of(job, "WanImageToVideoPipeline", True) == turns(layout(job), 0)
    assert windows_of(job, "WanImageToVideoPipeline", False) == turns(layout(job), 1)


def test_every_segment_has_a_window_at_every_step() -> None:
    for parts in ((81, 81), (33, 161, 33), (33,) * 7, (61, 49, 33, 121)):
        job = Job(frames=1 + sum(n - 1 for n in parts), segments=tuple(Segment(n, "a") for n in parts))
        found = layout(job)
        every = [turns(found, 0), turns(found, 1), *(grid(found, timestep) for timestep in TIMESTEPS)]
        for windows in every:
            assert [segment_of(found, window) for window in windows] == sorted(
                segment_of(found, window) for window in windows
            )
            assert {segment_of(found, window) for window in windows} == set(range(len(parts)))


def test_the_last_segment_goes_on_where_the_clip_does() -> None:
    found = Layout(101, 21, 4, (21, 41))
    assert [segment_of(found, window) for window in grid(found, 0)] == [0, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("found", LAYOUTS, **ids)
def test_stretches_are_all_frames_in_order(found: Layout) -> None:
    for windows in (grid(found, 0), turns(found, 1)):
        parts = stretches(windows)
        assert len(parts) == len(windows)
        assert [first for first, _ in parts] == [0, *(end for _, end in parts[:-1])]
        assert parts[-1][1] == frames_of(found.total) and all(first < end for first, end in parts)
    assert stretches(turns(found, 1))[0] == (0, frames_of(found.window))


IMAGE = Inputs(image="a.png")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "job",
    [
        Job(memory=Memory(window=81)),
        Job(memory=Memory(window=81, overlap=16), inputs=IMAGE),
        Job(frames=161, segments=(Segment(81, "a"), Segment(81, "b"))),
        Job(frames=401, segments=(Segment(81, "a"), Segment(81, "b")), memory=Memory(window=49)),
    ],
)
def test_windows_that_are_made(job: Job) -> None:
    check_memory(job)


@pytest.mark.parametrize(
    ("job", "says", "do"),
    [
        (Job(memory=Memory(window=81), inputs=Inputs(video="a.mp4")), "from text or from one image", "one clip"),  # type: ignore[arg-type]
        (Job(memory=Memory(window=5)), "window = 5", "is 9."),
        (Job(frames=101, segments=(Segment(81, "a"), Segment(81, "b"))), "frames = 101", "frames = 161"),
        (Job(frames=101, segments=(Segment(49, "a"),), memory=Memory(window=81)), "49 frames", "81 frames or more"),
        (Job(frames=101, segments=(Segment(5, "a"),)), "5 frames", "9 frames or more"),
    ],
)
def test_windows_that_are_refused(job: Job, says: str, do: str) -> None:
    with pytest.raises(JobError) as refused:
        check_memory(job)
    assert says in refused.value.message and do in refused.value.suggestions[0]


# --- drift ------------------------------------------------------------------------------------------------------------


def test_lab_is_that_of_the_published_colours() -> None:
    """sRGB's primaries, white and black in CIE Lab (D65), as tables of the standard have them."""
    table = {
        (255, 255, 255): (100.0, 0.0, 0.0),
        (0, 0, 0): (0.0, 0.0, 0.0),
        (255, 0, 0): (53.24, 80.09, 67.20),
        (0, 255, 0): (87.73, -86.18, 83.18),
        (0, 0, 255): (32.30, 79.19, -107.86),
        (119, 119, 119): (50.03, 0.0, 0.0),
    }
    for colour, lab in table.items():
        counts = np.stack([np.bincount([part], minlength=256) for part in colour])
        assert mean_lab(counts) == pytest.approx(lab, abs=0.02)


def video(*colours: tuple[int, int, int]) -> Any:
    return np.stack([np.full((4, 6, 3), colour, np.uint8) for colour in colours])


def test_drift_is_measured_window_by_window_whatever_the_groups() -> None:
    gray, red = (119, 119, 119), (255, 0, 0)
    frames = video(gray, gray, gray, gray, red, red, red, gray, red)
    found = []
    for cuts in ([1, 5], [], [2, 3, 8]):
        drift = Drift([(0, 4), (4, 7), (7, 9)])
        for group in np.split(frames, cuts):
            drift.add(group)
        found.append(drift.distances())
    assert found[0] == found[1] == found[2]
    first, second, third = found[0]
    assert first == 0 and second == pytest.approx(104.6, abs=0.1) and 0 < third < second
    assert Drift([(0, 4)]).distances() == ()


def test_only_a_drift_that_lasts_is_warned_about() -> None:
    def told(*grays: int) -> str | None:
        drift = Drift([(at, at + 1) for at in range(len(grays))])
        drift.add(video(*((gray, gray, gray) for gray in grays)))
        return drift.warning()

    assert told(100, 100, 110, 100) is None
    assert told(100, 200, 100) is None
    says = told(100, 140, 104, 130, 150)
    assert says and "from window 4 of 5" in says and "more than 10" in says
