"""`wan-tui check`: can this model or folder run here, and if not, what to do."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator

from engine.catalog import load_catalog
from engine.compat.finding import Finding
from engine.compat.fit import BASIS
from engine.compat.identify import vae_version
from engine.compat.report import Report
from engine.errors import Exit
from engine.runtime.check import check, subject
from engine.units import parameters, size
from wan_tui.cli.errors import plain

VERDICTS = {"runs": "runs", "conditions": "runs, with conditions", "cannot-run": "cannot run"}


def command(args: argparse.Namespace) -> int:
    catalog = load_catalog()
    report = check(subject(args.model, catalog), catalog)
    if args.json:
        print(json.dumps(report.as_dict(), indent=2))
    else:
        print("\n".join(map(plain, lines(report))))
    return status(report)


def status(report: Report) -> Exit:
    return Exit.MODEL if report.verdict == "cannot-run" else Exit.DONE


def lines(report: Report) -> Iterator[str]:
    """A report for people."""
    yield f"{report.name}: {VERDICTS[report.verdict]}"
    yield from _about(report)
    for finding in report.findings:
        yield from _told(finding)
    if report.usable:
        yield f"usable   {', '.join(report.usable)}: whole, and of use to another model of the same kind"
    for one in report.alternatives:
        where = "on this box" if one.on_disk else one.command
        yield f"instead  {one.id} ({where})" + (f": {'; '.join(one.lost)}" if one.lost else "")


def _about(report: Report) -> Iterator[str]:
    wan = f"Wan {report.version} " if report.version in ("2.1", "2.2") else ""
    tasks = f": {', '.join(report.tasks)}" if report.tasks else ""
    if report.family:
        like = f", built like {' or '.join(report.like)}" if report.like else ""
        yield f"model    {wan}{report.family}{tasks}{like}"
    if report.path:
        yield f"place    {report.path}" + (f" ({report.state})" if report.state else "")
    anatomy = report.anatomy
    for name, found in anatomy.recognised.items() if anatomy else ():
        yield f"file     {name}: {found.name}"
    for part in anatomy.components.values() if anatomy else ():
        if part.tensors:
            version = vae_version(anatomy) if part.name == "vae" and anatomy else None
            kind = f"{part.kind} {version}" if version else part.kind
            stored = f"{size(part.bytes)} in {', '.join(part.dtypes[:3])}"
            yield f"part     {part.name}: {kind}, {parameters(part.parameters)} parameters, {stored}"
    if report.need:
        yield f"memory   {size(report.need.bytes)} in {report.need.dtype}, for {BASIS}"
    yield f"box      {_box(report)}"


def _box(report: Report) -> str:
    machine = report.machine
    cards = [f"{card.name} with {size(card.total_bytes)}" for card in machine.cards] or ["no GPU"]
    return f"{', '.join(cards)}; {size(machine.ram_bytes)} RAM; {size(machine.disk_free_bytes)} of disk free"


def _told(finding: Finding) -> Iterator[str]:
    yield f"{finding.severity:<8} {finding.message} [{finding.code}]"
    if finding.cause:
        yield f"  why: {finding.cause}"
    for suggestion in finding.suggestions:
        yield f"  do:  {suggestion}"
    for remedy in finding.remedies:
        yield f"  do:  {remedy.command}"
