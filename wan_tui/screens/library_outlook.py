"""How a model's own clip goes onto this box, in words for its card."""

from __future__ import annotations

from collections.abc import Iterator

from engine.job import Job
from engine.memory.plan import Plan
from engine.memory.why import LACKING
from engine.runtime.outlook import Outlook
from engine.units import counted, size
from wan_tui.screens.composer_figures import time_basis, time_text
from wan_tui.telling_plan import largest


def here_text(known: Outlook) -> str:
    """`fits staged: 1280x704, 121 frames`, or why it does not."""
    if known.plan.fits:
        return f"fits {known.plan.profile}: {_clip(known.job)}"
    if known.smaller and known.at_smaller:
        return f"fits {known.at_smaller.profile}: {_clip(known.smaller)}; its {_size(known.job)} does not"
    lacking = [reason.removeprefix(LACKING) for reason in known.plan.reasons if reason.startswith(LACKING)]
    return f"no: for {_clip(known.job)} {'; '.join(lacking)}"


def outlook_facts(known: Outlook) -> Iterator[tuple[str, str]]:
    """What the clip takes that was told of: its default one, or the smaller that alone fits."""
    plan = known.at_smaller or known.plan
    yield "memory", _memory(plan)
    if not plan.fits:
        return
    yield "time", f"{time_text(plan)}, {time_basis(plan)}" if plan.seconds is not None else time_basis(plan)
    if most := largest(plan.as_dict()):
        yield "most", most


def in_short(known: Outlook) -> str:
    """All of it in a line, as far as that goes."""
    plan = known.at_smaller or known.plan
    if not known.fits:
        return here_text(known)
    return " · ".join((here_text(known), *([time_text(plan)] if plan.seconds is not None else []), _memory(plan)))


def _memory(plan: Plan) -> str:
    taken = [(plan.ram_bytes, plan.room.ram, "RAM")]
    if plan.device.torch_name != "cpu":
        taken.insert(0, (plan.vram_bytes, plan.room.vram, "VRAM"))
    return ", ".join(f"{size(amount)} of {size(there)} {name}" for amount, there, name in taken)


def _clip(job: Job) -> str:
    return f"{_size(job)}, {counted(job.frames or 0, 'frame')}"


def _size(job: Job) -> str:
    return f"{job.width}x{job.height}"
