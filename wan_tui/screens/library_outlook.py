"""How a model's own clip goes onto this box, in words for its card."""

from __future__ import annotations

from collections.abc import Iterator

from engine.runtime.outlook import Outlook
from wan_tui.screens.composer_figures import time_basis, time_text
from wan_tui.telling_outlook import here_text, memory_text
from wan_tui.telling_plan import largest


def outlook_facts(known: Outlook) -> Iterator[tuple[str, str]]:
    """What the clip takes that was told of: its default one, or the smaller that alone fits."""
    plan = known.at_smaller or known.plan
    yield "memory", memory_text(plan)
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
    return " · ".join((here_text(known), *([time_text(plan)] if plan.seconds is not None else []), memory_text(plan)))
