"""The composer's form over restarts: written down when the hands rest and when one leaves, and brought back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from textual.timer import Timer

from engine.errors import JobError, WanError
from wan_tui.composing.draft import Draft, Keeper
from wan_tui.composing.form import Form
from wan_tui.screens.place import Place

_DRAFT_S = 2.0  # of rest


class DraftPlace(Place):
    """`form` is as it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.here = _here()
        self.form = Form()
        self._before: list[Form] = []  # forms that were replaced
        self._keeper = Keeper(self.here)
        self._ready = False  # the draft has been looked for
        self._waiting: list[Callable[[], object]] = []
        self._drafting: Timer | None = None

    def when_ready(self, do: Callable[[], object]) -> None:
        """Do it now, or when the draft has come."""
        if self._ready:
            do()
        else:
            self._waiting.append(do)

    def restore(self, draft: Draft) -> None:
        """Take in what was left at the last end, and then what was asked for meanwhile."""
        self._ready = True
        if draft.problem:
            self.app.tell(draft.problem, "warning")
        if self.form == Form():
            self.form = draft.form
        elif draft.form != Form():  # something was typed before it came
            self._before.append(draft.form)
            self.app.tell(f"What you composed last can be had back with {self.key_of('composer.back')}.")
        for waiting in self._waiting:
            waiting()
        self._waiting.clear()

    def draft_soon(self) -> None:
        if self._drafting:
            self._drafting.stop()
        self._drafting = self.set_timer(_DRAFT_S, self.keep_draft)

    def keep_draft(self) -> None:
        """Write the form down, for the next start."""
        if self._ready:
            form, number = self.form, self._keeper.number()
            self.in_background(lambda: self._keeper.keep(form, number), lambda _: None, self._not_kept)

    def _not_kept(self, error: WanError) -> None:
        self.app.tell(error.message, "warning")

    def on_screen_suspend(self) -> None:
        if self._drafting:
            self._drafting.stop()
        self.keep_draft()

    def on_unmount(self) -> None:
        """The app ends: no thread would come to it any more."""
        if self._ready:
            try:
                self._keeper.keep(self.form, self._keeper.number())
            except JobError:  # it was said when it was tried before
                return

    def key_of(self, id: str) -> str:
        """The key of an action as it is shown, as the user has it."""
        found = (self.app.get_key_display(one) for one in self.app.own_bindings() if one.id == id)
        return next(found, "")


def _here() -> Path:
    """The folder the app was started in; it may have gone."""
    try:
        return Path.cwd()
    except OSError:
        return Path.home()
