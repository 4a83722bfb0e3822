"""The place `queue`: jobs that run, jobs that wait, and those that are over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content

from engine.events import Event, JobCancelled, JobFailed, JobFinished, JobQueued, JobStarted
from wan_tui.actions import bindings
from wan_tui.screens.place import Place
from wan_tui.screens.queue_book import SHOWS, Parts, parts
from wan_tui.screens.queue_detail import Detail, asked, facts, read_detail, strip
from wan_tui.screens.queue_doing import Doing
from wan_tui.screens.queue_entry import Entry
from wan_tui.screens.queue_reading import Reading
from wan_tui.screens.queue_rows import COLUMNS, listed
from wan_tui.screens.queue_sheet import Block, Over, Sheet
from wan_tui.widgets.ask import plain_lines
from wan_tui.widgets.filtered import Filtered
from wan_tui.widgets.listing import Listing
from wan_tui.widgets.trouble import trouble_text

if TYPE_CHECKING:
    from textual.timer import Timer

_TICK_S = 1.0  # how often times that go on are shown
_LOOK_S = 5.0  # how often jobs of other processes are looked for
_TURNS = (JobQueued, JobStarted, JobFinished, JobFailed, JobCancelled)


class Queue(Doing, Place):
    PLACE = "queue"
    LABEL = "Queue"
    ABOUT = "Every job: what runs, what waits in its order, and below it what was, the newest first."
    BINDINGS = bindings("queue")
    DEFAULT_CSS = """
    Queue #queue-notice { display: none; height: auto; max-height: 6; padding: 0 1; color: $warning; }
    Queue #queue-notice.-told { display: block; }
    Queue #queue-list { width: 1fr; }
    Queue #queue-strip { height: 4; padding: 0 1; background: $surface; text-wrap: nowrap; text-overflow: ellipsis; }
    Queue.-tall #queue-strip { height: 8; text-wrap: wrap; }
    Queue #queue-side { display: none; width: 45%; background: $surface; }
    Queue.-wide #queue-strip { display: none; }
    Queue.-wide #queue-side { display: block; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.reading = Reading(self, self._show)
        self.found = Parts((), (), ())
        self.stopping: set[str] = set()  # jobs that were asked to stop from here, and have not yet
        self.shows = next(iter(SHOWS))
        self._detail: Detail | None = None
        self._wanted: tuple[str, str] | None = None  # the job and state whose detail was asked for last
        self._timers: tuple[Timer, ...] = ()

    def body(self) -> ComposeResult:
        with Vertical():
            yield Block(id="queue-notice")
            with Horizontal():
                yield Filtered(COLUMNS, empty="Looking…", id="queue-jobs")
                yield Sheet(id="queue-side", can_focus=False)
            yield Block(id="queue-strip")

    def on_mount(self) -> None:
        self._timers = (self.set_interval(_TICK_S, self._tick), self.set_interval(_LOOK_S, self.reading.look))
        super().on_mount()

    def on_screen_resume(self) -> None:
        for timer in self._timers:
            timer.resume()
        super().on_screen_resume()

    def on_screen_suspend(self) -> None:
        for timer in self._timers:
            timer.pause()

    def refresh_all(self) -> None:
        self.reading.look()
        self._show()

    def news(self, events: Sequence[Event]) -> None:
        known = self.reading.entries
        turned = {event.job for event in events if isinstance(event, _TURNS) and event.job in self.app.live.jobs}
        if turned and known is not None:
            self.reading.look_at(turned)
        self._show()

    def _tick(self) -> None:
        """Times go on without an event."""
        if self.found.running:
            self._show()

    # The list

    @property
    def listing(self) -> Listing:
        return self.query_one("#queue-jobs", Filtered).listing

    @property
    def entry(self) -> Entry | None:
        """The job under the cursor."""
        row = self.listing.row
        return self.entry_of(row.key) if row else None

    def entry_of(self, id: str) -> Entry | None:
        known = self.reading.entries or {}
        return known.get(id)

    def _show(self) -> None:
        self._tell_notice()
        reading, live, session = self.reading, self.app.live, self.app.session
        if reading.entries is None:
            if reading.problem:
                self.listing.show([], empty="The journal could not be read.")
            return
        self.found = parts(reading.entries, live.jobs, session.waiting)
        self.stopping = {id for id in self.stopping if id in live.jobs and not live.jobs[id].over}
        rows = listed(self.found, live.jobs, reading.drawn, self.shows, self.stopping)
        self.listing.show(rows, empty=self._nothing())
        self._show_job()

    def _nothing(self) -> str:
        keys = {binding.id: self.app.get_key_display(binding) for binding in reversed([*self.app.own_bindings()])}
        compose, demo = keys.get("app.composer", "the palette"), keys.get("app.demo", "the palette")
        return f"No jobs yet. {compose} asks for a video; {demo} makes a first one with the built-in model."

    def _tell_notice(self) -> None:
        """Why the journal cannot be read; or, while there is no history, that a damaged one was set aside."""
        told = Content("")
        if problem := self.reading.problem:
            told = trouble_text(problem)
        elif self.reading.notice and not self.found.history:
            told = Content(plain_lines(self.reading.notice))
        notice = self.query_one("#queue-notice", Block)
        notice.set_class(bool(told.plain), "-told")
        notice.show(told)

    # The job under the cursor

    @on(Listing.Moved, "#queue-jobs-list")
    def _moved(self) -> None:
        self._show_job()
        self.refresh_bindings()

    def _show_job(self) -> None:
        entry = self.entry
        if entry is None:
            self.query_one("#queue-strip", Block).show(Content(""))
            self.query_one("#queue-side", Sheet).show(Content(""), Content(""))
            return
        self.query_one("#queue-strip", Block).show(strip(self._now(entry), *self._situation(entry)))
        over = self.app.screen
        if self.has_class("-wide") or isinstance(over, Over):
            self._want_detail(entry)
            self.fill(self.query_one("#queue-side", Sheet))
        if isinstance(over, Over):
            over.fill()

    def fill(self, sheet: Sheet) -> None:
        """Show the job under the cursor in full."""
        entry = self.entry
        if entry is None:
            return
        detail = self._detail if self._detail and self._detail.row.id == entry.id else None
        told = asked(detail) if detail else Content("Looking…")
        sheet.show(facts(self._now(entry), *self._situation(entry), detail), told)
