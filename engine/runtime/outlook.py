"""Whether models go onto this box, told by predicting a clip of each: nothing is loaded, and nothing traced."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from engine.catalog import ModelSpec
from engine.compat.machine import Machine
from engine.hardware import Device
from engine.job import Inputs, Job
from engine.memory.pace import Pace, known_pace
from engine.memory.parts import model_of_spec
from engine.memory.plan import Plan, make_plan
from engine.memory.room import Room
from engine.runtime.journal import JobRow, runs_on
from engine.runtime.lessons import lessons, taught
from engine.runtime.seat import Seat, seat_of

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
        """`fits`, `streams` (it fits, and is slower), `at 480p` (that fits, and the default size does not), `no`."""
        if self.plan.fits:
            return "streams" if self.plan.profile in _SLOWER else "fits"
        return f"at {min(self.smaller.width or 0, self.smaller.height or 0)}p" if self.smaller else "no"


def outlooks(specs: Iterable[ModelSpec], machine: Machine) -> Mapping[str, Outlook]:
    """By their ids those models of which something can be told. What else uses the device is left out of account."""
    seat = seat_of("auto", machine)
    if seat.device is None or seat.device.total_bytes is None:
        return {}
    rows, pace = runs_on(seat.device.uuid, _LAST), known_pace(seat.device, seat.half)
    found = {spec.id: _outlook(spec, seat, pace, rows) for spec in specs if spec.architecture}
    return {id: one for id, one in found.items() if one}


def _outlook(spec: ModelSpec, seat: Seat, pace: Pace | None, rows: list[JobRow]) -> Outlook | None:
    defaults = spec.defaults
    job = _clip(spec, (defaults.width, defaults.height))
    plan = _plan(job, spec, seat, pace, rows)
    if plan.fits is None:
        return None
    least = min(spec.sizes, key=lambda size: size[0] * size[1], default=None)
    if plan.fits or least is None:
        return Outlook(job, plan)
    small = _clip(spec, least)
    at_small = _plan(small, spec, seat, pace, rows)
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


def _plan(job: Job, spec: ModelSpec, seat: Seat, pace: Pace | None, rows: list[JobRow]) -> Plan:
    assert seat.device
    device, learnt = seat.device, lessons(rows, seat.device.uuid, spec.id, spec.family)
    found = make_plan(
        job,
        model_of_spec(spec),
        device,
        _room(device, seat.machine),
        half=seat.half,
        pace=pace and taught(pace, learnt),
        lessons=(1.0, learnt.vram),
        trace=False,
        sizes=spec.sizes,
    )
    return replace(found, runs=learnt.runs)


def _room(device: Device, machine: Machine) -> Room:
    """All there is: what is free changes by the second, and this answers for the box."""
    vram = None if device.torch_name == "cpu" else device.total_bytes
    return Room(vram, machine.ram_bytes, None)
