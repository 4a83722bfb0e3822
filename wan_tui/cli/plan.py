"""`wan-tui plan`: will it fit, and how long. Needs no GPU, no weights, no network; torch only for models never seen."""

from __future__ import annotations

import argparse
import json
import os
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.catalog import load_catalog
from engine.compat.machine import Machine, this_machine
from engine.errors import Exit, JobError
from engine.hardware import Device, choose_device, cpu
from engine.job import expand
from engine.jobfile import Refused, read_job, size_in_bytes
from engine.memory.plan import Plan
from engine.runtime.foresee import foresee, learn_pace
from engine.runtime.prepare import Checked, prepare
from engine.runtime.seat import no_such_device, reason_for, seat_of
from engine.units import size
from wan_tui.cli.errors import answered, log_to_file
from wan_tui.cli.layout import for_terminal
from wan_tui.telling_plan import lines


def command(args: argparse.Namespace) -> int:
    vram = _bytes(args.vram)
    if args.table and (args.set or args.changes):
        message = "--set goes with a job file, and --table has none."
        raise JobError("bad-usage", message, suggestions=["Leave --set out."])
    if args.table:
        from wan_tui.cli.plan_table import tabled

        return tabled(args, vram)
    told = _told(_planned(args, vram))
    text = json.dumps(told, indent=2) if args.json else for_terminal(lines(told))
    return answered(text, Exit.DOES_NOT_FIT if told["fits"] is False else Exit.DONE)


def _told(plan: Plan) -> dict[str, Any]:
    """The plan as JSON has it: another card has no id."""
    told = plan.as_dict()
    return {**told, "device": {**told["device"], "uuid": plan.device.uuid or None}}


def _bytes(text: str | None) -> int | None:
    """The size that `--vram` gives. Raises `JobError`."""
    if text is None:
        return None
    try:
        return size_in_bytes(text, Path())
    except Refused as refused:
        message = f"--vram {text!r} {refused.problem}."
        raise JobError("bad-value", message, suggestions=["Write it as --vram 12GiB."]) from None


def another_card(vram: int) -> Device:
    """A card that is not here, all of it free."""
    return Device("cuda", "", f"another card with {size(vram)}", vram, vram)


# --- one job ----------------------------------------------------------------------------------------------------------


def _planned(args: argparse.Namespace, vram: int | None) -> Plan:
    """The plan of the job file. Raises `WanError`."""
    if len(args.what) != 1:
        message = "No job file is named." if not args.what else "A plan is of one job file, and several are named."
        raise JobError("bad-usage", message, suggestions=["wan-tui plan JOB.toml, or wan-tui plan --table."])
    file = Path(os.path.abspath(args.what[0]))
    job = read_job(file, [*args.set, *args.changes])
    machine = this_machine()
    wanted = "cpu" if job.memory.profile == "cpu" else job.device
    if vram is None and (problem := no_such_device(wanted, machine)):
        raise problem
    # A card asked for by name is looked up here: prepare would load torch for it.
    one = replace(expand(job)[0], device="cpu" if wanted == "cpu" else "auto")
    asked = prepare(one, file, load_catalog(), need_not_be_here=True)
    reasons = [f"{job.count} videos are asked for: the figures are those of one"] if job.count > 1 else []
    return _foreseen(asked, wanted, machine, vram, (*asked.reasons, *reasons))


def _seated(wanted: str, machine: Machine, vram: int | None) -> tuple[Device, bool | None, str]:
    """The device planned for, whether it computes in bf16 (None: torch can tell now), and why it is that one."""
    if vram is not None and wanted == "cpu":
        return cpu(), False, "the job asks for the CPU, and --vram is of no account there"
    if vram is not None:
        return another_card(vram), True, "all of it is taken to be free, and bf16 to be computed in"
    seat = seat_of(wanted, machine)
    if seat.device:
        return seat.device, seat.half, reason_for(wanted, machine)
    device, why = choose_device(wanted)  # torch alone knows it
    return device, None, why


def _foreseen(asked: Checked, wanted: str, machine: Machine, vram: int | None, reasons: tuple[str, ...]) -> Plan:
    """The plan on this box's device, or on another card; a model never seen is traced, and that is told first."""
    device, half, why = _seated(wanted, machine, vram)
    reasons = (*reasons, f"{device.name}: {why}")
    plan = foresee(asked, device, reasons, trace=False, half=half)
    steps = [f"tracing the modules of {asked.spec.id}"] if plan.unseen else []
    here = bool(device.uuid) and plan.pace is None and plan.fits is not False
    name = "this CPU" if device.uuid == "cpu" else device.name
    steps += [f"measuring how fast {name} is"] if here else []
    if not steps:
        return plan
    from engine.runtime.heavy import load_libraries

    told = " and ".join(steps)
    print(for_terminal([f"{told[:1].upper()}{told[1:]}: a few seconds, once."]), file=sys.stderr, flush=True)
    log_to_file()
    load_libraries()
    with suppress(JobError):  # a card that the driver shows, and torch does not see
        if here:
            learn_pace(choose_device(device.uuid)[0])
    return foresee(asked, device, reasons, half=half)
