"""A long clip in windows: which latent frames each one holds, and how much of a frame it decides. Plain arithmetic.

Wan's time axis: the first latent is 1 frame, every other 4. All is counted in latents where it does not say frames. A
window sees `overlap` latents that it does not add: those it shares with the window before, and in most ways one anchor,
a first latent of the clip in front. So windows are `window - overlap` apart, which is what a long clip costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from engine.job import Job, Segment

WINDOW = 81  # frames: what the models were trained on
OVERLAP = 12  # frames: a frame of a long clip costs about 1.12 times one of 81 frames; with 16 it is 1.19
_GOLDEN = 0.6180339887498949  # its multiples fill [0, 1) evenly, however many are taken


@dataclass(frozen=True)
class Layout:
    """A clip of `total` latents, in windows of at most `window`, anchor included; segments end at `ends`."""

    total: int
    window: int
    overlap: int
    ends: tuple[int, ...] = ()


@dataclass(frozen=True)
class Window:
    """Latents `start` to `stop`, that one left out. The first `known` of them were made by the window before."""

    start: int
    stop: int
    known: int = 0


def in_windows(job: Job) -> bool:
    return bool(job.memory.window or job.segments)


def frames_of_segments(segments: Sequence[Segment]) -> int:
    """Frames of a clip of segments: each after the first begins with the last frame of the one before."""
    return 1 + sum(segment.frames - 1 for segment in segments)


def latents_of(frames: int) -> int:
    return (frames - 1) // 4 + 1


def frames_of(latents: int) -> int:
    return 4 * latents - 3 if latents else 0


def layout(job: Job) -> Layout:
    """The windows a checked job asks for. Segments without a window get one no longer than the shortest of them."""
    assert job.frames  # a checked job has them
    parts = [segment.frames for segment in job.segments]
    window = job.memory.window or min(WINDOW, *parts, job.frames)
    overlap = max(2, _ceil(job.memory.overlap or OVERLAP, 4))  # an anchor and one that is shared
    # Each segment after the first begins where the one before ends: of its 4k+1 frames one is shared.
    ends = tuple(1 + end for end in accumulate((frames - 1) // 4 for frames in parts))
    return Layout(latents_of(job.frames), latents_of(window), min(overlap, latents_of(window) - 1), ends)


def windows_of(job: Job, pipeline: str, expand_timesteps: bool) -> tuple[Window, ...]:
    """The windows a checked job is made in; of joint ones, whose seams move, those of one step. () for a plain clip."""
    if not in_windows(job):
        return ()
    return grid(layout(job), 0) if pipeline == "WanPipeline" else turns(layout(job), anchors_of(expand_timesteps))


def seen(layout: Layout, *, in_turn: bool, anchors: int) -> tuple[int, ...]:
    """How many latents a transformer sees of each window, anchors included: of windows in turn, or of joint ones."""
    if in_turn:
        return tuple(one.stop - one.start + (anchors if i else 0) for i, one in enumerate(turns(layout, anchors)))
    return tuple(one.stop - one.start + bool(one.start) for one in grid(layout, 0))


def anchors_of(expand_timesteps: bool) -> int:
    """How many latents that are no part of the clip stand in front of a window in turn that is not the first."""
    return 0 if expand_timesteps else 1


# --- joint windows ----------------------------------------------------------------------------------------------------


def grid(layout: Layout, timestep: float) -> tuple[Window, ...]:
    """The windows of one step: overlapping, together the whole clip, each after the first with room for its anchor.

    Where the seams lie depends on the timestep alone, so that a step of a run that goes on later is the same step. They
    move as far as the windows reach over the end of the clip; never is there a window more than must be.
    """
    if layout.total <= layout.window:
        return (Window(0, layout.total),)
    own, shared = layout.window - 1, layout.overlap - 1
    slack = _slack(layout, own - shared)
    if not slack and shared > 1:
        shared -= 1
        slack = _slack(layout, own - shared)
    # The first and the last window are shorter by the slack between them, neither by more than half.
    least, most = max(0, slack - own // 2), min(slack, own // 2)
    windows = [Window(0, layout.window - least - int(timestep * _GOLDEN % 1 * (most - least + 1)))]
    while windows[-1].stop < layout.total:
        start = windows[-1].stop - shared
        windows.append(Window(start, min(start + own, layout.total)))
    return tuple(windows)


def _slack(layout: Layout, stride: int) -> int:
    """By how much windows a stride apart reach over the end of the clip."""
    return (layout.window - layout.total) % stride


def shares(windows: Sequence[Window]) -> tuple[tuple[float, ...], ...]:
    """How much of each of its latents a window decides: a pyramid over each window; over the windows they add to 1."""
    pyramids = [_pyramid(window.stop - window.start) for window in windows]
    sums = [0] * max(window.stop for window in windows)
    for window, pyramid in zip(windows, pyramids, strict=True):
        for at, height in enumerate(pyramid, window.start):
            sums[at] += height
    return tuple(
        tuple(height / sums[at] for at, height in enumerate(pyramid, window.start))
        for window, pyramid in zip(windows, pyramids, strict=True)
    )


def _pyramid(length: int) -> tuple[int, ...]:
    return tuple(min(at + 1, length - at) for at in range(length))


# --- windows in turn --------------------------------------------------------------------------------------------------


def turns(layout: Layout, anchors: int) -> tuple[Window, ...]:
    """Windows one after another: each is handed the last latents of the one before, and adds new ones.

    `anchors` latents (0 or 1) stand in front of every later window besides. New latents are dealt out evenly, so that
    the last window is no rest of a few frames.
    """
    first = Window(0, min(layout.window, layout.total))
    rest, known = layout.total - first.stop, layout.overlap - anchors
    count = _ceil(rest, layout.window - layout.overlap)
    stops = [first.stop + rest * (i + 1) // count for i in range(count)]
    later = [Window(last - known, stop, known) for last, stop in pairwise((first.stop, *stops))]
    return (first, *later)


# --- both -------------------------------------------------------------------------------------------------------------


def segment_of(layout: Layout, window: Window) -> int:
    """The segment that holds the centre of what a window makes; where segments end before the clip does, the last."""
    centre = (window.start + window.known + window.stop - 1) / 2
    return next((i for i, end in enumerate(layout.ends) if centre < end), len(layout.ends) - 1)


def stretches(windows: Sequence[Window]) -> tuple[tuple[int, int], ...]:
    """The frames of the clip that are mostly of each window, as (first, end): every frame is in one stretch."""
    borders = [
        later.start + later.known if later.known else (earlier.stop + later.start) // 2
        for earlier, later in pairwise(windows)
    ]
    marks = [frames_of(latents) for latents in (0, *borders, windows[-1].stop)]
    return tuple(pairwise(marks))


def _ceil(count: int, by: int) -> int:
    return -(-count // by)
