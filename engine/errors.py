"""What can go wrong: a stable code, what happened, why, what to do, and the exit status it ends with.

WanError
├── JobError      bad usage or a bad job file          status 2
├── ModelError    model absent, corrupt, incompatible  status 3
├── FitError      does not fit this box                status 4
└── RunError      the run itself failed                status 1
Cancelled         not an error: somebody asked for it
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import ClassVar


class Exit(IntEnum):
    """Exit statuses scripts can rely on."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    MODEL = 3
    DOES_NOT_FIT = 4
    CANCELLED = 130
    TERMINATED = 143


class WanError(Exception):
    """A failure a person can act on.

    `code` is kebab-case and never changes its meaning; `actions` are things the program itself can do
    (`download`, `verify`, …), `suggestions` are sentences.
    """

    status: ClassVar[Exit] = Exit.FAILED

    def __init__(
        self,
        code: str,
        message: str,
        *,
        cause: str | None = None,
        suggestions: Sequence[str] = (),
        actions: Sequence[str] = (),
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.cause = cause
        self.suggestions = tuple(suggestions)
        self.actions = tuple(actions)

    def as_dict(self) -> dict[str, object]:
        """The shape of every error printed as JSON."""
        return {
            "code": self.code,
            "message": self.message,
            "cause": self.cause,
            "suggestions": list(self.suggestions),
            "actions": list(self.actions),
        }


class JobError(WanError):
    """The request is wrong: usage, a job file, one of its inputs."""

    status = Exit.USAGE


class ModelError(WanError):
    """The model is absent, corrupt, or cannot run here."""

    status = Exit.MODEL


class FitError(WanError):
    """The job does not fit this box."""

    status = Exit.DOES_NOT_FIT


class RunError(WanError):
    """The run failed for a reason that has a name."""


class Cancelled(BaseException):
    """Raised in the worker when a job is to stop.

    A `BaseException`, because libraries on the way up catch `Exception` and go on.
    """

    def __init__(self, reason: str = "user") -> None:
        super().__init__(reason)
        self.reason = reason
