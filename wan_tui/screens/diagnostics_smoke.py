"""A smoke test under way and what came of it, as lines; written by its thread, read by the screen's."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.cells import cell_len, set_cell_size

from engine.errors import Cancelled, WanError
from engine.events import Event, JobStarted, Notice, Progress, Stage
from engine.units import size
from wan_tui.drawing import UNKNOWN
from wan_tui.screens.diagnostics_pane import GAP, Line
from wan_tui.screens.diagnostics_report import failure_lines

if TYPE_CHECKING:
    from engine.control import Control
    from engine.runtime.testload import LoadTest, Tried

_PATIENCE_S = 10.0  # for what was said to be read before the end is


@dataclass(frozen=True)
class SmokeNow:
    """A test of a model: `state` is running, stopped, failed or done; `now` is what it does, `log` what it did."""

    state: str = "running"
    now: str = "starting"
    log: tuple[str, ...] = ()
    done: LoadTest | None = None
    error: WanError | None = None

    @property
    def clip(self) -> str | None:
        """The path of the clip, where one was rendered."""
        made = self.done.smoke.done if self.done and self.done.smoke else None
        return made.output if made else None

    @property
    def errors(self) -> list[WanError]:
        parts = self.done.components if self.done else ()
        smoke = self.done.smoke if self.done else None
        found = [self.error, *(part.error for part in parts), smoke.error if smoke else None]
        return [error for error in found if error]


def fold(test: SmokeNow, events: Iterable[Event]) -> SmokeNow:
    """Take in what the test said."""
    now, log = test.now, list(test.log)
    for event in events:
        match event:
            case Stage(state="started"):
                now = f"loading {event.component}" if event.component else event.name
            case Stage(name="load"):
                now = "looking at its weights"
                log.append(f"{event.component}: loaded in {event.seconds or 0:.1f} s")
            case Progress():
                now = f"{event.stage}, {event.done} of {event.total}"
            case JobStarted():
                log.append("every component loads; now the smallest clip")
            case Notice():
                log.append(event.message)
    return dataclasses.replace(test, now=now, log=tuple(log))


def run_smoke(reference: str, folder: Path, hear: Callable[[Event], None], control: Control) -> LoadTest:
    """Load every component of what is named, and render its smallest clip into the folder. Raises what `check` and
    `try_load` raise."""
    from engine.catalog import load_catalog
    from engine.events import Bus
    from engine.runtime.check import check, subject
    from engine.runtime.testload import loadable, try_load

    bus = Bus()
    mailbox = bus.subscribe(hear)
    try:
        catalog = load_catalog()
        about = subject(reference, catalog)
        report = check(about, catalog)
        item = loadable(about, report, catalog)
        return try_load(item, report, catalog, bus, control, smoke_to=folder)
    finally:
        mailbox.close(_PATIENCE_S)


def settled(work: Callable[[], LoadTest]) -> SmokeNow:
    """How a test ended."""
    try:
        done = work()
    except Cancelled:
        return SmokeNow("stopped")
    except Exception as error:  # noqa: BLE001  (named and told)
        from engine.runtime.failure import explain

        return SmokeNow("failed", error=explain(error))
    return SmokeNow("done" if done.passed else "failed", done=done)


def smoke_lines(test: SmokeNow, numbers: Mapping[str, int]) -> Iterator[Line]:
    """The test in the report of its model."""
    yield GAP
    if test.state == "running":
        yield Line(f"running: {test.now}", "test", "bold", "bold $accent")
        yield from (Line(text, tone="$foreground-muted") for text in test.log)
    elif test.state == "stopped":
        yield Line("! stopped; it says nothing about the model", "test", "$warning", "bold $warning")
    elif test.done is None:
        yield Line("✗ it could not be made", "test", "$error", "bold $error")
        yield from (line for error in test.errors for line in failure_lines(error, numbers))
    else:
        yield from _told(test.done, numbers)


def _told(done: LoadTest, numbers: Mapping[str, int]) -> Iterator[Line]:
    from wan_tui.telling_load import load_answer, peaks

    sign, tone = ("✓", "$success") if done.passed else ("✗", "$error")
    yield Line(f"{sign} {load_answer(done)}", "test", f"bold {tone}", f"bold {tone}")
    yield from _table([_HEAD, *(_cells(part) for part in done.components)])
    for part in done.components:
        yield from (Line(f"{part.name}: {warning}", "warning", mark="bold $warning") for warning in part.warnings)
        yield from failure_lines(part.error, numbers) if part.error else ()
    if clip := done.smoke:
        yield from (Line(warning, "warning", mark="bold $warning") for warning in clip.warnings)
        yield from failure_lines(clip.error, numbers) if clip.error else ()
        if made := clip.done:
            peak = peaks(made.peak_rss_bytes, made.peak_vram_bytes)
            yield Line(f"{made.frames} frames of {made.width}x{made.height} in {made.seconds:.1f} s, {peak}", "clip")
            yield Line(made.output or "", "output", "$accent")
    yield Line(f"{done.seconds:.1f} s on {done.device.name}", "took")


_HEAD = ("COMPONENT", "STATE", "TIME", "PARAMETERS", "IN", "RAM", "VRAM")
_RIGHT = (2, 3, 5, 6)


def _cells(part: Tried) -> tuple[str, ...]:
    from engine.units import parameters

    count = parameters(part.parameters) if part.parameters else UNKNOWN
    state = {"loaded": "✓ loaded", "failed": "✗ failed"}[part.state]
    peaks = [UNKNOWN if peak is None else size(peak) for peak in (part.peak_rss_bytes, part.peak_vram_bytes)]
    return part.name, state, f"{part.seconds:.1f} s", count, ",".join(part.dtypes) or UNKNOWN, *peaks


def _table(rows: list[tuple[str, ...]]) -> Iterator[Line]:
    """Columns as wide as what stands in them; one that knows nothing is left out."""
    columns = [number for number in range(len(_HEAD)) if number < 3 or any(row[number] != UNKNOWN for row in rows[1:])]
    widths = {number: max(cell_len(row[number]) for row in rows) for number in columns}
    for place, row in enumerate(rows):
        cells = []
        for number in columns:
            text, width = row[number], widths[number]
            cells.append(" " * (width - cell_len(text)) + text if number in _RIGHT else set_cell_size(text, width))
        yield Line("  ".join(cells), tone="$foreground-muted" if not place else "", head=True, row=True)
