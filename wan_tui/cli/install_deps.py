"""`wan-tui install-deps`: the packages a model's pipeline misses here; they are installed when the user agrees."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Mapping
from typing import Any

from engine.compat.needs import Need
from engine.compat.registry import Facts
from engine.control import Control
from engine.errors import Cancelled, Exit, JobError
from wan_tui.cli.ask import agreed
from wan_tui.installing import also_lines, install_missing, installed_line, missing, need_lines
from wan_tui.signals import Signals
from wan_tui.text import plain


def command(args: argparse.Namespace) -> int:
    signals, control = Signals(), Control()
    signals.on_stop(control.cancel)
    try:
        return _run(args, control)
    except Cancelled:
        return Exit.TERMINATED if control.reason == "terminated" else Exit.CANCELLED


def _run(args: argparse.Namespace, control: Control) -> int:
    wanted = missing(args.model)
    for problem in wanted.problems:
        print(plain(f"warning: {problem}"), file=sys.stderr)
    answer = {
        "model": wanted.name,
        "missing": [_row(need, wanted.facts) for need in wanted.needs],
        "command": list(wanted.command),
        "installed": False,
    }
    if not wanted.needs:
        _say(args, answer, f"{wanted.name}: nothing is missing.")
        return Exit.DONE
    if not args.json:
        lines = (*need_lines(wanted), f"command  {shlex.join(wanted.command)}")
        print("\n".join(plain(line) for line in lines), flush=True)
    refused = _refused(args, answer, control)
    if refused is not None:
        return refused
    done = install_missing(wanted, control, said="above")
    for line in also_lines(done):  # what the needs themselves need; it is told as well
        print(plain(f"also     {line}"), file=sys.stderr)
    also = {package: after for package, (_, after) in done.also.items()}
    _say(args, {**answer, "installed": True, "also": also}, f"installed  {installed_line(wanted, done)}")
    return Exit.DONE


def _refused(args: argparse.Namespace, answer: Mapping[str, Any], control: Control) -> int | None:
    """The status to end with when nobody agrees to the command; None when it may run."""
    try:
        if agreed("Run this command?", control, yes=args.yes, as_json=args.json):
            return None
    except JobError as error:
        if not args.json:
            raise
        print(json.dumps({**answer, **error.as_dict()}, indent=2))  # readers of either find their keys in one object
        return error.status
    print("Nothing was installed.", file=sys.stderr)
    return Exit.CANCELLED


# --- words ------------------------------------------------------------------------------------------------------------


def _say(args: argparse.Namespace, answer: dict[str, Any], text: str) -> None:
    print(json.dumps(answer, indent=2) if args.json else plain(text))


def _row(need: Need, facts: Facts) -> dict[str, Any]:
    return {
        "requirement": need.requirement,
        "installed": need.installed,
        "asked_by": facts.asked_by(need.requirement),
    }
