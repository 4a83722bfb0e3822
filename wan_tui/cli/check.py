"""`wan-tui check`: can this model or folder run here, and if not, what to do."""

from __future__ import annotations

import argparse
import json
import sys

from engine.catalog import Catalog, load_catalog
from engine.errors import Exit, JobError
from engine.runtime.check import Subject, check, subject
from engine.runtime.report import Report
from wan_tui.cli.errors import answered
from wan_tui.cli.layout import laid_out, width_of
from wan_tui.telling import lines, title

__all__ = ["command", "lines", "named", "status"]


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


def status(report: Report) -> Exit:
    return Exit.MODEL if report.verdict == "cannot-run" else Exit.DONE
