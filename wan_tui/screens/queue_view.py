"""What the place `queue` shows: jobs that run, jobs that wait, those that are over, and the one under the cursor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content

from engine.events import Event, JobCancelled, JobFailed, JobFinished, JobQueued, JobStarted
from wan_tui.now import JobNow
from wan_tui.screens.place import Place
from wan_tui.screens.queue_book import SHOWS, Parts, as_now, parts
from wan_tui.screens.queue_detail import Detail, asked, facts, read_detail, strip
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


class QueueView(Place):
    DEFAULT_CSS = """
    QueueView #queue-notice { display: none; height: auto; max-height: 60%; padding: 0 1; color: $warning; }
    QueueView #queue-notice.-told { display: block; }
    QueueView #queue-strip {
        height: 4; padding: 0 1; background: $surface; text-wrap: nowrap; text-overflow: ellipsis;
    }
    QueueView.-tall #queue-strip { height: 8; text-wrap: wrap; }
    QueueView #queue-side { display: none; width: 45%; background: $surface; }
    QueueView.-wide #queue-strip { display: none; }
    QueueView.-wide #queue-side { display: block; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.reading = Reading(self, self.show)
        self.found = Parts((), (), ())
        self.stopping: set[str] = set()  # jobs that were asked to stop from here, and have not yet
        self.shows = next(iter(SHOWS))
        self._detail: Detail | None = None
        self._detail_of: tuple[str, str] | None = None  # the job and state that were read in full last
        self._detail_under_way = False
        self._clocks: tuple[Timer, ...] = ()

    def body(self) -> ComposeResult:
        with Vertical():
            yield Block(id="queue-notice")
            with Horizontal():
                yield Filtered(COLUMNS, empty="Looking…", id="queue-jobs")
                yield Sheet(id="queue-side")
            yield Block(id="queue-strip")

    def on_mount(self) -> None:
        self._clocks = (self.set_interval(_TICK_S, self._tick), self.set_interval(_LOOK_S, self.reading.look))

    def on_screen_resume(self) -> None:
        for timer in self._clocks:
            timer.resume()

    def on_screen_suspend(self) -> None:
        for timer in self._clocks:
            timer.pause()

    def refresh_all(self) -> None:
        self.reading.look()
        self.show()

    def news(self, events: Sequence[Event]) -> None:
        known = self.reading.entries
        turned = {event.job for event in events if isinstance(event, _TURNS) and event.job in self.app.live.jobs}
        if turned and known is not None:
            self.reading.look_at(turned)
        self.show()

    def _tick(self) -> None:
        """Times go on without an event."""
        if self.found.running:
            self.show()

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
        """A job as it is now."""
        entry = (self.reading.entries or {}).get(id)
        if entry is None:
            return None
        entry = as_now(entry, self.app.live.jobs, self.app.session.waiting)
        return replace(entry, stopping=True) if id in self.stopping else entry

    def show(self) -> None:
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
        self.show_job()
        self.look_at_keys()

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
        """Another row, or the same with other cells."""
        self.show_job()
        self.look_at_keys()

    def show_job(self) -> None:
        entry = self.entry
        if entry is None:
            self.query_one("#queue-strip", Block).show(Content(""))
            self.query_one("#queue-side", Sheet).show(Content(""), Content(""))
            return
        self.query_one("#queue-strip", Block).show(strip(entry, *self._situation(entry)))
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
        sheet.show(facts(entry, *self._situation(entry), detail), told)

    def _situation(self, entry: Entry) -> tuple[JobNow | None, int | None]:
        """What the engine says of it, and its place in the line."""
        waiting = self.app.session.waiting
        return self.app.live.jobs.get(entry.id), waiting.index(entry.id) + 1 if entry.id in waiting else None

    def _want_detail(self, entry: Entry) -> None:
        """Have its row read in full, again when its state is another. One at a time: the cursor may run."""
        wanted = (entry.id, entry.state)
        if self._detail_under_way or wanted == self._detail_of:
            return
        self._detail_under_way, session = True, self.app.session

        def took(detail: Detail | None) -> None:
            self._detail_under_way = False
            self._detail, self._detail_of = detail, wanted
            self.show_job()  # which asks for the next where the cursor has moved on

        self.in_background(lambda: read_detail(session.journal(), entry.id), took, lambda _: took(None))
