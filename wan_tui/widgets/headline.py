"""The first line of every place: where one is, and what the engine does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len
from textual.app import RenderResult
from textual.content import Content
from textual.widget import Widget

from wan_tui.drawing import bar, clock
from wan_tui.text import one_line
from wan_tui.widgets.listing import fitted

if TYPE_CHECKING:
    from wan_tui.live import Live
    from wan_tui.now import JobNow


class Headline(Widget):
    DEFAULT_CSS = """
    Headline { height: 1; background: $panel; color: $text; padding: 0 1; }
    """

    def __init__(self, place: str) -> None:
        super().__init__()
        self._place = place
        self._now = ""

    def tell(self, live: Live, waiting: Sequence[str]) -> None:
        """Show what is going on; nothing is painted when that is what it says already."""
        now = summary(live, waiting, wide=self.size.width >= 100)
        if now != self._now:
            self._now = now
            self.refresh()

    def render(self) -> RenderResult:
        width = self.size.width
        left = f"wan-tui  {self._place}"
        room = width - len(left) - 2
        now = fitted(self._now, min(room, cell_len(self._now))) if room > 0 else ""
        gap = max(0, width - len(left) - cell_len(now))
        return Content.assemble(("wan-tui", "bold $accent"), f"  {self._place}", " " * gap, (now, "$text"))


def summary(live: Live, waiting: Sequence[str], *, wide: bool) -> str:
    """What runs, in a few words."""
    parts = []
    if job := live.running:
        parts.append(job_line(job, wide=wide))
    elif job := live.at_work(waiting):
        parts.append(f"▶ {job.model.rsplit('/', 1)[-1]} starts")
    if waiting:
        parts.append(f"{len(waiting)} waiting")
    for transfer in live.transfers.values():
        if transfer.state == "running":
            latest = transfer.latest
            share = f" {100 * latest.all_done // max(1, latest.all_total)} %" if latest else ""
            parts.append(f"{transfer.kind} {transfer.id}{share}")
    return one_line(" · ".join(parts)) if parts else "idle"


def job_line(job: JobNow, *, wide: bool) -> str:
    """`▶ t2v-1.3B denoise 12/40 0:42 left`."""
    text = f"▶ {job.model.rsplit('/', 1)[-1]} {f'load {job.component}' if job.component else job.stage or ''}"
    if progress := job.progress:
        share = progress.done / progress.total if progress.total else None
        text += f" {bar(share, 10)}" if wide else ""
        text += f" {progress.done}/{progress.total}"
        text += f" {clock(progress.eta_s)} left" if progress.eta_s is not None else ""
    return text
