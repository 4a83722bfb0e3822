"""What is known of a job before it runs: whether its model and files are there, its device, memory and plan.

It reads the disk and asks the driver: call it from a thread. It never loads torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from engine.catalog import Catalog, ModelSpec
from engine.compat.anatomy import read_anatomy
from engine.compat.fit import BASIS, Need, judge_hardware, need
from engine.compat.identify import component_parameters, parameters
from engine.compat.machine import Machine, this_machine
from engine.errors import JobError, WanError
from engine.hardware import Card, Device
from engine.job import Job, expand
from engine.memory.plan import Plan, make_plan
from engine.runtime.prepare import Checked, prepare
from wan_tui.composing.form import KEYS
from wan_tui.composing.read import NAME

# The field a failure is about, where its code tells.
_FIELDS = {
    "unknown-model": "model",
    "no-model": "model",
    "model-absent": "model",
    "not-yet": "model",
    "off-grid": "size",
    "one-expert": "guidance_2",
    "no-such-device": "device",
    "no-such-rung": "memory.profile",
    "bad-output": "output.path",
}


@dataclass(frozen=True)
class Prospect:
    """What is known of a job; None is unknown.

    `job` is complete, with every value a run would take, and None while there is a `problem`, whose `field` is named
    where it has one. `need_bytes` is what the `component` that is largest takes of the device, judged by `need_basis`.
    `profile`, `fits`, `vram_bytes`, `ram_bytes` and `seconds` are the plan's. `model` is the id of the model meant.
    """

    problem: WanError | None
    field: str | None = None
    job: Job | None = None
    model: str | None = None
    profile: str | None = None
    device: str | None = None
    total_bytes: int | None = None
    free_bytes: int | None = None
    component: str | None = None
    need_bytes: int | None = None
    need_basis: str | None = None
    fits: bool | None = None
    vram_bytes: int | None = None
    ram_bytes: int | None = None
    seconds: float | None = None
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Seat:
    """Where a job would run: None for a device that torch alone knows; `half` is whether it computes in bf16.

    `machine` is the box with that device alone.
    """

    device: Device | None
    half: bool
    machine: Machine


def examine(job: Job, here: Path, catalog: Catalog, output: Path | None = None) -> Prospect:
    """Check and plan a job as far as that goes without torch. What fails is in the answer, not raised.

    `output` is the folder of clips that are given no path.
    """
    machine = this_machine()
    seat = _seat(job.device, machine)
    problem: WanError | None = _no_such_device(job.device, machine)
    checked: Checked | None = None
    plan: Plan | None = None
    try:
        # A card asked for by name is looked up here: prepare would load torch for it.
        device = job.device if job.device == "cpu" else "auto"
        folder = None if job.output.path else output
        checked = prepare(replace(expand(job)[0], device=device), here / NAME, catalog, folder)
        plan = make_plan(checked.job, seat.device, checked.reasons) if seat.device else None
    except WanError as error:
        problem = problem or error
    spec = checked.spec if checked else _spec(job, catalog)
    counts = _parameters(checked, spec)
    base = Prospect(
        problem,
        field=_field(problem, job),
        job=_completed(job, checked.job) if checked and not problem else None,
        model=spec.id if spec else None,
        notes=_notes(job.device, spec, counts, seat, problem),
    )
    return _filled(base, seat.device, need(counts, half=seat.half), plan)


def _completed(asked: Job, done: Job) -> Job:
    """The job with its model's values; a seed that is drawn at the start is not known yet, nor a name made of it."""
    unnamed = asked.seed is None and asked.output.path is None
    output = replace(done.output, path=None) if unnamed else done.output
    return replace(done, device=asked.device, count=asked.count, seed=asked.seed, output=output)


def _filled(base: Prospect, device: Device | None, wanted: Need | None, plan: Plan | None) -> Prospect:
    if device:
        base = replace(base, device=device.name, total_bytes=device.total_bytes, free_bytes=device.free_bytes)
    if wanted:
        base = replace(base, component=wanted.component, need_bytes=wanted.bytes, need_basis=BASIS)
    if plan:
        base = replace(
            base,
            profile=plan.profile,
            fits=plan.fits,
            vram_bytes=plan.vram_bytes,
            ram_bytes=plan.ram_bytes,
            seconds=plan.seconds,
            reasons=plan.reasons,
        )
    return base


# --- the device -------------------------------------------------------------------------------------------------------


def _seat(wanted: str, machine: Machine) -> _Seat:
    """The device a job would take. Its name in torch is left open: torch counts cards in an order of its own."""
    card = _card(wanted, machine)
    if card:
        device = Device("cuda", card.uuid, card.name, card.total_bytes, card.free_bytes)
        return _Seat(device, bool(card.has_bf16), replace(machine, cards=(card,)))
    if wanted == "cpu" or (wanted == "auto" and machine.torch_for != "hip"):
        host = Device("cpu", "cpu", "CPU", machine.ram_bytes, machine.ram_free_bytes)
        return _Seat(host, False, replace(machine, cards=machine.cards if wanted == "auto" else ()))
    return _Seat(None, machine.has_bf16, machine)


def _card(wanted: str, machine: Machine) -> Card | None:
    if machine.torch_for != "cuda":
        return None
    if wanted == "auto":
        return machine.card
    if wanted.startswith("cuda") and len(machine.cards) == 1:
        return machine.cards[0] if wanted in ("cuda", "cuda:0") else None
    return next((card for card in machine.cards if card.uuid == wanted), None)


def _no_such_device(wanted: str, machine: Machine) -> JobError | None:
    """A card asked for by name that is surely not here: torch sees those the driver shows, or fewer."""
    if wanted in ("auto", "cpu", "mps") or wanted.startswith("xpu") or machine.torch_for == "hip":
        return None
    cards = machine.cards if machine.torch_for == "cuda" else ()
    if wanted.startswith("cuda"):
        there = int(wanted.partition(":")[2] or 0) < len(cards)
    else:
        there = any(card.uuid == wanted for card in cards)
    if there:
        return None
    seen = ", ".join(f"{card.name} ({card.uuid})" for card in cards) or "no GPU that torch can use"
    built = " This torch is built for the CPU alone." if machine.torch_for == "cpu" else ""
    return JobError(
        "no-such-device",
        f"device = {wanted!r} is not on this box: it has {seen}.{built}",
        suggestions=['Use device = "auto" or "cpu".'],
    )


# --- the model --------------------------------------------------------------------------------------------------------


def _spec(job: Job, catalog: Catalog) -> ModelSpec | None:
    """The model of the catalog a job names, whether or not it can run."""
    try:
        return catalog.find(job.model)[0]
    except JobError:  # auto, a folder, or nothing: prepare has told
        return None


def _parameters(checked: Checked | None, spec: ModelSpec | None) -> Mapping[str, int]:
    if checked and checked.folder:
        try:
            return component_parameters(read_anatomy(checked.folder))
        except WanError:  # gone since it was checked: the run will tell
            return {}
    return parameters(spec) if spec else {}


_OF_THE_CARD = ("rocm", "torch-without-gpu", "cpu-only")


def _notes(
    wanted: str, spec: ModelSpec | None, counts: Mapping[str, int], seat: _Seat, problem: WanError | None
) -> tuple[str, ...]:
    """What speaks against a good run without forbidding it."""
    own = [spec.note] if spec and spec.note else []
    if problem and problem.code == "no-such-device":
        return tuple(own)
    if seat.device is None and wanted != "auto":
        return (*own, f"Which device {wanted} is here is known when the job runs.")
    judged = judge_hardware(counts, seat.machine)
    told = [finding.message for finding in judged if not (wanted == "cpu" and finding.code in _OF_THE_CARD)]
    return (*own, *told)


def _field(problem: WanError | None, job: Job) -> str | None:
    """The field a failure is about; None where it is about the job as a whole."""
    if problem is None:
        return None
    if problem.code in _FIELDS:
        return _FIELDS[problem.code]
    first = problem.message.replace("=", " ").replace(":", " ").split(maxsplit=1)[0]
    if first in KEYS:
        return first
    for name in job.inputs.given() if problem.code.startswith("bad-input") else ():
        value = getattr(job.inputs, name)
        if any(repr(str(path)) in problem.message for path in (value if isinstance(value, tuple) else (value,))):
            return f"inputs.{name}"
    return None
