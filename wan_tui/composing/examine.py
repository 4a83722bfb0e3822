"""What is known of a job before it runs: whether its model and files are there, its device, memory and plan.

It reads the disk and asks the driver: call it from a thread. It never loads torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from engine.catalog import Catalog, ModelSpec
from engine.compat.anatomy import read_anatomy
from engine.compat.fit import Need, judge_device, judge_memory, need
from engine.compat.identify import component_parameters, parameters
from engine.compat.machine import this_machine
from engine.errors import JobError, ModelError, WanError
from engine.job import Job, expand
from engine.memory.plan import Plan
from engine.runtime.failure import does_not_fit
from engine.runtime.foresee import foresee
from engine.runtime.prepare import Checked, prepare
from engine.runtime.seat import Seat, no_such_device, seat_of
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
    "limit-too-small": "memory.vram_limit",
    "bad-output": "output.path",
}


@dataclass(frozen=True)
class Untraced:
    """A model that a plan knows nothing of until its modules were traced, which takes torch, and seconds.

    `reference` is its folder or its id, `precision` a place in `PRECISIONS`; `image` is whether a first one is given.
    """

    reference: str
    precision: int
    image: bool


@dataclass(frozen=True)
class Prospect:
    """What is known of a job; None is unknown.

    `job` is complete, with every value a run would take, and None while there is a `problem`, whose `field` is named
    where it has one. `need` is what its largest component takes. `model` is the id of the model meant. `untraced` is
    what there is to be traced before the plan can tell more.
    """

    problem: WanError | None
    field: str | None = None
    job: Job | None = None
    model: str | None = None
    device: str | None = None
    total_bytes: int | None = None
    free_bytes: int | None = None
    need: Need | None = None
    plan: Plan | None = None
    untraced: Untraced | None = None
    notes: tuple[str, ...] = ()

    @property
    def refusal(self) -> WanError | None:
        """Why it would not be begun: a job that is in order, and does not fit."""
        if self.problem or self.plan is None or self.plan.fits is not False:
            return None
        return does_not_fit(self.plan)


def examine(job: Job, here: Path, catalog: Catalog, output: Path | None = None) -> Prospect:
    """Check and plan a job as far as that goes without torch. What fails is in the answer, not raised.

    `output` is the folder of clips that are given no path.
    """
    machine = this_machine()
    seat = seat_of(job.device, machine)
    problem: WanError | None = no_such_device(job.device, machine)
    checked: Checked | None = None
    plan: Plan | None = None
    try:
        checked = _checked(job, here, catalog, output)
    except WanError as error:
        problem = problem or error
        with suppress(WanError):  # a model that is not here can be planned with all the same
            if isinstance(error, ModelError):
                checked = _checked(job, here, catalog, output, need_not_be_here=True)
    try:
        if checked and seat.device:
            plan = foresee(checked, seat.device, checked.reasons, trace=False, half=seat.half)
    except WanError as error:
        problem = problem or error
    spec = checked.spec if checked else _spec(job, catalog)
    counts, found = _parameters(checked, spec), seat.device
    return Prospect(
        problem,
        field=_field(problem, job),
        job=_completed(job, checked.job) if checked and not problem else None,
        model=spec.id if spec else None,
        device=found.name if found else None,
        total_bytes=found.total_bytes if found else None,
        free_bytes=found.free_bytes if found else None,
        need=need(counts, half=seat.half),
        plan=plan,
        untraced=_untraced(checked, plan, seat) if checked and plan and plan.unseen else None,
        notes=_notes(job.device, spec, counts, seat, problem, plan),
    )


def _checked(job: Job, here: Path, catalog: Catalog, output: Path | None, *, need_not_be_here: bool = False) -> Checked:
    # A card asked for by name is looked up here: prepare would load torch for it.
    device = job.device if job.device == "cpu" else "auto"
    folder = None if job.output.path else output
    first = replace(expand(job)[0], device=device)
    return prepare(first, here / NAME, catalog, folder, need_not_be_here=need_not_be_here)


def plan_of(checked: Checked) -> Plan | None:
    """The plan of a job that is to be queued, as things are now; None where torch alone knows its device."""
    seat = seat_of(checked.job.device, this_machine())
    return foresee(checked, seat.device, checked.reasons, trace=False, half=seat.half) if seat.device else None


def _untraced(checked: Checked, plan: Plan, seat: Seat) -> Untraced:
    on_cpu = plan.device.torch_name == "cpu" or checked.job.memory.profile == "cpu"
    precision = 2 if on_cpu else 0 if seat.half else 1
    reference = str(checked.folder) if checked.folder else checked.spec.id
    return Untraced(reference, precision, checked.job.task != "text")


def _completed(asked: Job, done: Job) -> Job:
    """The job with its model's values; a seed that is drawn at the start is not known yet, nor a name made of it."""
    unnamed = asked.seed is None and asked.output.path is None
    output = replace(done.output, path=None) if unnamed else done.output
    return replace(done, device=asked.device, count=asked.count, seed=asked.seed, output=output)


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
    wanted: str,
    spec: ModelSpec | None,
    counts: Mapping[str, int],
    seat: Seat,
    problem: WanError | None,
    plan: Plan | None,
) -> tuple[str, ...]:
    """What speaks against a good run without forbidding it. Whether it fits a plan tells better than its parts do."""
    own = [spec.note] if spec and spec.note else []
    if problem and problem.code == "no-such-device":
        return tuple(own)
    if seat.device is None and wanted != "auto":
        return (*own, f"Which device {wanted} is here is known when the job runs.")
    judged = [*judge_device(seat.machine)]
    if plan is None or plan.fits is None:
        judged += judge_memory(counts, seat.machine)
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
