"""The plan of a checked job on a device as it is now: its model, its room, and what runs on this box have taught."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace

from engine.compat.folder import open_folder
from engine.control import Control
from engine.errors import WanError
from engine.hardware import Device, cards
from engine.memory.choice import TOP
from engine.memory.ladder import FP8
from engine.memory.pace import known_pace, measured_pace
from engine.memory.parts import Model, model_of_folder, model_of_spec
from engine.memory.plan import Plan, make_plan
from engine.memory.room import Room, room
from engine.memory.storage import can_cast
from engine.memory.why import UNTIMED
from engine.runtime.failure import first_line
from engine.runtime.journal import runs_on
from engine.runtime.lessons import lessons, taught
from engine.runtime.locks import device_lock
from engine.runtime.prepare import Checked
from engine.runtime.remembered import lowest

log = logging.getLogger("wan_tui")

_LAST = 60  # runs of a device that are looked at


def foresee(
    asked: Checked,
    device: Device,
    reasons: Sequence[str],
    *,
    trace: bool = True,
    measure: bool = False,
    half: bool | None = None,
    within: Room | None = None,
) -> Plan:
    """How a job will be done on `device`. Raises `FitError` (`limit-too-small`), `ModelError` for a damaged folder.

    With `trace` a model that was never seen is traced, which takes seconds and loads torch; with `measure` a device
    whose pace is not known is measured. `half` is whether it computes in bf16, looked up when not given; `within` is
    the room when it is not that of this box.
    """
    job = asked.job
    half = computes_in_bf16(device) if half is None else half
    rows = runs_on(device.uuid, _LAST)
    found = lessons(rows, device.uuid, job.model, asked.spec.family)
    pace = known_pace(device, half) or (measured_pace(device, half) if measure else None)
    in_fp8 = lowest(rows, device.uuid, job.model, job, FP8) or TOP
    lossy_from = in_fp8[0] if can_cast(device.torch_name, half) else None

    def planned(model: Model | None) -> Plan:
        return make_plan(
            job,
            model,
            device,
            within or room(device, job.memory.vram_limit, job.output.path),
            half=half,
            pace=pace and taught(pace, found),
            lessons=(1.0, found.vram),
            reasons=reasons,
            trace=trace,
            sizes=asked.spec.sizes,
            begin=lowest(rows, device.uuid, job.model, job),
            lossy_from=lossy_from,
        )

    try:
        plan = planned(model_of(asked))
    except WanError:
        raise
    except Exception as error:
        log.exception("%s could not be traced", job.model)
        plan = planned(None)
        plan = replace(plan, reasons=(*plan.reasons, f"it could not be traced: {first_line(error)}"))
    return replace(plan, runs=found.runs, reasons=(*plan.reasons, *_untimed(plan)))


def learn_pace(device: Device) -> None:
    """Measure how fast a device is, where that is not known and no job is on it. Loads torch."""
    half = computes_in_bf16(device)
    if known_pace(device, half):
        return

    def in_use(_: str) -> None:
        raise _InUse

    with suppress(_InUse), device_lock(device.uuid, in_use, Control()):
        measured_pace(device, half)


class _InUse(Exception):
    """Another has the device, where nobody wants to wait."""


def _untimed(plan: Plan) -> Iterator[str]:
    """Why a run that is predicted has no time."""
    if plan.stages and plan.pace is None:
        name = "this CPU" if plan.device.torch_name == "cpu" else plan.device.name
        yield f"{UNTIMED}how fast {name} is was never measured; the first run on it does that"
    elif plan.stages and plan.seconds is None:
        yield f"{UNTIMED}a part runs on the CPU, whose pace beside a GPU is not measured"


def model_of(asked: Checked) -> Model | None:
    """The components of a job's model by its folder, or by the catalog while there is none; None where neither knows.

    Raises `ModelError` for a folder that cannot be read.
    """
    if asked.folder:
        return model_of_folder(open_folder(asked.folder))
    return model_of_spec(asked.spec) if asked.spec.architecture else None


def computes_in_bf16(device: Device) -> bool:
    """Whether a device computes in bf16: torch tells, where it is loaded, else the driver."""
    if not device.torch_name.startswith("cuda"):
        return False
    torch = sys.modules.get("torch")
    if torch is not None and ":" in device.torch_name and torch.cuda.is_available():
        return bool(torch.version.hip or torch.cuda.get_device_properties(device.torch_name).major >= 8)
    return any(card.uuid == device.uuid and card.has_bf16 for card in cards()[0])
