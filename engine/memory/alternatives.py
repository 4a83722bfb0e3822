"""What else would do: the most frames and the largest size that fit, and jobs like the one asked that are faster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from engine.job import Job
from engine.memory.choice import Choice, Terms, can_window, choose, if_lossy, in_one_piece, storages
from engine.memory.room import Room
from engine.memory.windows import WINDOW

Size = tuple[int, int]
Seconds = Callable[[Choice], float | None]

_MOST_FRAMES = 100_001  # that a job file takes
_LONGEST_SIDE = 8192
_LEAST_WINDOW = 17  # frames worth proposing
_FRAMES = (121, 81, 49, 33, 17)  # lengths to propose, the models' own among them


@dataclass(frozen=True)
class Alternative:
    """Another job: `set` holds its keys (dotted where they are in a table) that differ, `says` what comes of it."""

    says: str
    set: Mapping[str, Any]
    profile: str
    seconds: float | None
    vram_bytes: int | None

    def as_dict(self) -> dict[str, Any]:
        return {
            "says": self.says,
            "set": dict(self.set),
            "profile": self.profile,
            "seconds": self.seconds,
            "vram_bytes": self.vram_bytes,
        }


def most_frames(terms: Terms, job: Job) -> int:
    """The longest clip that fits at this size in one piece; 0 where none does."""
    model = terms.figures.model
    expert = model.parts[model.experts[0]]
    latents = min(
        (_MOST_FRAMES - 1) // model.temporal + 1, expert.get("rope_max_seq_len") * expert.get("patch_size")[0]
    )

    def fits(count: int) -> bool:
        return _fits(terms, replace(job, frames=1 + (count - 1) * model.temporal))

    count = _most(latents, fits)
    return 1 + (count - 1) * model.temporal if count else 0


def largest_size(terms: Terms, job: Job, sizes: tuple[Size, ...]) -> Size | None:
    """The largest size of the job's shape, or of `sizes`, that fits in one piece; None where none does."""

    def fits(one: Size) -> bool:
        return _fits(terms, replace(job, width=one[0], height=one[1]))

    count = _most(_LONGEST_SIDE // _grid(terms), lambda count: fits(_shaped(terms, job, count)))
    found = _shaped(terms, job, count) if count else None
    larger = [one for one in sizes if found is None or _area(one) > _area(found)]
    return next((one for one in sorted(larger, key=_area, reverse=True) if fits(one)), found)


def _grid(terms: Terms) -> int:
    model = terms.figures.model
    return int(model.spatial * model.parts[model.experts[0]].get("patch_size")[1])


def _shaped(terms: Terms, job: Job, count: int) -> Size:
    """A size of the job's shape, its longer side `count` steps of the grid."""
    assert job.width and job.height
    grid = _grid(terms)
    shorter = max(1, round(count * min(job.width, job.height) / max(job.width, job.height)))
    return (count * grid, shorter * grid) if job.width >= job.height else (shorter * grid, count * grid)


def _most(most: int, fits: Callable[[int], bool]) -> int:
    """The largest number up to `most` that fits, where no larger one does after one that does not; 0 for none."""
    low, high = 0, most + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _fits(terms: Terms, job: Job) -> bool:
    piece = replace(job, memory=replace(job.memory, window=None, overlap=None), segments=())
    ways = (in_one_piece(replace(terms, storage=storage), piece) for storage in storages(terms, job))
    return any(found and found.fits for found in ways)


def _area(size: Size) -> int:
    return size[0] * size[1]


# --- other jobs -------------------------------------------------------------------------------------------------------


def alternatives(
    job: Job, chosen: Choice, sizes: tuple[Size, ...], most: int, largest: Size | None, seconds: Seconds
) -> tuple[Alternative, ...]:
    """The two most useful: faster ones of a job that fits; ones that fit, up to three, of a job that does not, and the
    job itself with less precision."""
    if chosen.fits:
        made = _in_one_piece(job, chosen, most, seconds) if chosen.windows else _shorter(job, chosen, seconds)
        return tuple(islice((*_smaller(job, chosen, sizes, seconds), *made), 2))
    if chosen.fits is None:
        return ()
    return (*islice(_that_fit(job, chosen, most, largest, seconds), 3), *_lossy(job, chosen, seconds))


def _smaller(job: Job, chosen: Choice, sizes: tuple[Size, ...], seconds: Seconds) -> Iterator[Alternative]:
    assert job.width and job.height
    wide, area = job.width >= job.height, job.width * job.height
    fewer = sorted((one for one in sizes if (one[0] >= one[1]) == wide and _area(one) < area), key=_area, reverse=True)
    if not fewer:  # the model is published for nothing smaller: half the picture
        longest = max(job.width, job.height) // _grid(chosen.terms)
        half = _most(longest, lambda count: _area(_shaped(chosen.terms, job, count)) <= area / 2)
        fewer = [_shaped(chosen.terms, job, half)] if half else []
    yield from _faster(job, chosen, [{"width": w, "height": h} for w, h in fewer], seconds)


def _shorter(job: Job, chosen: Choice, seconds: Seconds) -> Iterator[Alternative]:
    if job.segments:
        return
    fewer = [{"frames": frames} for frames in _FRAMES if frames < (job.frames or 0)]
    yield from _faster(job, chosen, fewer, seconds)


def _faster(job: Job, chosen: Choice, changes: list[dict[str, int]], seconds: Seconds) -> Iterator[Alternative]:
    """The first that goes on a faster rung, else the first."""
    found = [(change, one) for change in changes if (one := choose(chosen.terms, _changed(job, change))) and one.fits]
    best = next((pair for pair in found if pair[1].slowness < chosen.slowness), next(iter(found), None))
    if best is None:
        return
    change, one = best
    rung = f"it fits {one.profile}, " if one.slowness < chosen.slowness else ""
    yield _alternative(f"{_named(change)} {rung}{_times(chosen, one, seconds):.1f}x faster", change, one, seconds)


def _in_one_piece(job: Job, chosen: Choice, most: int, seconds: Seconds) -> Iterator[Alternative]:
    one = choose(chosen.terms, replace(job, frames=most)) if most > 1 else None
    if one:
        yield _alternative(f"at {most} frames it fits in one piece, {one.profile}", {"frames": most}, one, seconds)


def _that_fit(job: Job, chosen: Choice, most: int, largest: Size | None, seconds: Seconds) -> Iterator[Alternative]:
    changes: list[dict[str, Any]] = [{"memory.profile": "auto"}] if job.memory.profile != "auto" else []
    if most > 1 and not job.segments:
        changes.append({"frames": most})
    if largest:
        changes.append({"width": largest[0], "height": largest[1]})
    if chosen.fits is False and can_window(job):
        window = _most(WINDOW // 4, lambda count: _window_fits(chosen.terms, job, 1 + 4 * count))
        changes += [{"memory.window": 1 + 4 * window}] if window >= _LEAST_WINDOW // 4 else []
    for change in changes:
        one = choose(chosen.terms, _changed(job, change))
        if one and one.fits:
            yield _alternative(f"{_named(change)} it fits {one.profile}", change, one, seconds)
    if not chosen.terms.on_cpu:
        terms = Terms(chosen.terms.figures.on_cpu, Room(None, chosen.terms.room.ram, None), on_cpu=True)
        one = choose(terms, _changed(job, {"memory.profile": "auto"}))
        if one and one.fits:
            yield Alternative("on the CPU it fits, many times slower", {"device": "cpu"}, "cpu", None, 0)


def _lossy(job: Job, chosen: Choice, seconds: Seconds) -> Iterator[Alternative]:
    one = if_lossy(job, chosen)
    if one:
        says = f"with the transformers' weights in fp8, which changes the video, it fits {one.profile}"
        yield _alternative(says, {"memory.allow_lossy": True}, one, seconds)


def _window_fits(terms: Terms, job: Job, window: int) -> bool:
    one = choose(terms, _changed(job, {"memory.window": window}))
    return bool(one and one.fits)


def _changed(job: Job, change: Mapping[str, Any]) -> Job:
    """A job with some of its keys changed."""
    memory = {key.partition(".")[2]: value for key, value in change.items() if "." in key}
    top = {key: value for key, value in change.items() if "." not in key}
    return replace(job, memory=replace(job.memory, **memory), **top)


def _named(change: Mapping[str, Any]) -> str:
    if "width" in change:
        return f"at {change['width']}x{change['height']}"
    if "memory.window" in change:
        return f"in windows of {change['memory.window']} frames"
    return f"at {change['frames']} frames" if "frames" in change else "with profile auto"


def _alternative(says: str, change: Mapping[str, Any], one: Choice, seconds: Seconds) -> Alternative:
    return Alternative(says, change, one.profile, seconds(one), one.vram_bytes)


def _times(chosen: Choice, one: Choice, seconds: Seconds) -> float:
    """How many times faster another choice is: by time where that is known, else by operations."""
    before, after = seconds(chosen), seconds(one)
    return before / after if before and after else chosen.found.flops / one.found.flops
