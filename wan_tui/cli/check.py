"""`wan-tui check`: can this model or folder run here, and if not, what to do."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator

from engine.catalog import Catalog, load_catalog
from engine.compat.finding import Finding
from engine.compat.fit import BASIS
from engine.compat.identify import vae_version
from engine.compat.machine import Machine
from engine.compat.report import Report
from engine.errors import Exit, JobError
from engine.runtime.check import Subject, check, subject
from engine.units import counted, parameters, size
from wan_tui.cli.errors import answered
from wan_tui.cli.layout import cut, laid_out, width_of

VERDICTS = {"runs": "runs", "conditions": "runs, with conditions", "cannot-run": "cannot run"}
_NO_ROOM = ("vram-low", "ram-low")
_MOST_NOTES = 3


def command(args: argparse.Namespace) -> int:
    catalog = load_catalog()
    about = named(args.model, catalog)
    report = check(about, catalog)
    if args.json:
        text = json.dumps(report.as_dict(), indent=2)
    else:
        text = laid_out(lines(report, title(about)), width_of(sys.stdout))
    return answered(text, status(report))


def named(reference: str, catalog: Catalog) -> Subject:
    """What `MODEL|FOLDER` names. An unset variable of a script is no name: it would be the current folder."""
    if not reference:
        raise JobError("no-model-named", "No model is named.", suggestions=["Name a model or a folder."])
    return subject(reference, catalog)


def title(about: Subject) -> str:
    """What it is called where somebody may type it again; a subject's `name` is fit for files."""
    return about.item.id if about.item else about.name


def status(report: Report) -> Exit:
    return Exit.MODEL if report.verdict == "cannot-run" else Exit.DONE


def answer(verdict: str, codes: Iterable[str]) -> str:
    """The verdict in words. What lacks memory is no condition that a user can just meet."""
    if verdict == "conditions" and not set(_NO_ROOM).isdisjoint(codes):
        return "does not fit this box as it is"
    return VERDICTS[verdict]


def lines(report: Report, title: str | None = None) -> Iterator[str]:
    """A report for people: the answer, why and what to do, then what is known of the model."""
    yield f"{title or report.name}: {answer(report.verdict, (one.code for one in report.findings))}"
    yield from _reasons(report)
    if report.usable:
        yield f"usable   {', '.join(report.usable)}: whole, and of use to another model of the same kind"
    for one in report.alternatives:
        here = ", which is on this box" if one.on_disk else ""
        yield f"instead  {one.id}{here}" + (f": {'; '.join(one.lost)}" if one.lost else "")
        yield f"  do:  {one.command}"
    yield from _about(report)


# --- why, and what to do ----------------------------------------------------------------------------------------------


def _reasons(report: Report) -> Iterator[str]:
    """The findings, the gravest first: where there is no room, that comes before what there is to download."""
    warnings = sorted(report.of("warning"), key=lambda one: one.code not in _NO_ROOM)
    notes = [one for one in report.of("note") if _helps(one, report.machine)]
    for finding in (*report.of("error"), *warnings, *notes[:_MOST_NOTES]):
        yield from _told(finding)
    if more := notes[_MOST_NOTES:]:
        yield f"note     and {counted(len(more), 'more note')} with --json"


def _helps(note: Finding, machine: Machine) -> bool:
    """Not what speaks of a GPU where there is none, nor what the line about the box says already."""
    return not ((note.code == "stored-in-fp32" and not machine.card) or (note.code == "cpu-only" and not machine.cards))


def _told(finding: Finding) -> Iterator[str]:
    yield f"{finding.severity:<8} {finding.message} [{finding.code}]"
    if finding.cause and finding.code not in _NO_ROOM:  # how room is judged stands beside the figure
        yield f"  why: {finding.cause}"
    for suggestion in finding.suggestions:
        yield f"  do:  {suggestion}"
    for remedy in finding.remedies:
        yield f"  do:  {remedy.command}"


# --- what is known ----------------------------------------------------------------------------------------------------


def _about(report: Report) -> Iterator[str]:
    wan = f"Wan {report.version} " if report.version in ("2.1", "2.2") else ""
    tasks = f": {', '.join(report.tasks)}" if report.tasks else ""
    if report.family:
        like = f", built like {' or '.join(report.like)}" if report.like else ""
        yield f"model    {wan}{report.family}{tasks}{like}"
    if report.path:
        yield f"place    {report.path}" + (f" ({report.state})" if report.state else "")
    found = report.anatomy.recognised if report.anatomy else {}
    yield from cut([f"file     {name}: {one.name}" for name, one in found.items()], "file", "with --json")
    yield from cut(list(_parts(report)), "part", "with --json")
    if memory := list(_memory(report)):
        yield f"memory   {'; '.join(memory)}"
    yield f"box      {_box(report)}"
    yield from (f"known    {note}" for note in report.facts.get("notes", ()))


def _parts(report: Report) -> Iterator[str]:
    anatomy = report.anatomy
    for part in anatomy.components.values() if anatomy else ():
        if part.tensors:
            version = vae_version(anatomy) if part.name == "vae" and anatomy else None
            kind = f"{part.kind} {version}" if version else part.kind
            stored = f"{size(part.bytes)} in {', '.join(part.dtypes[:3])}"
            yield f"part     {part.name}: {kind}, {parameters(part.parameters)} parameters, {stored}"


def _memory(report: Report) -> Iterator[str]:
    if report.need:
        yield f"{size(report.need.bytes)} in {report.need.dtype}, for {BASIS}"
    least, advice = (report.facts.get(f"vram_{kind}_bytes") for kind in ("min", "advice"))
    said = [f"at least {size(least)}"] if least else []
    said += [f"a card with {size(advice)}"] if advice else []
    if said:
        yield f"{', better '.join(said)}, as its publishers say"


def _box(report: Report) -> str:
    machine = report.machine
    cards = [f"{card.name} with {size(card.total_bytes)}" for card in machine.cards] or [
        "no GPU: all runs in fp32 on the CPU"
    ]
    return f"{', '.join(cards)}; {size(machine.ram_bytes)} RAM; {size(machine.disk_free_bytes)} of disk free"
