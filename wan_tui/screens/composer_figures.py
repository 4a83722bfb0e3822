"""The plan of the job in the form, as rows of a name, a text and its look, and as a bar.

Loaded when there is a plan: with it comes the part of the engine that makes plans.
"""

from __future__ import annotations

from collections.abc import Iterator

from textual.content import Content

from engine.memory.plan import Plan
from engine.memory.why import LACKING, UNTIMED
from engine.units import counted, size
from wan_tui.drawing import UNKNOWN
from wan_tui.screens.monitor_figures import shares
from wan_tui.telling_plan import about, duration, largest, rows

Row = tuple[str, str, str]

_LOOKS = {"ours": "$accent", "others": "$secondary", "dim": "$foreground-muted"}
_MUCH = 10**8  # bytes others have, from which on they are told
_SHOWN = ("disk", "windows")  # rows told as the command line tells them


def memory_bar(plan: Plan, total: int | None, width: int) -> Content:
    """What it takes of what there is, and what others have: striped, at the end of what it takes."""
    taken, _ = _memory(plan)
    if not total or taken is None:
        return Content.styled("·" * width, "$foreground-muted")
    others = min(total, _others(plan, total))
    line = shares(width, total, min(total, taken + others), min(taken, total - others))
    looks = {**_LOOKS, "ours": "$error"} if plan.fits is False else _LOOKS
    return Content.assemble(*((piece[0], looks[piece[1]]) for piece in line if isinstance(piece, tuple)))


def memory_text(plan: Plan, total: int | None) -> str:
    """`12.4 GB of 84.0 GB free; of 85.0 GB others use 1.0 GB`; RAM, where everything is on the CPU."""
    taken, room = _memory(plan)
    text = f"{_amount(taken)} of {_amount(room)} free"
    others = _others(plan, total or 0)
    return f"{text}; of {_amount(total)} others use {size(others)}" if others > _MUCH else text


def rung_text(plan: Plan) -> str:
    fits = {True: " (fits)", False: " (does not fit)", None: ""}[plan.fits]
    form = "" if plan.form == "whole" else f", VAE {plan.form}"
    stored = ", lossy: weights in fp8" if plan.storage == "fp8" else ""
    return f"{plan.profile}{form}{stored}{fits}"


def rung_look(plan: Plan) -> str:
    return {True: "$success", False: "$error", None: ""}[plan.fits]


def plan_rows(plan: Plan, *, full: bool) -> Iterator[Row]:
    """What is told below the rung; with `full` the stages, too."""
    told = plan.as_dict()
    known = dict(rows(told))
    if not _on_cpu(plan):
        yield "RAM", f"{_amount(plan.ram_bytes)} of {_amount(plan.room.ram)} free", ""
    yield "Time", time_text(plan), ""
    yield "", time_basis(plan), "$foreground-muted"
    for name in _SHOWN:
        for text in known.get(name, ()):
            yield name.capitalize(), text, ""
    for number, text in enumerate(known.get("stage", ()) if full else ()):
        yield "" if number else "Stages", text, ""
    for number, other in enumerate(plan.alternatives):
        yield "" if number else "Instead", _alternative(other.says, other.seconds), ""
    if most := largest(told):
        yield "Most", most, ""


def reasons(plan: Plan) -> Iterator[Row]:
    """Why it is so; what has a row or a sentence of its own left out."""
    told = [reason for reason in plan.reasons if not reason.startswith((LACKING, UNTIMED))]
    for number, reason in enumerate(told):
        yield "" if number else "Because", reason, "$foreground-muted"


def figures_text(plan: Plan) -> str:
    """Time, RAM and the longest clip, in one line."""
    parts = [time_text(plan) if plan.seconds is not None else f"Time {UNKNOWN}"]
    parts += [] if _on_cpu(plan) else [f"RAM {_amount(plan.ram_bytes)}"]
    parts += [f"up to {counted(plan.max_frames, 'frame')}"] if plan.max_frames else []
    return " · ".join(parts)


def time_text(plan: Plan) -> str:
    return UNKNOWN if plan.seconds is None else about(plan.seconds)


def time_basis(plan: Plan) -> str:
    """What the time is judged by."""
    if plan.seconds is None:
        return "not measured on this device yet" if plan.pace is None and plan.stages else "not predicted yet"
    if plan.runs:
        return f"measured here: {counted(plan.runs, 'run')}"
    return "by the measured pace of this device, no run yet"


def _alternative(says: str, seconds: float | None) -> str:
    return says if seconds is None else f"{says} ({duration(seconds)})"


def _memory(plan: Plan) -> tuple[int | None, int | None]:
    """What is taken, and what can be had, of the kind of memory that decides."""
    return (plan.ram_bytes, plan.room.ram) if _on_cpu(plan) else (plan.vram_bytes, plan.room.vram)


def _on_cpu(plan: Plan) -> bool:
    return plan.device.torch_name == "cpu" or plan.profile == "cpu"


def _others(plan: Plan, total: int) -> int:
    """What others have: of the device all that is not free, of RAM what cannot be had."""
    free = plan.room.ram if _on_cpu(plan) else plan.device.free_bytes
    return 0 if free is None else max(0, total - free)


def _amount(count: int | None) -> str:
    return UNKNOWN if count is None else size(count)
