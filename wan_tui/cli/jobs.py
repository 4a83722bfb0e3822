"""`wan-tui jobs`: the journal, which is the queue and the history."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from pathlib import Path

from engine.runtime.journal import Journal
from wan_tui.text import plain


def command(args: argparse.Namespace) -> int:
    journal = Journal()
    if journal.notice:
        print(journal.notice, file=sys.stderr)
    match args.action:
        case "list":
            return _list(journal, args.limit, as_json=args.json)
        case "show":
            return _show(journal, args.id, as_json=args.json)
        case _:
            return _cancel(journal, args.id, as_json=args.json)


def _list(journal: Journal, limit: int, *, as_json: bool) -> int:
    rows = journal.rows(limit=limit if limit > 0 else None)
    if as_json:
        print(json.dumps([row.as_dict() for row in rows], indent=2))
        return 0
    if not rows:
        print("No jobs yet.", file=sys.stderr)
        return 0
    width = shutil.get_terminal_size().columns if os.isatty(1) else None
    print(f"{'JOB':<20} {'STATE':<11} {'MODEL':<18} PROMPT")
    for row in rows:
        prompt = " ".join(row.prompt.split())
        print(plain(f"{row.id:<20} {row.state:<11} {Path(row.model).name:<18} {prompt}")[:width])
    return 0


def _show(journal: Journal, job: str, *, as_json: bool) -> int:
    row = journal.row(job).as_dict()
    if as_json:
        print(json.dumps(row, indent=2))
        return 0
    for key, value in row.items():
        if value is None or key == "job_toml":
            continue
        shown = json.dumps(value) if isinstance(value, dict) else str(value)
        print(plain(f"{key:<17} {shown}"))
    print("\n".join(plain(line) for line in ("", *row["job_toml"].splitlines())))
    return 0


def _cancel(journal: Journal, job: str, *, as_json: bool) -> int:
    said = journal.request_cancel(job)
    print(json.dumps({"id": journal.row(job).id, "message": said}) if as_json else said)
    return 0
