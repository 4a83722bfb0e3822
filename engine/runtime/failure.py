"""Whatever a run raised, as an error a person can act on; what has no name gets a report, and is said where."""

from __future__ import annotations

import errno
import logging
import sys

from engine.errors import FitError, RunError, WanError
from engine.runtime.crash import keep_report

# What torch's CPU allocator, the CUDA driver and cuBLAS say when they have none left.
_NO_MEMORY = ("can't allocate memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")

log = logging.getLogger("wan_tui")


def explain(error: BaseException) -> WanError:
    """The `WanError` for an exception that ended a job."""
    if isinstance(error, WanError):
        return error
    if _out_of_memory(error):
        return FitError(
            "out-of-memory",
            "The job ran out of memory.",
            cause=_first_line(error),
            suggestions=["Ask for fewer frames or a smaller size.", "Close other programs that use the device."],
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return RunError("disk-full", "The disk is full.", cause=str(error), suggestions=["Free some space."])
    report = keep_report(error)
    log.error("a job failed unexpectedly; report in %s", report)
    return RunError(
        "internal-error",
        f"The job failed in a way this program does not know ({type(error).__name__}).",
        cause=_first_line(error),
        suggestions=[f"A report is in {report}; please file it as a bug." if report else "Please file it as a bug."],
    )


def _out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:500] if lines else type(error).__name__
