"""The composer's form while it is typed in: judged at every key, examined when the hands rest, kept as a draft."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from textual import on
from textual.app import ComposeResult
from textual.containers import Container, VerticalScroll
from textual.timer import Timer
from textual.widgets import Static

from engine.catalog import Catalog, ModelSpec, load_catalog
from engine.errors import JobError, WanError
from wan_tui.composing.draft import Draft, load_draft
from wan_tui.composing.fields import Field, fields, fitted
from wan_tui.composing.form import Form, is_folder
from wan_tui.composing.read import read
from wan_tui.composing.support import support
from wan_tui.composing.tracing import Tracing
from wan_tui.screens.composer_draft import DraftPlace
from wan_tui.screens.composer_form import FormView, Shown
from wan_tui.screens.composer_plan import Known, plan_lines, plan_text

if TYPE_CHECKING:
    from engine.job import Job
    from wan_tui.composing.examine import Prospect

_REST_S = 0.3  # of the hands, before the job is examined
_REMEMBERED = 20  # forms that were replaced


@dataclass(frozen=True)
class _Found:
    catalog: Catalog | None
    broken: WanError | None
    draft: Draft | None


class FormPlace(DraftPlace):
    """`asked` is the part of the form its model takes."""

    def __init__(self) -> None:
        super().__init__()
        self.fields: tuple[Field, ...] = ()
        self.catalog: Catalog | None = None
        self.prospect: Prospect | None = None
        self.examining = False
        self.problems: dict[str, str] = {}
        self._broken: WanError | None = None
        self._specs: dict[str, ModelSpec | None] = {}  # of folders
        self._asked = 0
        self._tracing = Tracing()
        self.predicting = False  # the modules of a model are being traced
        self.last_key = "prompt"  # where one typed last
        self._rest: Timer | None = None
        self._view = FormView()

    def body(self) -> ComposeResult:
        with Container(id="sides"):
            yield self._view
            with VerticalScroll(id="plan"):
                yield Static(id="plan-text")

    def on_mount(self) -> None:
        self._view.go_to("prompt")

    @property
    def settled(self) -> bool:
        """Whether all that is known of the form is shown."""
        return self._ready and not self.examining

    # The form changes

    @on(FormView.Changed)
    def take_typed(self) -> None:
        """Take in what stands in the fields. Whoever reads the form at a key does this first."""
        if self._took():
            self.change(self.form)

    def _took(self) -> bool:
        """Have in the form what was typed; False where that is nothing new."""
        typed = self._view.taken()
        for key, text in typed.items():
            self.form = self.form.put(key, text)
        return bool(typed)

    def change(self, form: Form) -> None:
        """Show another form, and find out what is to be said of it."""
        self.form = form
        self._rest_then_examine(_REST_S)
        self.show_form()
        self.draft_soon()

    def replace(self, form: Form) -> None:
        """The same for one that was not typed; the one before can be had back."""
        self.take_typed()
        if form != self.form:
            if self.form != Form():
                self._before = [*self._before, self.form][-_REMEMBERED:]
            self.change(form)

    def action_back(self) -> None:
        if not self._before:
            self.app.tell("There is no form from before.", "warning")
            return
        self.change(self._before.pop())
        self.app.tell("The form is as it was before.")

    @property
    def spec(self) -> ModelSpec | None:
        """The model, where it is known: a folder is looked at in a thread."""
        name = self.form.model
        if is_folder(name):
            return self._specs.get(name)
        try:
            return self.catalog.find(name)[0] if self.catalog and name != "auto" else None
        except JobError:  # the plan tells
            return None

    @property
    def asked(self) -> Form:
        """What of the form its model takes. While that is not known, all of it."""
        return fitted(self.form, self.spec).form

    def show_form(self) -> None:
        self._took()
        spec, form = self.spec, self.form
        self.fields = tuple(self._with_folder(one) for one in fields(spec, form))
        self.problems = dict(read(fitted(form, spec).form, self.here).problems)
        told = dict(self.problems)
        if "prompt" not in form.texts:  # not typed yet is no mistake
            told.pop("prompt", None)
        prospect = self.prospect
        if prospect and prospect.problem and prospect.field and not self.examining:
            told.setdefault(prospect.field, prospect.problem.message)
        self._view.show(Shown(form, self.fields, told, self._remarks(spec)))
        self.show_plan()

    def _with_folder(self, one: Field) -> Field:
        """The field as it is; that of the output names the folder of the settings."""
        if one.key != "output.path" or one.default is None:
            return one
        from dataclasses import replace

        return replace(one, default=str(Path(self.app.settings.output) / Path(one.default).name))

    def _remarks(self, spec: ModelSpec | None) -> dict[str, str]:
        aside = fitted(self.form, spec).aside
        remarks = {"seed": f"{self.form.seed_mode} ▾"}
        if aside and spec:
            remarks["model"] = f"▾ keeps {len(aside)} for another model"
        elif spec:
            remarks["model"] = f"▾ {spec.title}"
        return remarks

    @property
    def known(self) -> Known:
        """What the plan tells."""
        spec = self.spec
        return Known(
            self.form,
            self.problems,
            self.prospect,
            self.examining,
            self._broken,
            spec.title if spec else None,
            support(spec).sentence if spec else None,
            self.key_of("composer.run"),
            self.key_of("composer.instead"),
            self.predicting,
        )

    def show_plan(self) -> None:
        plan = self.query_one("#plan", VerticalScroll)
        width = plan.scrollable_content_region.width
        beside = not self.has_class("-narrow") or self.has_class("-tall")
        text = plan_text(self.known, width) if beside else plan_lines(self.known, width)
        shown = self.query_one("#plan-text", Static)
        if shown.content != text:
            shown.update(text)

    def on_resize(self) -> None:
        self.call_after_refresh(self.show_form)

    # What is known of it

    def refresh_all(self) -> None:
        first = not self._ready
        here = self.here

        def work() -> _Found:
            draft = load_draft(here) if first else None
            try:
                return _Found(load_catalog(), None, draft)
            except WanError as error:
                return _Found(None, error, draft)

        self.show_form()
        self.in_background(work, self._found)

    def _found(self, found: _Found) -> None:
        self.take_typed()
        self.catalog, self._broken = found.catalog, found.broken
        if found.draft and not self._ready:
            self.restore(found.draft)
        self._specs.clear()
        if found.catalog:
            self.catalog_read(found.catalog)
        self._rest_then_examine(0.01)
        self.show_form()

    def catalog_read(self, catalog: Catalog) -> None:
        """The manifest is here, or here again."""

    def _rest_then_examine(self, seconds: float) -> None:
        self._asked += 1  # answers under way are stale
        self.examining = True
        if self._rest:
            self._rest.stop()
        self._rest = self.set_timer(seconds, self._examine)

    def _examine(self) -> None:
        catalog, asked, name, here = self.catalog, self._asked, self.form.model, self.here
        job, output = self._job_to_examine(), self.output_folder
        if catalog is None or job is None:
            self.examining = False
            self.show_form()
            return

        def work() -> tuple[ModelSpec | None, Prospect]:
            from wan_tui.composing.examine import examine
            from wan_tui.screens.composer_models import spec_of

            return spec_of(name, here, catalog), examine(job, here, catalog, output)

        def then(answer: tuple[ModelSpec | None, Prospect]) -> None:
            if asked == self._asked:
                before, self._specs[name] = self._specs.get(name), answer[0]
                self.prospect, self.examining = answer[1], False
                if is_folder(name) and answer[0] != before:  # it may take other fields
                    self._rest_then_examine(0.01)
                self.show_form()
                self._trace()

        def failed(error: WanError) -> None:
            from wan_tui.composing.examine import Prospect

            if asked == self._asked:
                self.examining, self.prospect = False, Prospect(error)
                self.show_form()

        self.in_background(work, then, failed)

    def _trace(self) -> None:
        """Have a model traced that no plan knows anything of; then the form is examined once more."""
        what = self.prospect.untraced if self.prospect else None
        if what is None or self.predicting or what in self._tracing.tried:
            return
        self.predicting = True

        def over(_: object) -> None:
            self.predicting = False
            self._rest_then_examine(0.01)

        self.in_background(lambda: self._tracing.trace(what), over, over)
        self.show_plan()

    def _job_to_examine(self) -> Job | None:
        """The job without what is wrong with it, so that the rest can be judged."""
        form = self.asked.without(self.problems)
        return read(form if "prompt" in form.texts else form.put("prompt", "…"), self.here).job

    @property
    def output_folder(self) -> Path:
        """Where clips without a path of their own go."""
        return self.here / os.path.expanduser(self.app.settings.output)

    # The way out

    def on_screen_suspend(self) -> None:
        self._took()
        if self._rest:
            self._rest.stop()

    def on_unmount(self) -> None:
        self._took()
        self._tracing.stop()

    def leave_text(self) -> None:
        self.last_key = self._view.focused_key or self.last_key
        super().leave_text()
        self._view.left()
