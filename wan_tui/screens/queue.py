"""The place `queue`, and what can be done there with the job under the cursor."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from textual.content import Content

from wan_tui.actions import bindings
from wan_tui.screens.queue_book import SHOWS
from wan_tui.screens.queue_entry import Entry
from wan_tui.screens.queue_sheet import Over, Sheet
from wan_tui.screens.queue_view import QueueView
from wan_tui.text import one_line
from wan_tui.widgets.ask import Ask, plain_lines
from wan_tui.widgets.choose import Choose, Option
from wan_tui.widgets.listing import Listing

if TYPE_CHECKING:
    from engine.runtime.prepare import Checked

_LOST = "What was computed of it is lost; the jobs that wait go on."

_WITH_A_JOB = {"cancel", "again", "earlier", "later", "compose", "log", "copy_path"}


class Queue(QueueView):
    PLACE = "queue"
    LABEL = "Queue"
    ABOUT = "Every job: what runs, what waits in its order, and below it what was, the newest first."
    BINDINGS = bindings("queue")

    def can(self, action: str) -> bool:
        """Only a job that is not over can be cancelled, and only one of ours that waits has a place in the line."""
        if action not in _WITH_A_JOB:
            return True
        entry = self.entry if self.is_mounted else None
        if action == "cancel":
            return bool(entry and entry.live)
        if action in ("earlier", "later"):
            return bool(entry and entry.id in self.app.session.waiting)
        return entry is not None

    def _chosen(self) -> Entry | None:
        """The job under the cursor; says so where there is none."""
        entry = self.entry
        if entry is None:
            self.app.tell("There is no job under the cursor.", "warning")
        return entry

    def on_listing_chosen(self, event: Listing.Chosen) -> None:
        self.app.push_screen(Over(self.fill))
        self.show_job()

    # Stopping, and the order

    def action_cancel(self) -> None:
        entry = self._chosen()
        if entry is None:
            return
        if entry.id in self.app.session.waiting:
            self._stop(entry)
        elif entry.mine or entry.state == "running":
            whose = "" if entry.mine else f" It belongs to {entry.owner}, which will be asked."
            question = f"Cancel the job that runs ({one_line(entry.model)})?"
            self.app.push_screen(
                Ask(question, _LOST + whose, yes="cancel it"), lambda agreed: self._stop(entry) if agreed else None
            )
        else:
            self._stop(entry)

    def _stop(self, entry: Entry) -> None:
        """Ours hears of it at once; another's through the journal."""
        if entry.id in self.app.live.jobs:
            self.app.session.cancel(entry.id)
            self.stopping.add(entry.id)
            self.show()
            return

        def asked(answer: str) -> None:
            self.app.tell(answer)
            self.reading.look(anew=True)

        session = self.app.session
        self.in_background(lambda: session.journal().request_cancel(entry.id), asked)

    def action_earlier(self) -> None:
        self._move(-1)

    def action_later(self) -> None:
        self._move(1)

    def _move(self, by: int) -> None:
        entry = self._chosen()
        if entry:
            self.app.session.move(entry.id, by)
            self.show()

    # Once more

    def action_again(self) -> None:
        entry = self._chosen()
        if entry is None:
            return
        seed = entry.figures.get("seed")
        ways = (
            Option("same", "The same once more", f"With its seed, {seed}." if seed is not None else "With its seed."),
            Option("new", "With a new seed", "Another video from the same settings."),
        )
        self.app.push_screen(Choose("Run again", ways), lambda way: self._again(entry.id, way) if way else None)

    def _again(self, id: str, way: str) -> None:
        session = self.app.session

        def jobs() -> list[Checked]:
            from wan_tui.screens.queue_again import again

            return again(session.journal(), id, new_seed=way == "new")

        self.app.submit(jobs)

    def action_compose(self) -> None:
        entry = self._chosen()
        if entry:
            session = self.app.session
            self.in_background(lambda: session.journal().row(entry.id).job_toml, self.app.compose_job)

    # Looking

    def action_states(self) -> None:
        names = list(SHOWS)
        self.shows = names[(names.index(self.shows) + 1) % len(names)]
        self.show()
        self.app.tell("All jobs are shown." if self.shows == names[0] else f"Of the history: only {self.shows}.")

    def action_log(self) -> None:
        entry = self._chosen()
        if entry is None:
            return
        now = self.app.live.jobs.get(entry.id)
        if now is None:
            self.app.tell("What a job says is kept only while the program that ran it is open.", "warning")
        elif not now.log:
            self.app.tell("This job has said nothing yet.", "warning")
        else:
            self.app.push_screen(Over(lambda sheet: self._fill_log(sheet, entry.id)))

    def _fill_log(self, sheet: Sheet, id: str) -> None:
        log = self.app.live.jobs[id].log
        lines = (f"{time.strftime('%H:%M:%S', time.localtime(at))}  {plain_lines(said)}" for at, said in log)
        sheet.show(Content.styled("What the job said\n", "bold $primary"), Content("\n".join(lines)))

    def action_copy_path(self) -> None:
        entry = self._chosen()
        if entry and entry.output:
            self.app.copy_to_clipboard(entry.output)
            self.app.tell(f"Copied: {entry.output}")
        elif entry:
            self.app.tell("This job has no video (yet).", "warning")

    async def action_open(self) -> None:
        await self.app.action_gallery()

    def action_refresh(self) -> None:
        self.reading.look(anew=True)
        self.app.tell("The journal is read again.")
