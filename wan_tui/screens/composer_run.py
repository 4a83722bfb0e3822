"""Queueing what the form asks for: once, or as a sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from engine.errors import WanError
from engine.units import counted, size
from wan_tui.composing.read import NAME, changed, read
from wan_tui.composing.sweep import Axis, Submission, combinations, submit
from wan_tui.screens.composer_form import first_problem
from wan_tui.screens.composer_plan import plan_text
from wan_tui.screens.composer_sheet import PlanSheet
from wan_tui.screens.composer_state import FormPlace
from wan_tui.text import one_line
from wan_tui.widgets.ask import Ask
from wan_tui.widgets.choose import Choose, Option
from wan_tui.widgets.trouble import Way

if TYPE_CHECKING:
    from engine.memory.alternatives import Alternative
    from engine.memory.plan import Plan
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

        def work() -> Submission | Plan:
            from engine.runtime.prepare import prepare

            made = submit(form, axes, here)
            jobs = [prepare(job, here / NAME, catalog, None if job.output.path else output) for job in made.jobs]
            if plan := _too_large(jobs):
                return plan
            session.submit(lambda: jobs)
            return made

        def done(made: Submission | Plan) -> None:
            if isinstance(made, Submission):
                self._queued(made, seed)
            else:
                self._queueing = False
                self._refuse(made)

        self._queueing = True
        self.keep_draft()
        self.in_background(work, done, self._failed)

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

    # What does not fit, and what would

    def _refuse(self, plan: Plan) -> None:
        """Say that it does not fit, with what would, each at a digit."""
        from engine.runtime.failure import does_not_fit

        error, ways = does_not_fit(plan), _ways(plan)
        if ways:
            error.suggestions = ()  # the same, where none of them can be taken
        self.app.show_error(error, ways=ways, chosen=lambda key: self._take(plan, key))

    def action_instead(self) -> None:
        plan = self.prospect.plan if self.prospect and not self.examining else None
        if plan is None or not plan.alternatives:
            self.app.tell("No other settings are known that would be better.")
            return
        options = [
            Option(str(at), capital(other.says), f"Sets {settings_of(other.set)}.", _figures(other))
            for at, other in enumerate(plan.alternatives)
        ]
        self.app.push_screen(Choose("Instead", options), lambda key: self._take(plan, key))

    def _take(self, plan: Plan, key: str | None) -> None:
        """Have the settings of an alternative in the form."""
        if key is not None:
            other = plan.alternatives[int(key)]
            self.replace(changed(self.form, other.set))
            self.app.tell(f"{capital(other.says)}. {self.key_of('composer.back')} brings back the form from before.")

    def action_plan(self) -> None:
        if self._broken:
            self._show_trouble(self._broken)
        elif self.prospect and self.prospect.problem and not self.problems and not self.examining:
            self._show_trouble(self.prospect.problem)
        else:
            self.app.push_screen(PlanSheet(plan_text(self.known, min(86, self.size.width - 8), full=True)))


def _too_large(jobs: Sequence[Checked]) -> Plan | None:
    """The plan of the first that does not fit as things are now."""
    from wan_tui.composing.examine import plan_of

    kinds = {(one.job.model, one.job.width, one.job.height, one.job.frames, one.job.memory): one for one in jobs}
    return next((plan for one in kinds.values() if (plan := plan_of(one)) and plan.fits is False), None)


def _ways(plan: Plan) -> list[Way]:
    return [Way(str(at), f"{capital(one.says)}: {settings_of(one.set)}") for at, one in enumerate(plan.alternatives)]


def settings_of(changes: Mapping[str, Any]) -> str:
    """`frames 49`, `size 832x480`."""
    from wan_tui.telling_plan import as_written

    named = {key: as_written(value) for key, value in changes.items() if key not in ("width", "height")}
    if "width" in changes:
        named["size"] = f"{changes['width']}x{changes['height']}"
    return ", ".join(f"{key} {value}" for key, value in named.items())


def _figures(other: Alternative) -> str:
    from wan_tui.telling_plan import duration

    parts = [size(other.vram_bytes)] if other.vram_bytes else []
    parts += [duration(other.seconds)] if other.seconds is not None else []
    return ", ".join(parts)


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]
