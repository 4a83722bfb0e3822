"""What a check finds: how grave, what, why, and what the program can do about it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from dataclasses import dataclass

from engine.errors import ModelError

SEVERITIES = ("error", "warning", "note")


@dataclass(frozen=True)
class Remedy:
    """Something the program can do. `command` is the command line that does it, ready for a shell."""

    action: str
    command: str

    def as_dict(self) -> dict[str, str]:
        return {"action": self.action, "command": self.command}


def remedy(action: str, *words: str) -> Remedy:
    """What `wan-tui` does with these arguments: names of folders may hold anything."""
    return Remedy(action, " ".join(["wan-tui", *map(_quoted, words)]))


def _quoted(word: str) -> str:
    """A word for a shell. A line break, or a byte that is no text, bash takes as a byte in $'…'."""
    if word.isprintable():
        return shlex.quote(word)
    shown = (
        chr(byte) if 32 <= byte < 127 and chr(byte) not in "\\'" else f"\\x{byte:02x}" for byte in os.fsencode(word)
    )
    return f"$'{''.join(shown)}'"


@dataclass(frozen=True)
class Finding:
    """One thing found. `code` is kebab-case and keeps its meaning; `suggestions` are sentences."""

    severity: str
    code: str
    message: str
    cause: str | None = None
    suggestions: tuple[str, ...] = ()
    remedies: tuple[Remedy, ...] = ()
    component: str | None = None

    @property
    def actions(self) -> tuple[str, ...]:
        return tuple(remedy.action for remedy in self.remedies)

    def as_dict(self) -> dict[str, object]:
        return {
            "severity": self.severity,
            "code": self.code,
            "message": self.message,
            "cause": self.cause,
            "suggestions": list(self.suggestions),
            "actions": list(self.actions),
            "remedies": [remedy.as_dict() for remedy in self.remedies],
            "component": self.component,
        }


def verdict(findings: Iterable[Finding]) -> str:
    """`cannot-run` with an error among them, `conditions` with a warning, else `runs`."""
    found = {finding.severity for finding in findings}
    if "error" in found:
        return "cannot-run"
    return "conditions" if "warning" in found else "runs"


def refuse(findings: Iterable[Finding]) -> None:
    """Raise the first error among the findings as a `ModelError`; the others are named in its cause."""
    errors = [finding for finding in findings if finding.severity == "error"]
    if not errors:
        return
    first, *others = errors
    causes = [first.cause] if first.cause else []
    causes += [f"also: {other.message}" for other in others[:3]]
    raise ModelError(
        first.code,
        first.message,
        cause=" ".join(causes) or None,
        suggestions=(*first.suggestions, *(remedy.command for remedy in first.remedies)),
        actions=first.actions,
    )


def as_finding(error: ModelError, severity: str = "error", component: str | None = None) -> Finding:
    """A refusal of another room as a finding."""
    return Finding(severity, error.code, error.message, error.cause, error.suggestions, (), component)
