"""The plan of a run: which rung of the memory ladder it takes, on what, why, and how long that will take.

What is not known is None.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from engine.errors import JobError
from engine.hardware import Device
from engine.job import Job
from engine.memory.alternatives import Alternative, Size, alternatives, largest_size, most_frames
from engine.memory.choice import TOP, WINDOWED, Choice, Terms, choose
from engine.memory.figures import Figures
from engine.memory.ladder import EXACT, FORMS, NAMES, Hold, hold
from engine.memory.limits import check_limit, disk_bytes
from engine.memory.pace import Pace, seconds_of
from engine.memory.parts import PRECISIONS, Model
from engine.memory.predict import Stage, can_predict
from engine.memory.room import Room
from engine.memory.why import why
from engine.memory.windows import Layout, anchors_of, frames_of, in_windows, layout, seen
from engine.units import size

RUNGS = (*NAMES[:-1], "windows", NAMES[-1])
LEAST_WINDOW = 9  # frames: three latents, of which two are context
_PREDICTED = (*WINDOWED, "first-last")
_UNKNOWN = Room(None, None, None)


@dataclass(frozen=True)
class StagePlan:
    """A stage of the run, by the component it runs; bytes as in a `Stage` of a prediction."""

    name: str
    component: str
    weights_bytes: int
    activations_bytes: int
    vram_bytes: int
    ram_bytes: int
    seconds: float | None
    flops: int = 0
    moved_bytes: int = 0
    loaded_bytes: int = 0


@dataclass(frozen=True)
class Plan:
    """What a run will do with memory; figures in bytes and seconds, None while unknown.

    `windows` is {"frames": of one, "count": how many} where the clip is made in such. `rung`, `form`, `resident_bytes`
    and `storage` ("exact", or "fp8", which loses precision) are how the model is held; `profile` is that rung, or
    `windows`. `max_frames` and `max_size` are the most that fit in one piece, 0 and None where nothing does. `pace` and
    `lessons` (factors of time and of the device's memory) are what it was made with, `runs` how many runs taught them;
    `room` is what it had to go into. `unseen`: nothing is predicted, because the model was not traced, nor was to be.
    """

    profile: str
    device: Device
    fits: bool | None
    vram_bytes: int | None
    ram_bytes: int | None
    disk_bytes: int | None
    seconds: float | None
    stages: tuple[StagePlan, ...]
    windows: dict[str, int] | None
    alternatives: tuple[Alternative, ...]
    max_frames: int | None
    max_size: Size | None
    reasons: tuple[str, ...]
    form: str = "whole"
    resident_bytes: int = 0
    rung: str = "staged"
    pace: Pace | None = None
    lessons: tuple[float, float] = (1.0, 1.0)
    runs: int = 0
    room: Room = _UNKNOWN
    unseen: bool = False
    storage: str = EXACT

    @property
    def hold(self) -> Hold:
        """How the run begins."""
        form = next(form for form in FORMS if form.name == self.form)
        return replace(hold(self.rung, self.resident_bytes), form=form, storage=self.storage)

    def as_dict(self) -> dict[str, Any]:
        """The shape of a plan printed as JSON."""
        return {
            "fits": self.fits,
            "profile": self.profile,
            "device": self.device.as_dict(),
            "vram_bytes": self.vram_bytes,
            "ram_bytes": self.ram_bytes,
            "disk_bytes": self.disk_bytes,
            "seconds": self.seconds,
            "stages": [asdict(stage) for stage in self.stages],
            "windows": self.windows,
            "alternatives": [other.as_dict() for other in self.alternatives],
            "max_frames": self.max_frames,
            "max_size": None if self.max_size is None else list(self.max_size),
            "reasons": list(self.reasons),
            **{name: getattr(self, name) for name in ("form", "rung", "resident_bytes", "storage")},
            "runs": self.runs,
            "room": {"vram_bytes": self.room.vram, "ram_bytes": self.room.ram, "disk_bytes": self.room.disk},
        }


def check_memory(job: Job) -> None:
    """Refuse what no rung of this version does. Raises `JobError`."""
    if job.memory.profile not in ("auto", *RUNGS):
        raise JobError(
            "no-such-rung",
            f"memory.profile = {job.memory.profile!r} is not among the rungs of this version.",
            suggestions=[f"Use auto, or one of {', '.join(RUNGS)}."],
        )
    if job.memory.window or job.segments or job.memory.profile == "windows":
        _check_windows(job)


def _check_windows(job: Job) -> None:
    """Refuse what windows are not made of."""
    if job.task not in ("text", "image"):
        asked = "memory.window" if job.memory.window else 'memory.profile = "windows"'
        what = "[[segments]]" if job.segments else asked
        raise JobError(
            "no-windows",
            f"{what} asks for long video in windows, which this version makes from text or from one image.",
            suggestions=[f"Ask for one clip: leave {what} out."],
        )
    if job.memory.window and job.memory.window < LEAST_WINDOW:
        raise JobError(
            "bad-value",
            f"memory.window = {job.memory.window} leaves windows no new frames beside those they share.",
            suggestions=[f"The nearest valid value is {LEAST_WINDOW}."],
        )
    if job.segments:
        _check_segments(job, job.memory.window or LEAST_WINDOW)


def _check_segments(job: Job, least: int) -> None:
    shortest = min(segment.frames for segment in job.segments)
    if shortest < least:
        raise JobError(
            "bad-value",
            f"[[segments]]: {shortest} frames are fewer than windows have, {least}, and each window has one prompt.",
            suggestions=[f"Give each segment {least} frames or more."],
        )
    together = 1 + sum(segment.frames - 1 for segment in job.segments)
    if job.frames is not None and job.frames < together:  # frames that are not given follow from the segments
        raise JobError(
            "bad-value",
            f"frames = {job.frames} is too few: the windows of [[segments]] make {together} frames, as each begins "
            "with the last one before it.",
            suggestions=[f"Set frames = {together}."],
        )


def make_plan(
    job: Job,
    model: Model | None,
    device: Device,
    room: Room,
    *,
    half: bool,
    pace: Pace | None = None,
    lessons: tuple[float, float] = (1.0, 1.0),
    reasons: Sequence[str] = (),
    trace: bool = True,
    sizes: tuple[Size, ...] = (),
    begin: tuple[str, str] | None = None,
    lossy_from: str | None = NAMES[0],
) -> Plan:
    """How a complete job is done in this room. Without `trace` only figures kept from before are used.

    `half`: the device computes in bf16. `lessons` are factors of time and of the device's memory, learnt from runs;
    `begin` are the rung and the form that an earlier run of such a clip came down to, `lossy_from` is such a rung of
    runs in fp8, None where the device does not cast; `sizes` are those the model is published for. Raises `FitError`
    (`limit-too-small`) when the limit leaves not even CUDA itself its memory.
    """
    on_cpu = device.torch_name == "cpu" or job.memory.profile == "cpu"
    base = replace(_unpredicted(job, model, device, tuple(reasons), pace, lessons), room=room)
    chosen, known = None, model is not None and can_predict(model) and job.task in _PREDICTED
    if model is not None and known:
        precision = PRECISIONS[2] if on_cpu else PRECISIONS[0 if half else 1]
        figures = Figures(model, precision, trace=trace)
        chosen = choose(Terms(figures, room, on_cpu, max(1.0, lessons[1]), begin or TOP, EXACT, lossy_from), job)
        why_not = "not predicted yet: the model was not looked into"
    else:
        why_not = "not predicted for this model, whose parts this version does not know"
    if not on_cpu and job.memory.vram_limit is not None:
        check_limit(job, chosen)
    if chosen is None:
        told = (*base.reasons, f"{base.profile}: memory and time are {why_not}")
        return replace(base, reasons=told, unseen=known)
    return _predicted(base, job, chosen, sizes)


def _unpredicted(
    job: Job,
    model: Model | None,
    device: Device,
    reasons: tuple[str, ...],
    pace: Pace | None,
    lessons: tuple[float, float],
) -> Plan:
    """The plan of a job of which nothing can be told beforehand."""
    asked = job.memory.profile
    return Plan(
        profile="staged" if asked == "auto" else asked,
        device=device,
        fits=None,
        vram_bytes=None,
        ram_bytes=None,
        disk_bytes=disk_bytes(job),
        seconds=None,
        stages=(),
        windows=_windows(job, layout(job), model) if in_windows(job) or asked == "windows" else None,
        alternatives=(),
        max_frames=None,
        max_size=None,
        reasons=reasons,
        rung="staged" if asked in ("auto", "windows") else asked,
        pace=pace,
        lessons=lessons,
    )


def _predicted(base: Plan, job: Job, chosen: Choice, sizes: tuple[Size, ...]) -> Plan:
    def seconds(one: Choice) -> float | None:
        return _sum([stage.seconds for stage in _stages(one, base)])

    stages, terms = _stages(chosen, base), chosen.terms
    most = largest = windows = None
    if chosen.fits is not None:
        most, largest = most_frames(terms, job), largest_size(terms, job, sizes)
    if chosen.clip.layout:
        windows = _windows(job, chosen.clip.layout, terms.figures.model)
    told = list(why(job, base.device, chosen, windows["count"] if windows else 0))
    if terms.room.disk is not None and base.disk_bytes is not None and base.disk_bytes > terms.room.disk:
        told.append(f"the video may take {size(base.disk_bytes)}, and the disk has {size(terms.room.disk)} free")
    return replace(
        base,
        profile=chosen.profile,
        fits=chosen.fits,
        vram_bytes=chosen.vram_bytes,
        ram_bytes=chosen.found.ram_bytes,
        seconds=_sum([stage.seconds for stage in stages]),
        stages=stages,
        windows=windows,
        alternatives=alternatives(job, chosen, sizes, most or 0, largest, seconds),
        max_frames=most,
        max_size=largest,
        reasons=(*base.reasons, *told),
        form=chosen.held.form.name,
        rung=chosen.held.rung.name,
        resident_bytes=chosen.held.resident_bytes,
        storage=chosen.held.storage,
    )


def _stages(one: Choice, base: Plan) -> tuple[StagePlan, ...]:
    return tuple(
        StagePlan(
            name=stage.name,
            component=stage.component,
            weights_bytes=stage.weights_bytes,
            activations_bytes=stage.activations_bytes,
            vram_bytes=one.terms.vram_of(stage.vram_bytes),
            ram_bytes=stage.ram_bytes,
            seconds=_seconds(stage, one, base),
            flops=stage.flops,
            moved_bytes=stage.moved_bytes,
            loaded_bytes=stage.loaded_bytes,
        )
        for stage in one.found.stages
    )


def _seconds(stage: Stage, one: Choice, base: Plan) -> float | None:
    """None where the pace is not known: also that of a CPU beside the device."""
    elsewhere = stage.component == "vae" and one.held.form.on_cpu
    if base.pace is None or elsewhere or (one.terms.on_cpu and base.device.torch_name != "cpu"):
        return None
    return seconds_of(stage, base.pace) * base.lessons[0]


def _sum(figures: Sequence[float | None]) -> float | None:
    known = [figure for figure in figures if figure is not None]
    return sum(known) if known and len(known) == len(figures) else None


def _windows(job: Job, windows: Layout, model: Model | None) -> dict[str, int]:
    """The frames of a window, and how many there are."""
    anchors = anchors_of(bool(model and model.expand_timesteps))
    count = len(seen(windows, in_turn=job.task == "image", anchors=anchors))
    return {"frames": frames_of(windows.window), "count": count}
