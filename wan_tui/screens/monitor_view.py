"""What the place `monitor` shows: the devices, the host, the job and what it said."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.containers import Container, Vertical

from engine.events import Event
from engine.sampling.figures import GpuSample, Sample
from engine.sampling.history import SECONDS, HostHistory
from wan_tui.now import JobNow
from wan_tui.screens.monitor_card import Seen, card_lines, in_full
from wan_tui.screens.monitor_cards import Cards, Scrolled
from wan_tui.screens.monitor_figures import age
from wan_tui.screens.monitor_host import host_lines, wrapped
from wan_tui.screens.monitor_job import Around, current, job_lines, log_lines
from wan_tui.screens.monitor_lines import Line, Lines
from wan_tui.screens.monitor_rooms import Rooms, divided
from wan_tui.screens.place import Place

if TYPE_CHECKING:
    from textual.timer import Timer

    from engine.sampling.sampler import Sampler

_STALE_S = 8.0  # figures older than that are said to be; unseen, they are taken every five seconds
_NO_HISTORY = HostHistory((None,) * SECONDS, (None,) * SECONDS)


class MonitorView(Place):
    AUTO_FOCUS = "Cards"
    DEFAULT_CSS = """
    MonitorView #monitor-right { height: 1fr; }
    MonitorView #monitor-left { height: auto; }
    MonitorView.-wide #monitor-all { layout: horizontal; }
    MonitorView.-wide #monitor-left { height: 1fr; }
    MonitorView #monitor-card, MonitorView #monitor-log { display: none; }
    MonitorView.-card #monitor-all, MonitorView.-log #monitor-all { display: none; }
    MonitorView.-card #monitor-card, MonitorView.-log #monitor-log { display: block; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.view = "all"
        self.cards: tuple[Seen, ...] = ()
        self.job: JobNow | None = None
        self._sample: Sample | None = None
        self._alive: dict[str, tuple[float, GpuSample]] = {}  # each device when it was last heard of
        self._prompts: dict[str, str | None] = {}  # of jobs; None while it is read, and where it cannot be
        self._clock: Timer | None = None
        self._taken = float("-inf")

    def body(self) -> ComposeResult:
        with Container(id="monitor-all"):
            with Vertical(id="monitor-left"):
                yield Lines(id="monitor-title")
                yield Cards(id="monitor-cards")
                yield Lines(id="monitor-host")
            with Vertical(id="monitor-right"):
                yield Lines(id="monitor-job")
                yield Lines(id="monitor-tail")
        yield Scrolled(id="monitor-card")
        yield Scrolled(id="monitor-log")

    def on_mount(self) -> None:
        self._clock = self.set_interval(5.0 if self.app.settings.low_bandwidth else 1.0, self.show)

    def on_screen_resume(self) -> None:
        self._taken = float("-inf")
        if self._clock:
            self._clock.resume()
        self.app.sampling.look(self._sampled)

    def on_screen_suspend(self) -> None:
        if self._clock:
            self._clock.pause()
        self.app.sampling.look_away()

    def on_resize(self) -> None:
        self.call_after_refresh(self.show)

    def refresh_all(self) -> None:
        self._take_sample()
        self.show()

    def news(self, events: Sequence[Event]) -> None:
        self.show()

    def _sampled(self) -> None:
        """There is a new sample; where bytes are dear, one in five is shown."""
        if not self.app.settings.low_bandwidth or time.monotonic() - self._taken > 4.5:
            self._taken = time.monotonic()
            self._take_sample()
            self.show()

    def on_cards_moved(self) -> None:
        self.show()

    # Painting

    def show(self) -> None:
        """Everything as it is now; only cells that are others reach the terminal."""
        if not self.is_current or not self.query(Cards):
            return
        self._read_job()
        self.look_at_keys()
        if self.view == "log":
            self._show_log()
        elif self.view == "card" and self.cards:
            self._show_card()
        else:
            self._show_all()

    def _show_log(self) -> None:
        log = self.query_one("#monitor-log", Scrolled)
        at_end = log.scroll_offset.y >= log.max_scroll_y
        title = ((" Log", "title"), (f"   {self.job.model if self.job else ''}", "dim"))
        log.show([title, *log_lines(self.job, self.size.width - 1)])
        if at_end:
            log.go(log.count)

    def _show_card(self) -> None:
        pane = self.query_one("#monitor-card", Scrolled)
        sample, card = self._sample, self.cards[self._cursor]
        driver = [f"{sample.driver}", f"CUDA up to {sample.cuda}"] if sample and sample.driver else []
        rows = max(1, min(8, (self.size.height - 18) // 4))
        pane.show(in_full(card, driver, self.size.width - 1, rows))

    def _show_all(self) -> None:
        wide, height = self.has_class("-wide"), self.size.height - 3
        width = self.size.width * 55 // 100 if wide else self.size.width
        job = job_lines(self.job, self._around(), self.size.width - width if wide else width)
        said, log = self._title(width), log_lines(self.job)
        gap: list[Line] = [()] if height >= 30 else []
        rooms = divided(
            height, self.cards, len(said), 4 + len(gap), len(job) + len(gap) * (not wide), len(log), stacked=not wide
        )
        self._divide(width, rooms, len(said), len(gap))
        self.query_one("#monitor-title", Lines).show(said)
        shown = [
            card_lines(card, rooms.level, width - 1, at=self.cards[1:] != () and at == self._cursor)
            for at, card in enumerate(self.cards)
        ]
        self.query_one(Cards).show_cards(shown)
        if sample := self._sample:
            sampler = self.app.sampling.sampler
            history = sampler.host_history() if sampler else _NO_HISTORY
            self._lines("host", [*gap, *host_lines(sample, history, width, rows=rooms.host_curves)])
        self._lines("job", [*([] if wide else gap), *job])
        tail = log[-(rooms.log - 1) :] if rooms.log else []
        self._lines("tail", [((" Log", "title"),), *tail] if rooms.log else [])

    def _lines(self, name: str, lines: Sequence[Line]) -> None:
        self.query_one(f"#monitor-{name}", Lines).show(lines)

    def _divide(self, width: int, rooms: Rooms, said: int, gap: int) -> None:
        left = self.query_one("#monitor-left")
        if left.styles.width is None or left.styles.width.value != width:
            left.styles.width = width
        heights = {
            "title": said,
            "cards": rooms.cards,
            "host": 4 + gap + rooms.host_curves,
            "job": rooms.job,
            "tail": rooms.log,
        }
        for name, rows in heights.items():
            widget = self.query_one(f"#monitor-{name}")
            if widget.styles.height is None or widget.styles.height.value != rows:
                widget.styles.height = rows

    # What is known

    @property
    def _cursor(self) -> int:
        return max(0, min(self.query_one(Cards).cursor, len(self.cards) - 1))

    def _title(self, width: int) -> list[Line]:
        """What stands above the devices."""
        sample = self._sample
        if sample is None:
            return [((" Devices", "title"), ("   Looking…", "dim"))]
        about = f"   driver {sample.driver}, CUDA up to {sample.cuda or '—'}" if sample.driver else ""
        old = time.monotonic() - sample.time
        stale = f"   these figures are {age(old)} old: the driver or a disk does not answer" if old > _STALE_S else ""
        lines: list[Line] = [((" Devices", "title"), (about, "dim"), (stale, "warn"))]
        said = sample.notice or ("" if sample.gpus else "No GPU was found.")
        return lines + wrapped(said, width, "warn" if sample.gpus else "")

    def _take_sample(self) -> None:
        """Keep the latest, with what is shown of each device."""
        sampler = self.app.sampling.sampler
        sample = sampler.latest if sampler else None
        if sampler is None or sample is None:
            return
        self._sample, self.cards = sample, self._seen(sampler, sample)

    def _seen(self, sampler: Sampler, sample: Sample) -> tuple[Seen, ...]:
        works = self.job.plan.device.get("uuid") if self.job and self.job.plan and not self.job.over else None
        split = {gpu.mig_parent for gpu in sample.gpus}
        cards = []
        for gpu in sample.gpus:
            if not gpu.lost:
                self._alive[gpu.uuid] = sample.time, gpu
            at, last = self._alive.get(gpu.uuid, (None, gpu))
            cards.append(
                Seen(
                    replace(last, problem=gpu.problem) if gpu.lost else gpu,
                    sampler.history(gpu.uuid),
                    phase=int(sample.time),
                    old=time.monotonic() - at if gpu.lost and at is not None else None,
                    lost=gpu.lost,
                    works=gpu.uuid == works,
                    split=gpu.uuid in split,
                )
            )
        return tuple(cards)

    def _read_job(self) -> None:
        self.job = current(self.app.live, self.app.session.waiting)
        if self.job and self.job.id not in self._prompts:
            self._read_prompt(self.job.id)

    def _read_prompt(self, id: str) -> None:
        """From the journal, once; the job itself does not tell it."""
        self._prompts[id] = None
        session = self.app.session

        def took(prompt: str | None) -> None:
            self._prompts[id] = prompt
            self.show()

        self.in_background(lambda: session.journal().row(id).prompt, took, lambda _: took(None))

    def _around(self) -> Around:
        keys = {binding.id or "": self.app.get_key_display(binding) for binding in reversed([*self.app.own_bindings()])}
        prompt = self._prompts.get(self.job.id) if self.job else None
        return Around(prompt, len(self.app.session.waiting), keys, time.time())
