"""A report as lines: the verdict, what was found and what helps, then what is known of the model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from engine.errors import WanError
from engine.units import counted
from wan_tui.screens.diagnostics_pane import GAP, Line

if TYPE_CHECKING:
    from engine.compat.finding import Finding
    from engine.runtime.report import Report

_SIGNS = {"runs": ("✓", "$success"), "conditions": ("!", "$warning"), "cannot-run": ("✗", "$error")}
_MARKS = {"error": "bold $error", "warning": "bold $warning", "note": "$foreground-muted"}


def verdict_line(report: Report, title: str) -> Line:
    from wan_tui.telling import answer_of

    sign, tone = _SIGNS[report.verdict]
    return Line(f"{sign} {answer_of(report)}: {title}", tone=f"bold {tone}", head=True)


def found_lines(report: Report, numbers: Mapping[str, int]) -> Iterator[Line]:
    """The findings with their remedies, and what else would do; `numbers` are those of the commands."""
    from wan_tui.telling import reasons, usable

    shown, more = reasons(report)
    for finding in shown:
        yield GAP
        yield from _finding(finding, numbers)
    if more:
        yield Line(f"and {counted(more, 'more note')} in the exported file", "note")
    if report.usable:
        yield GAP
        yield Line(usable(report), "usable")
    for number, one in enumerate(report.alternatives):
        if not number:
            yield GAP
        here = ", which is on this box" if one.on_disk else ""
        lost = f": {'; '.join(one.lost)}" if one.lost else ""
        yield Line(f"{one.id}{here}{lost}", "instead")
        yield remedy_line(one.command, numbers)


def _finding(finding: Finding, numbers: Mapping[str, int]) -> Iterator[Line]:
    from wan_tui.telling import why

    yield Line(f"{finding.message} [{finding.code}]", finding.severity, mark=_MARKS[finding.severity])
    if cause := why(finding):
        yield Line(cause, "  why", "$foreground-muted")
    for suggestion in finding.suggestions:
        yield remedy_line(suggestion, numbers, "  do")
    for remedy in finding.remedies:
        yield remedy_line(remedy.command, numbers, "  do")


def remedy_line(text: str, numbers: Mapping[str, int], label: str = "") -> Line:
    """What to do; with its number where the app can do it."""
    from wan_tui.remedies import commands_in

    number = next((numbers[command] for command in commands_in(text) if command in numbers), None)
    if number is None:
        return Line(text, label)
    return Line(text, f"  do  {number}", mark="bold $accent")


def known_lines(report: Report) -> Iterator[Line]:
    """What it is, where it lies, its parts, the memory it takes, what its publishers say."""
    from wan_tui.telling import known

    yield GAP
    for label, texts in known(report):
        if label != "box":  # that stands above the list
            yield from (Line(text, label if not place else "") for place, text in enumerate(texts))


def error_lines(error: WanError, title: str, numbers: Mapping[str, int]) -> Iterator[Line]:
    """Why there is no report."""
    yield Line(f"✗ no report: {title}", tone="bold $error", head=True)
    yield GAP
    yield from failure_lines(error, numbers)


def failure_lines(error: WanError, numbers: Mapping[str, int]) -> Iterator[Line]:
    yield Line(f"{error.message} [{error.code}]", "error", mark=_MARKS["error"])
    if error.cause:
        yield Line(error.cause, "  why", "$foreground-muted")
    for suggestion in error.suggestions:
        yield remedy_line(suggestion, numbers, "  do")
