"""`wan-tui demo`: a clip from the built-in model, no download, a CPU is enough."""

from __future__ import annotations

import argparse
from pathlib import Path

from engine.events import Event, JobFinished
from engine.jobfile import job_from_table
from wan_tui.headless import Asked, run_jobs

PROMPT = "a cyan triangle moving left on a black background"


def command(args: argparse.Namespace) -> int:
    here = Path.cwd() / "demo"  # names the job, and paths are relative to its folder; no such file is read
    table: dict[str, object] = {"model": "demo@1", "prompt": args.prompt or PROMPT}
    if args.image:
        table["inputs"] = {"image": args.image}
    heard: list[Event] = []
    status = run_jobs([Asked(here, lambda: job_from_table(table, here))], args, heard.append)
    if not (args.quiet or args.json):
        from wan_tui.filmstrip import show

        for event in heard:
            if isinstance(event, JobFinished) and event.output:
                show(Path(event.output), event.fps or 1)
    return status
