"""Whether models go onto this box, told by predicting a clip of each: nothing is loaded, and nothing traced."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine.catalog import ModelSpec
from engine.compat.finding import Finding, Remedy
from engine.compat.fit import LARGER_BOX, LARGER_CARD, ON_CPU
from engine.compat.machine import Machine
from engine.hardware import Device
from engine.job import Inputs, Job
from engine.memory.choice import with_margin
from engine.memory.pace import Pace, known_pace
from engine.memory.parts import Model, model_of_spec
from engine.memory.plan import Plan, make_plan
from engine.memory.room import Room
from engine.memory.why import LACKING
from engine.runtime.journal import JobRow, runs_on
from engine.runtime.lessons import Lessons, lessons, taught
from engine.runtime.seat import Seat, seat_of
from engine.units import counted

_LAST = 60  # runs of the device that are looked at
_SLOWER = ("streamed", "leaf")  # weights cross the bus at every step
_ANY = Path("a picture")  # what a prediction asks of a first image is that there is one


@dataclass(frozen=True)
class Outlook:
    """What a model's own clip takes, where the device is free: `plan` is that of its default size.

    `job` is that clip. `smaller` is the smallest published size, where that alone fits, with what it takes.
    """

    job: Job
    plan: Plan
    smaller: Job | None = None
    at_smaller: Plan | None = None

    @property
    def fits(self) -> bool:
        return bool(self.plan.fits or self.smaller)

    @property
    def word(self) -> str:
        """`fits`, `streams` (it fits, and is slower), `windows` (it fits piece by piece), `at 480p` (that fits, and the
        default size does not), `no`."""
        if self.plan.fits and self.plan.profile == "windows":
            return "windows"
        if self.plan.fits:
            return "streams" if self.plan.profile in _SLOWER else "fits"
        return f"at {min(self.smaller.width or 0, self.smaller.height or 0)}p" if self.smaller else "no"

    @property
    def lacking(self) -> str:
        """Why the default clip does not fit, in words."""
        return "; ".join(why.removeprefix(LACKING) for why in self.plan.reasons if why.startswith(LACKING))

    def as_dict(self) -> dict[str, Any]:
        """What the clip takes that was told of: the default one, or the smaller that alone fits."""
        job, plan = self.smaller or self.job, self.at_smaller or self.plan
        return {
            "word": self.word,
            "fits": self.fits,
            "width": job.width,
            "height": job.height,
            "frames": job.frames,
            "profile": plan.profile,
            "vram_bytes": plan.vram_bytes,
            "ram_bytes": plan.ram_bytes,
            "seconds": plan.seconds,
        }


def clip_text(job: Job) -> str:
    """`1280x704, 121 frames`."""
    return f"{job.width}x{job.height}, {counted(job.frames or 0, 'frame')}"


def outlooks(specs: Iterable[ModelSpec], machine: Machine) -> Mapping[str, Outlook]:
    """By their ids those models of which something can be told. What else uses the device is left out of account."""
    here = _here(machine)
    found = {spec.id: _known(spec, here) for spec in specs if here and spec.architecture}
    return {id: one for id, one in found.items() if one}


def outlook_of(spec: ModelSpec, model: Model, machine: Machine) -> Outlook | None:
    """The same of one model by the parts it has on disk."""
    here = _here(machine)
    return _outlook(spec, model, here) if here else None


@dataclass(frozen=True)
class _Here:
    """Where it would run, and what runs there have taught."""

    seat: Seat
    device: Device
    pace: Pace | None
    rows: list[JobRow]

    def lessons(self, spec: ModelSpec) -> Lessons:
        return lessons(self.rows, self.device.uuid, spec.id, spec.family)


def _here(machine: Machine) -> _Here | None:
    seat = seat_of("auto", machine)
    if seat.device is None or seat.device.total_bytes is None:
        return None
    return _Here(seat, seat.device, known_pace(seat.device, seat.half), runs_on(seat.device.uuid, _LAST))


def judge_outlook(known: Outlook) -> Iterator[Finding]:
    """What is to say where the model's own clip does not fit."""
    plan = known.plan
    if plan.fits:
        return
    where = "this box" if plan.device.torch_name == "cpu" else plan.device.name
    message = f"It does not fit on {where}: for {clip_text(known.job)} {known.lacking}."
    if known.smaller:
        message = f"Its default clip, {clip_text(known.job)}, does not fit on {where}: {known.lacking}."
        size = f"{known.smaller.width}x{known.smaller.height}"
        smaller = Remedy("smaller-size", f"wan-tui --run JOB.toml --set 'size={size.replace('x', '*')}'")
        yield Finding("warning", "size-too-large", message, suggestions=(f"At {size} it fits.",), remedies=(smaller,))
    elif plan.room.vram is not None and plan.vram_bytes is not None and with_margin(plan.vram_bytes) > plan.room.vram:
        yield Finding("warning", "vram-low", message, suggestions=(LARGER_CARD,), remedies=(ON_CPU,))
    else:
        yield Finding("warning", "ram-low", message, suggestions=(LARGER_BOX,))


_told: dict[str, tuple[object, Outlook]] = {}


def _known(spec: ModelSpec, here: _Here) -> Outlook | None:
    """What was told last of a model of the catalog, while nothing has changed that it follows from: a list of all is
    read again and again, and takes 0.2 s."""
    device, ram = replace(here.device, free_bytes=None), here.seat.machine.ram_bytes
    follows_from = (spec, device, here.seat.half, ram, here.pace, here.lessons(spec))
    before = _told.get(spec.id)
    if before and before[0] == follows_from:
        return before[1]
    found = _outlook(spec, model_of_spec(spec), here)
    if found:
        _told[spec.id] = (follows_from, found)
    return found


def _outlook(spec: ModelSpec, model: Model, here: _Here) -> Outlook | None:
    defaults = spec.defaults
    job = _clip(spec, (defaults.width, defaults.height))
    plan = _plan(job, spec, model, here)
    if plan.fits is None:
        return None
    least = min(spec.sizes, key=lambda size: size[0] * size[1], default=None)
    if plan.fits or least is None:
        return Outlook(job, plan)
    small = _clip(spec, least)
    at_small = _plan(small, spec, model, here)
    return Outlook(job, plan, small, at_small) if at_small.fits else Outlook(job, plan)


def _clip(spec: ModelSpec, size: tuple[int, int]) -> Job:
    """The model's default clip at a size, from text where it does that."""
    inputs = Inputs()
    if "text" not in spec.tasks:
        inputs = Inputs(image=_ANY, last_image=None if "image" in spec.tasks else _ANY)
    known = spec.defaults
    return Job(
        spec.id,
        width=size[0],
        height=size[1],
        frames=known.frames,
        fps=known.fps,
        steps=known.steps,
        guidance=known.guidance,
        inputs=inputs,
    )


def _plan(job: Job, spec: ModelSpec, model: Model, here: _Here) -> Plan:
    learnt = here.lessons(spec)
    found = make_plan(
        job,
        model,
        here.device,
        _room(here.device, here.seat.machine),
        half=here.seat.half,
        pace=here.pace and taught(here.pace, learnt),
        lessons=(1.0, learnt.vram),
        trace=False,
        sizes=spec.sizes,
    )
    return replace(found, runs=learnt.runs)


def _room(device: Device, machine: Machine) -> Room:
    """All there is: what is free changes by the second, and this answers for the box."""
    vram = None if device.torch_name == "cpu" else device.total_bytes
    return Room(vram, machine.ram_bytes, None)
