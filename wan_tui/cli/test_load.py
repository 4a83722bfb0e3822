"""`wan-tui test-load`: load a model component by component, look at its weights, and render its smallest clip."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from engine.catalog import load_catalog
from engine.control import Control
from engine.errors import Cancelled, Exit
from engine.events import Bus, Event, JobFinished, JobStarted, Stage
from engine.runtime.check import check, subject
from engine.runtime.testload import LoadTest, Tried, loadable, try_load
from engine.units import parameters, size
from wan_tui.cli.errors import described, log_to_file, plain
from wan_tui.printing import printer_for
from wan_tui.signals import Signals

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
    print(answer)
    return status


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


def _test(args: argparse.Namespace, bus: Bus, control: Control) -> tuple[int, str]:
    catalog = load_catalog()
    about = subject(args.model, catalog)
    report = check(about, catalog)
    item = loadable(about, report, catalog)
    folder = Path(os.path.expanduser(getattr(args, "output", None) or DEFAULT_FOLDER)).absolute()
    smoke_to = folder if args.smoke_test else None
    done = try_load(item, report, catalog, bus, control, device=args.device, smoke_to=smoke_to)
    if args.json:
        return done.status, json.dumps(done.as_dict(), indent=2)
    return done.status, "\n".join(map(plain, lines(done)))


def lines(done: LoadTest) -> Iterator[str]:
    """What came of it, for people."""
    for part in done.components:
        yield from _row(part)
    clip = done.smoke
    if clip and clip.done:
        made = clip.done
        peaks = _peaks(made.peak_rss_bytes, made.peak_vram_bytes)
        yield f"clip     {made.frames} frames of {made.width}x{made.height} in {made.seconds:.1f} s, {peaks}"
        yield f"output   {made.output}"
        yield f"sha256   {made.output_sha256}"
    if clip:
        yield from (f"warning: {warning}" for warning in clip.warnings)
        yield from described(clip.error).splitlines() if clip.error else ()
    count, bad = len(done.components), len(done.failed)
    loads = f"{count - bad} of {count} components load" if bad else f"all {count} components load"
    renders = "" if clip is None else {"done": ", it renders", "failed": ", it does not render"}.get(clip.state, "")
    yield f"{done.name}: {loads}{renders} on {done.device.name}, {done.seconds:.1f} s"


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
