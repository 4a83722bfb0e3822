"""`wan-tui diagnose`: everything about a model on this box, in a file that may be passed on."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.catalog import load_catalog
from engine.control import Control
from engine.errors import Exit
from engine.events import Bus
from engine.runtime.diagnose import diagnose
from engine.units import counted
from wan_tui.cli.check import named
from wan_tui.cli.layout import laid_out, width_of
from wan_tui.cli.test_load import folder_asked, stoppable
from wan_tui.telling import answer


def command(args: argparse.Namespace) -> int:
    return stoppable(args, lambda bus, control: _diagnose(args, bus, control))


def _diagnose(args: argparse.Namespace, bus: Bus, control: Control) -> tuple[int, str]:
    folder = folder_asked(args)
    catalog = load_catalog()
    about = named(args.model, catalog)
    path, facts = diagnose(about, catalog, folder, bus, control, load=not args.no_load, device=args.device)
    # A report was asked for, and it is there: whether the model runs stands in it.
    if args.json:
        return Exit.DONE, json.dumps(facts, indent=2)
    return Exit.DONE, laid_out(_lines(facts, path), width_of(sys.stdout))


def _lines(facts: dict[str, Any], path: Path) -> Iterator[str]:
    model, report = facts["model"], facts["report"]
    codes = [one["code"] for one in report["findings"]]
    yield f"{model['id'] or model['name']}: {answer(report['verdict'], codes)}"
    for kind in ("errors", "warnings"):
        yield from (f"{one['severity']:<8} {one['message']} [{one['code']}]" for one in facts[kind])
    yield from (f"do       {step}" for step in facts["recommendations"])
    counts = (counted(len(facts[f"{kind}s"]), kind) for kind in ("error", "warning", "note"))
    yield f"found    {', '.join(counts)}"
    yield f"load     {_loaded(facts['load_attempt'])}"
    yield f"report   {path}"


def _loaded(attempt: dict[str, Any]) -> str:
    if not attempt["attempted"]:
        return f"Not tried. {attempt['why']}"
    if "components" not in attempt:
        return str(attempt["state"])
    parts = attempt["components"]
    bad = [part["name"] for part in parts if part["error"]]
    whole = f"{len(parts) - len(bad)} of {counted(len(parts), 'component')} on {attempt['device']['name']}"
    return f"{whole}; not {', '.join(bad)}" if bad else whole
