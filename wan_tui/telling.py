"""A report of `check` in words, for the command line and the screen alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from engine.compat.finding import Finding
from engine.compat.fit import BASIS
from engine.compat.identify import vae_version
from engine.compat.machine import Machine
from engine.runtime.check import Subject
from engine.runtime.report import Report
from engine.units import counted, parameters, size
from wan_tui.cli.layout import cut
from wan_tui.telling_outlook import report_texts

VERDICTS = {"runs": "runs", "conditions": "runs, with conditions", "cannot-run": "cannot run"}
NO_ROOM = ("vram-low", "ram-low")
_MOST_NOTES = 3
_MANY = ("file", "part")  # of which a model may have more than anybody reads


def title(about: Subject) -> str:
    """What it is called where somebody may type it again; a subject's `name` is fit for files."""
    return about.item.id if about.item else about.name


def answer(verdict: str, codes: Iterable[str]) -> str:
    """The verdict in words. What lacks memory is no condition that a user can just meet."""
    if verdict == "conditions" and not set(NO_ROOM).isdisjoint(codes):
        return "does not fit this box as it is"
    return VERDICTS[verdict]


def answer_of(report: Report) -> str:
    return answer(report.verdict, (one.code for one in report.findings))


def lines(report: Report, title: str | None = None) -> Iterator[str]:
    """A report for people: the answer, why and what to do, then what is known of the model."""
    yield f"{title or report.name}: {answer_of(report)}"
    shown, more = reasons(report)
    for finding in shown:
        yield from _told(finding)
    if more:
        yield f"note     and {counted(more, 'more note')} with --json"
    if report.usable:
        yield f"usable   {usable(report)}"
    for one in report.alternatives:
        here = ", which is on this box" if one.on_disk else ""
        yield f"instead  {one.id}{here}" + (f": {'; '.join(one.lost)}" if one.lost else "")
        yield f"  do:  {one.command}"
    for label, texts in known(report):
        rows = [f"{label:<8} {text}" for text in texts]
        yield from cut(rows, label, "with --json") if label in _MANY else rows


# --- why, and what to do ----------------------------------------------------------------------------------------------


def reasons(report: Report) -> tuple[list[Finding], int]:
    """The findings to show, the gravest first, and how many notes are left out. Where there is no room, that comes
    before what there is to download."""
    warnings = sorted(report.of("warning"), key=lambda one: one.code not in NO_ROOM)
    notes = [one for one in report.of("note") if _helps(one, report.machine)]
    return [*report.of("error"), *warnings, *notes[:_MOST_NOTES]], len(notes[_MOST_NOTES:])


def _helps(note: Finding, machine: Machine) -> bool:
    """Not what speaks of a GPU where there is none, nor what the line about the box says already."""
    return not ((note.code == "stored-in-fp32" and not machine.card) or (note.code == "cpu-only" and not machine.cards))


def why(finding: Finding) -> str | None:
    """Its cause; how room is judged stands beside the figure."""
    return None if finding.code in NO_ROOM else finding.cause


def _told(finding: Finding) -> Iterator[str]:
    yield f"{finding.severity:<8} {finding.message} [{finding.code}]"
    if cause := why(finding):
        yield f"  why: {cause}"
    for suggestion in finding.suggestions:
        yield f"  do:  {suggestion}"
    for remedy in finding.remedies:
        yield f"  do:  {remedy.command}"


def usable(report: Report) -> str:
    return f"{', '.join(report.usable)}: whole, and of use to another model of the same kind"


# --- what is known ----------------------------------------------------------------------------------------------------


def known(report: Report) -> Iterator[tuple[str, list[str]]]:
    """What is known of the model, by labels: what it is, where, of what parts; the memory it takes, and the box."""
    wan = f"Wan {report.version} " if report.version in ("2.1", "2.2") else ""
    tasks = f": {', '.join(report.tasks)}" if report.tasks else ""
    if report.family:
        like = f", built like {' or '.join(report.like)}" if report.like else ""
        yield "model", [f"{wan}{report.family}{tasks}{like}"]
    if report.path:
        yield "place", [f"{report.path}" + (f" ({report.state})" if report.state else "")]
    found = report.anatomy.recognised if report.anatomy else {}
    yield "file", [f"{name}: {one.name}" for name, one in found.items()]
    yield "part", list(_parts(report))
    if memory := list(_memory(report)):
        yield "memory", ["; ".join(memory)]
    yield "box", [_box(report.machine)]
    yield "known", list(report.facts.get("notes", ()))


def _parts(report: Report) -> Iterator[str]:
    anatomy = report.anatomy
    for part in anatomy.components.values() if anatomy else ():
        if part.tensors:
            version = vae_version(anatomy) if part.name == "vae" and anatomy else None
            kind = f"{part.kind} {version}" if version else part.kind
            stored = f"{size(part.bytes)} in {', '.join(part.dtypes[:3])}"
            yield f"{part.name}: {kind}, {parameters(part.parameters)} parameters, {stored}"


def _memory(report: Report) -> Iterator[str]:
    if report.outlook:
        yield from report_texts(report.outlook)
    elif report.need:
        yield f"{size(report.need.bytes)} in {report.need.dtype}, for {BASIS}"
    least, advice = (report.facts.get(f"vram_{kind}_bytes") for kind in ("min", "advice"))
    said = [f"at least {size(least)}"] if least else []
    said += [f"a card with {size(advice)}"] if advice else []
    if said:
        yield f"{', better '.join(said)}, as its publishers say"


def _box(machine: Machine) -> str:
    cards = [f"{card.name} with {size(card.total_bytes)}" for card in machine.cards] or [
        "no GPU: all runs in fp32 on the CPU"
    ]
    return f"{', '.join(cards)}; {size(machine.ram_bytes)} RAM; {size(machine.disk_free_bytes)} of disk free"
