"""How a model's own clip goes onto this box, in words for the command line and the screen alike."""

from __future__ import annotations

from collections.abc import Iterator

from engine.memory.plan import Plan
from engine.runtime.outlook import Outlook, clip_text
from engine.units import size


def here_text(known: Outlook) -> str:
    """`fits staged: 1280x704, 121 frames`, or why it does not."""
    if known.plan.fits:
        return f"fits {_way(known.plan)}: {clip_text(known.job)}"
    if known.smaller and known.at_smaller:
        its = f"{known.job.width}x{known.job.height}"
        return f"fits {_way(known.at_smaller)}: {clip_text(known.smaller)}; its {its} does not"
    return f"no: for {clip_text(known.job)} {known.lacking}"


def _way(plan: Plan) -> str:
    """The rung, or the windows of which the whole is made."""
    if plan.profile == "windows" and plan.windows:
        return f"in {plan.windows['count']} windows of {plan.windows['frames']} frames"
    return plan.profile


def memory_text(plan: Plan) -> str:
    """What a plan takes, and of what that is there: `27.5 GB of 80.0 GB VRAM, 31.2 GB of 512.0 GB RAM`."""
    taken = [(plan.ram_bytes, plan.room.ram, "RAM")]
    if plan.device.torch_name != "cpu":
        taken.insert(0, (plan.vram_bytes, plan.room.vram, "VRAM"))
    return ", ".join(f"{size(amount)} of {size(there)} {name}" for amount, there, name in taken)


def report_texts(known: Outlook) -> Iterator[str]:
    """The same where a finding has told already why it does not fit."""
    yield here_text(known) if known.fits else f"does not fit: {clip_text(known.job)}"
    yield memory_text(known.at_smaller or known.plan)
