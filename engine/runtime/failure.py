"""Whatever a run raised, as an error a person can act on; what has no name gets a report, and is said where."""

from __future__ import annotations

import errno
import logging

from engine.errors import FitError, RunError, WanError
from engine.memory.ladder import ran_out
from engine.memory.plan import Plan
from engine.memory.why import LACKING
from engine.runtime.crash import keep_report

LESS = "Ask for fewer frames or a smaller size."

log = logging.getLogger("wan_tui")


def explain(error: BaseException) -> WanError:
    """The `WanError` for an exception that ended a job."""
    if isinstance(error, WanError):
        return error
    if ran_out(error):
        return FitError(
            "out-of-memory",
            "The job ran out of memory.",
            cause=first_line(error),
            suggestions=[LESS, "Close other programs that use the device."],
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return RunError("disk-full", "The disk is full.", cause=str(error), suggestions=["Free some space."])
    report = keep_report(error)
    log.error("a job failed unexpectedly; report in %s", report)
    return RunError(
        "internal-error",
        f"The job failed in a way this program does not know ({type(error).__name__}).",
        cause=first_line(error),
        suggestions=[f"A report is in {report}; please file it as a bug." if report else "Please file it as a bug."],
    )


def does_not_fit(plan: Plan) -> FitError:
    """A job that is not begun, because it would run out of memory; its suggestions are what would fit."""
    lacking = [reason.removeprefix(LACKING) for reason in plan.reasons if reason.startswith(LACKING)]
    return FitError(
        "does-not-fit",
        f"The job does not fit on {plan.device.name}, as {plan.profile}: {'; '.join(lacking)}.",
        suggestions=in_less(plan) or [LESS],
    )


def in_less(plan: Plan) -> list[str]:
    """The alternatives of a plan, a sentence each."""
    return [f"{other.says[:1].upper()}{other.says[1:]}." for other in plan.alternatives]


def first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:500] if lines else type(error).__name__
