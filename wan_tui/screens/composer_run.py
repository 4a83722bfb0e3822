"""Queueing what the form asks for: once, or as a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from engine.errors import WanError
from engine.units import counted
from wan_tui.composing.read import NAME, read
from wan_tui.composing.sweep import Axis, Submission, combinations, submit
from wan_tui.screens.composer_form import first_problem
from wan_tui.screens.composer_plan import plan_text
from wan_tui.screens.composer_sheet import PlanSheet
from wan_tui.screens.composer_state import FormPlace
from wan_tui.text import one_line
from wan_tui.widgets.ask import Ask

if TYPE_CHECKING:
    from engine.runtime.prepare import Checked

_MANY = 10  # clips that are queued without a question


class Running(FormPlace):
    _queueing = False

    def action_run(self) -> None:
        self.take_typed()
        job = read(self.asked, self.here).job
        if job is None:
            self.tell_problem()
        elif job.count > _MANY:
            self._ask_then_queue((), job.count)
        else:
            self._queue(())

    def action_sweep(self) -> None:
        self.take_typed()
        from wan_tui.screens.composer_sweep import Sweep

        def chosen(axes: tuple[Axis, ...] | None) -> None:
            if axes:
                count = self.form.texts.get("count", "1")
                clips = combinations(axes) * (int(count) if count.isascii() and count.isdigit() else 1)
                if clips > _MANY:
                    self._ask_then_queue(axes, clips)
                else:
                    self._queue(axes)

        key = self._view.focused_key
        self.app.push_screen(Sweep(self.asked, self.fields, key, self.here), chosen)

    def _ask_then_queue(self, axes: tuple[Axis, ...], clips: int) -> None:
        def answered(agreed: bool | None) -> None:
            if agreed:
                self._queue(axes)

        detail = "They run one after another; each can be taken out of the queue."
        self.app.push_screen(Ask(f"Queue {clips} clips?", detail, yes="queue them"), answered)

    def tell_problem(self) -> None:
        """Go to the first field that has one, and say it."""
        found = first_problem(self.problems, self.fields)
        if found:
            self._view.go_to(found[0])
            self.app.tell(found[1], "warning")

    def _queue(self, axes: Sequence[Axis]) -> None:
        if self._queueing:
            self.app.tell("It is being queued already.", "warning")
            return
        if self.catalog is None:
            self._failed(self._broken or WanError("not-ready", "The manifest is still being read: try again."))
            return
        catalog, form, here, output, session = self.catalog, self.asked, self.here, self.output_folder, self.app.session
        seed = self.form.texts.get("seed")

        def work() -> Submission:
            from engine.runtime.prepare import prepare

            made = submit(form, axes, here)

            def checked() -> list[Checked]:
                return [prepare(job, here / NAME, catalog, None if job.output.path else output) for job in made.jobs]

            session.submit(checked)
            return made

        self._queueing = True
        self.keep_draft()
        self.in_background(work, lambda made: self._queued(made, seed), self._failed)

    def _queued(self, made: Submission, seed: str | None) -> None:
        self._queueing = False
        drawn = made.form.texts.get("seed")
        if drawn and self.form.texts.get("seed") == seed and self.form.seed_mode != "random":
            self.change(self.form.put("seed", drawn))
        what = one_line(" ".join(made.jobs[0].prompt[:60].split())[:40])
        self.app.tell(f"Queued: {counted(len(made.jobs), 'clip')}, {what!r}. {self.key_of('app.monitor')} watches.")
        self.app.tell_place()

    def _failed(self, error: WanError) -> None:
        self._queueing = False
        self._show_trouble(error)

    def _show_trouble(self, error: WanError) -> None:
        self.app.show_error(error, self.prospect.model if self.prospect else None)

    def action_plan(self) -> None:
        if self._broken:
            self._show_trouble(self._broken)
        elif self.prospect and self.prospect.problem and not self.problems and not self.examining:
            self._show_trouble(self.prospect.problem)
        else:
            self.app.push_screen(PlanSheet(plan_text(self.known, min(86, self.size.width - 8))))
