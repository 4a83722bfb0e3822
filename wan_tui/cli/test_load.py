"""`wan-tui test-load`: load a model component by component, look at its weights, and render its smallest clip."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from engine.catalog import load_catalog
from engine.control import Control
from engine.errors import Cancelled, Exit, JobError
from engine.events import Bus, Event, JobFinished, JobStarted, Stage
from engine.runtime.check import check
from engine.runtime.testload import LoadTest, Tried, check_device, loadable, try_load
from engine.units import counted, parameters, size
from wan_tui.cli.check import named, title
from wan_tui.cli.errors import answered, described, log_to_file
from wan_tui.cli.layout import laid_out, width_of
from wan_tui.printing import printer_for
from wan_tui.signals import Signals
from wan_tui.text import plain

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


def lines(done: LoadTest, title: str | None = None) -> Iterator[str]:
    """What came of it, for people: the answer, what failed and why, then the figures."""
    yield f"{title or done.name}: {_answer(done)}"
    for part in done.failed:
        yield from _row(part)
    clip = done.smoke
    if clip:
        yield from (f"warning: {warning}" for warning in clip.warnings)
        yield from described(clip.error).splitlines() if clip.error else ()
    for part in done.components:
        if not part.error:
            yield from _row(part)
    if clip and clip.done:
        made = clip.done
        peaks = _peaks(made.peak_rss_bytes, made.peak_vram_bytes)
        yield f"clip     {made.frames} frames of {made.width}x{made.height} in {made.seconds:.1f} s, {peaks}"
        yield f"output   {made.output}"
        yield f"sha256   {made.output_sha256}"
    yield f"took     {done.seconds:.1f} s on {done.device.name}"


def _answer(done: LoadTest) -> str:
    if done.failed:
        bad = ", ".join(part.name for part in done.failed)
        fail = "fail" if done.failed[1:] else "fails"
        return f"{len(done.failed)} of {counted(len(done.components), 'component')} {fail}: {bad}"
    renders = {"done": ", and it renders", "failed": ", and it does not render"}
    return f"every component loads{renders.get(done.smoke.state, '') if done.smoke else ''}"


def _row(part: Tried) -> Iterator[str]:
    figures = [f"{part.seconds:.1f} s"]
    if part.parameters:
        figures.append(f"{parameters(part.parameters)} parameters in {', '.join(part.dtypes)}")
        figures.append(_peaks(part.peak_rss_bytes, part.peak_vram_bytes))
    if part.finite:
        figures.append("every weight finite")
    yield f"{part.state:<8} {part.name}: {part.kind}, {', '.join(figures)}"
    yield from (f"warning: {part.name}: {warning}" for warning in part.warnings)
    yield from described(part.error).splitlines() if part.error else ()


def _peaks(rss: int | None, vram: int | None) -> str:
    return f"peak {size(rss)} RAM" + (f" and {size(vram)} VRAM" if vram is not None else "")
