"""`wan-tui diagnose`: everything about a model on this box, in a file that may be passed on."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.catalog import load_catalog
from engine.control import Control
from engine.errors import Exit
from engine.events import Bus
from engine.runtime.check import subject
from engine.runtime.diagnose import diagnose
from wan_tui.cli.check import VERDICTS
from wan_tui.cli.errors import plain
from wan_tui.cli.test_load import DEFAULT_FOLDER, stoppable


def command(args: argparse.Namespace) -> int:
    return stoppable(args, lambda bus, control: _diagnose(args, bus, control))


def _diagnose(args: argparse.Namespace, bus: Bus, control: Control) -> tuple[int, str]:
    catalog = load_catalog()
    folder = Path(os.path.expanduser(getattr(args, "output", None) or DEFAULT_FOLDER)).absolute()
    about = subject(args.model, catalog)
    path, facts = diagnose(about, catalog, folder, bus, control, load=not args.no_load, device=args.device)
    # A report was asked for, and it is there: whether the model runs stands in it.
    if args.json:
        return Exit.DONE, json.dumps(facts, indent=2)
    return Exit.DONE, "\n".join(map(plain, _lines(facts, path)))


def _lines(facts: dict[str, Any], path: Path) -> Iterator[str]:
    yield f"{facts['model']['name']}: {VERDICTS[facts['report']['verdict']]}"
    for kind in ("errors", "warnings"):
        yield from (f"{one['severity']:<8} {one['message']} [{one['code']}]" for one in facts[kind])
    counts = (f"{len(facts[kind])} {kind}" for kind in ("errors", "warnings", "notes"))
    yield f"found    {', '.join(counts)}"
    yield f"load     {_loaded(facts['load_attempt'])}"
    yield from (f"do       {step}" for step in facts["recommendations"])
    yield f"report   {path}"


def _loaded(attempt: dict[str, Any]) -> str:
    if not attempt["attempted"]:
        return f"not tried: {attempt['why']}"
    if "components" not in attempt:
        return str(attempt["state"])
    parts = attempt["components"]
    bad = [part["name"] for part in parts if part["error"]]
    whole = f"{len(parts) - len(bad)} of {len(parts)} components on {attempt['device']['name']}"
    return f"{whole}; not {', '.join(bad)}" if bad else whole
