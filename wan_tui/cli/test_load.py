"""`wan-tui test-load`: load a model component by component, look at its weights, and render its smallest clip."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from engine.catalog import load_catalog
from engine.control import Control
from engine.errors import Cancelled, Exit, JobError
from engine.events import Bus, Event, JobFinished, JobStarted, Stage
from engine.runtime.check import check
from engine.runtime.testload import check_device, loadable, try_load
from wan_tui.cli.check import named
from wan_tui.cli.errors import answered, log_to_file
from wan_tui.cli.layout import laid_out, width_of
from wan_tui.printing import printer_for
from wan_tui.signals import Signals
from wan_tui.telling import title
from wan_tui.telling_load import lines
from wan_tui.text import plain

__all__ = ["command", "folder_asked", "lines", "stoppable"]

PATIENCE_S = 10.0
DEFAULT_FOLDER = "diagnostics"


def command(args: argparse.Namespace) -> int:
    return stoppable(args, lambda bus, control: _test(args, bus, control))


def stoppable(args: argparse.Namespace, work: Callable[[Bus, Control], tuple[int, str]]) -> int:
    """Do some work with a stop switch, its progress on standard error; then print its answer and return its status."""
    signals, control, bus = Signals(), Control(), Bus()
    log_to_file()
    signals.on_stop(control.cancel)
    # With --json what is asked for is one object: of all else only warnings are told.
    mailbox = bus.subscribe(Progressing(quiet=args.json))
    try:
        status, answer = work(bus, control)
    except Cancelled:
        return Exit.TERMINATED if control.reason == "terminated" else Exit.CANCELLED
    finally:
        mailbox.close(PATIENCE_S)
    return answered(answer, status)


class Progressing:
    """Shows what happens on standard error: beside the events of a job which component is being loaded."""

    def __init__(self, *, quiet: bool) -> None:
        self._printer = printer_for(as_json=False, quiet=quiet)
        self._quiet = quiet
        self._in_job = False

    def __call__(self, event: Event) -> None:
        if isinstance(event, JobStarted):
            self._in_job = True
        if isinstance(event, JobFinished):
            return  # its path is part of the answer
        if not self._in_job and isinstance(event, Stage) and event.name == "load":
            if event.state == "started" and not self._quiet:
                self._printer.tell(plain(f"load     {event.component}"))
            return
        self._printer(event)


def folder_asked(args: argparse.Namespace) -> Path:
    """Where `--output` says. An unset variable of a script is no folder."""
    given = getattr(args, "output", None)
    if given == "":
        raise JobError("bad-output", "--output names no folder.", suggestions=["Name a folder, or leave it out."])
    return Path(os.path.expanduser(given or DEFAULT_FOLDER)).absolute()


def _test(args: argparse.Namespace, bus: Bus, control: Control) -> tuple[int, str]:
    folder = folder_asked(args)
    catalog = load_catalog()
    about = named(args.model, catalog)
    report = check(about, catalog)
    check_device(args.device, report.machine)
    item = loadable(about, report, catalog)
    smoke_to = folder if args.smoke_test else None
    done = try_load(item, report, catalog, bus, control, device=args.device, smoke_to=smoke_to)
    if args.json:
        return done.status, json.dumps(done.as_dict(), indent=2)
    return done.status, laid_out(lines(done, title(about)), width_of(sys.stdout))
