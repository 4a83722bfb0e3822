"""`--run`: jobs without a screen. A progress bar for people, JSON lines for programs, an exit status for scripts."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.catalog import load_catalog
from engine.errors import Exit
from engine.events import Bus, Listener
from engine.job import Job, expand
from engine.jobfile import read_job
from engine.runtime.failure import explain
from engine.runtime.journal import Journal
from engine.runtime.prepare import Checked, prepare
from engine.runtime.worker import Worker, failed
from wan_tui.cli.errors import log_to_file
from wan_tui.printing import Printer, printer_for
from wan_tui.signals import Signals

PATIENCE_S = 10.0  # how long a reader that takes nothing is waited for at the end


@dataclass(frozen=True)
class Asked:
    """A job to be read: the file that names it, and how it is read."""

    file: Path
    read: Callable[[], Job]


def run_files(args: argparse.Namespace) -> int:
    """`wan-tui --run`: validate every file, then run them in order."""

    def reader(file: Path) -> Callable[[], Job]:
        return lambda: read_job(file, args.set)

    files = [Path(os.path.abspath(name)) if _here() else Path(name) for name in args.run]
    return run_jobs([Asked(file, reader(file)) for file in files], args)


def _here() -> bool:
    """Whether the working folder still exists."""
    try:
        return bool(os.getcwd())
    except OSError:
        return False


def run_jobs(asked: Sequence[Asked], args: argparse.Namespace, *listeners: Listener) -> int:
    """Check all jobs, run those that may run, and return the status of the first that did not finish.

    What happens is printed, and told to `listeners`; they have heard all of it when this returns.
    """
    signals = Signals()
    log_to_file()
    bus = Bus()
    printer = printer_for(as_json=args.json, quiet=args.quiet, rehearsal=getattr(args, "dry_run", False))
    mailboxes = [bus.subscribe(printer), *map(bus.subscribe, listeners)]
    try:
        status = _run(asked, args, bus, printer, signals)
    except Exception as error:  # noqa: BLE001  (named and told)
        named = explain(error)
        for one in asked:
            bus.publish(failed(one.file.name, named))
        status = named.status
    for mailbox in mailboxes:
        mailbox.close(PATIENCE_S)
    return status


def _run(asked: Sequence[Asked], args: argparse.Namespace, bus: Bus, printer: Printer, signals: Signals) -> Exit:
    output = Path(args.output).absolute() if args.output else None
    checked, ends = _check_all(asked, output, bus)
    if Exit.USAGE in ends:
        return Exit.USAGE
    if Exit.FAILED in ends:  # a fault of ours in reading one: nothing runs on half an answer
        return Exit.FAILED
    if getattr(args, "dry_run", False):
        ends += [_dry_run(job, bus) for job in checked]
    elif checked:
        ends += _run_all(checked, bus, printer, signals)
    return next((end for end in ends if end), Exit.DONE)


def _check_all(asked: Sequence[Asked], output: Path | None, bus: Bus) -> tuple[list[Checked], list[Exit]]:
    """Those that may run, and the statuses of those that may not."""
    catalog = load_catalog()
    checked: list[Checked] = []
    ends: list[Exit] = []
    for one in asked:
        try:
            checked += [prepare(job, one.file, catalog, output) for job in expand(one.read())]
        except Exception as error:  # noqa: BLE001  (named and told)
            named = explain(error)
            bus.publish(failed(one.file.name, named))
            ends.append(named.status)
    return checked, ends


def _dry_run(asked: Checked, bus: Bus) -> Exit:
    from engine.runtime.way import rehearse

    try:
        rehearse(asked, bus)
    except Exception as error:  # noqa: BLE001  (named and told)
        named = explain(error)
        bus.publish(failed(asked.file.name, named))
        return named.status
    return Exit.DONE


def _run_all(checked: Sequence[Checked], bus: Bus, printer: Printer, signals: Signals) -> list[Exit]:
    journal = Journal()
    if journal.notice:
        printer.tell(journal.notice)
    for row in journal.recover():
        printer.tell(f"Job {row.id} ({row.model}) was interrupted: its process is gone.")
    worker = Worker(journal, bus)
    signals.on_stop(worker.cancel_all)
    ids = [worker.submit(job) for job in checked]
    signals.repeat()
    worker.close()
    worker.start()
    while not worker.join(0.2):
        pass
    return [worker.ends[job] for job in ids]
