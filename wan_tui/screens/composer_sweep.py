"""Asking for many clips: one field or several, each with its values."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static, TextArea

from engine.errors import JobError
from engine.units import counted
from wan_tui.composing.fields import Field
from wan_tui.composing.form import Form
from wan_tui.composing.read import problem
from wan_tui.composing.sweep import Axis, axis, combinations
from wan_tui.text import one_line
from wan_tui.widgets.choose import Choose, Option
from wan_tui.widgets.entry import Entry, LongText
from wan_tui.widgets.listing import fitted

_FIRST = "steps"


class Sweep(ModalScreen[tuple[Axis, ...] | None]):
    """Ends with the axes of the sweep, or None."""

    ABOUT: ClassVar[str] = (
        "A sweep makes a clip for each value, or for each combination of values of several fields. Numbers are parted "
        "by commas; 1..4 counts, 3..5..0.5 counts by halves. Prompts and paths stand one a line."
    )
    BINDINGS = [
        Binding("escape", "leave", "Leave", priority=True),
        Binding("ctrl+r,f10", "queue", "Queue", priority=True),
        Binding("ctrl+n", "another", "Another field", priority=True),
        Binding("ctrl+o", "drop", "Drop the last field", priority=True),
    ]
    DEFAULT_CSS = """
    Sweep { align: center middle; background: $background 60%; }
    Sweep > Vertical {
        width: 84; max-width: 98%; height: auto; max-height: 96%; padding: 0 1; border: round $primary;
        background: $surface;
    }
    Sweep Static { height: auto; }
    Sweep Entry { background: $panel; }
    Sweep LongText { height: 5; background: $panel; margin-bottom: 1; }
    Sweep Entry { margin-bottom: 1; }
    Sweep #sweep-told.-bad { color: $error; }
    Sweep #sweep-keys { margin-top: 1; }
    """

    def __init__(self, form: Form, fields: Sequence[Field], key: str | None, here: Path) -> None:
        super().__init__()
        self._form, self._here = form, here
        self._fields = {one.key: one for one in fields}
        self._key = key if key in self._fields else _FIRST
        self._axes: list[Axis] = []

    def compose(self) -> ComposeResult:
        keys = [("^r", "queue"), ("^n", "another field"), ("^o", "drop the last"), ("Esc", "leave")]
        parts = [part for key, does in keys for part in ((key, "$accent bold"), f" {does}  ")]
        with Vertical():
            yield Static(Content.styled("Sweep: a clip for each value", "bold"))
            yield Static(id="sweep-axes")
            yield Static(Content.styled("Field: Enter shows all, Left and Right change it", "$foreground-muted"))
            field = Entry(self._key, id="sweep-field")
            field.choices = tuple(self._fields)
            yield field
            yield Static(Content.styled("Values", "$foreground-muted"))
            yield LongText(id="sweep-values", placeholder="20, 30, 40 or 1..4; prompts and paths one a line")
            yield Static(id="sweep-told")
            yield Static(Content.assemble(*parts), id="sweep-keys")

    def on_mount(self) -> None:
        self.query_one("#sweep-values").focus()
        self._tell()

    @property
    def _field(self) -> str:
        return self.query_one("#sweep-field", Entry).text

    @property
    def _values(self) -> str:
        return self.query_one("#sweep-values", LongText).typed

    @on(Entry.Entered)
    def _choose_field(self) -> None:
        options = [Option(one.key, one.label, one.help, one.default or "") for one in self._fields.values()]

        def chosen(key: str | None) -> None:
            if key:
                self.query_one("#sweep-field", Entry).put(key)
                self.query_one("#sweep-values").focus()
                self._tell()

        self.app.push_screen(Choose("Which field", options, current=self._field), chosen)

    @on(Input.Changed)
    @on(TextArea.Changed)
    def _changed(self) -> None:
        self._tell()

    def _read(self) -> tuple[Axis, ...]:
        """What there is with what is being typed. Raises `JobError`."""
        if not self._values.strip() and self._axes:
            return tuple(self._axes)
        if self._field not in self._fields:
            raise JobError("bad-sweep", f"{self._field[:40]!r} is no field of this model: Enter shows them.")
        new = axis(self._field, self._values)
        for value in new.values:
            if wrong := problem(new.key, value, self._here):
                raise JobError("bad-sweep", wrong)
        return (*self._axes, new)

    def _tell(self) -> None:
        lines = [Content(fitted(f"{one.key}: {', '.join(one.values)}", 76).rstrip()) for one in self._axes]
        self.query_one("#sweep-axes", Static).update(Content("\n").join(lines))
        wrong = False
        try:
            axes = self._read()
            values = " x ".join(f"{len(one.values)} {one.key}" for one in axes)
            text = f"{counted(combinations(axes), 'combination')}: {values}"
        except JobError as error:
            wrong = bool(self._values.strip())
            text = " ".join((error.message, *error.suggestions)) if wrong else "No values yet."
        told = self.query_one("#sweep-told", Static)
        told.set_class(wrong, "-bad")
        told.update(Content(one_line(text[:400])))

    def action_another(self) -> None:
        try:
            self._axes = list(self._read())
        except JobError as error:
            self.app.notify(one_line(error.message), severity="warning", markup=False)
            return
        self.query_one("#sweep-values", LongText).put("")
        self.query_one("#sweep-field").focus()
        self._tell()

    def action_drop(self) -> None:
        del self._axes[-1:]
        self._tell()

    def action_queue(self) -> None:
        try:
            self.dismiss(self._read())
        except JobError as error:
            self.app.notify(one_line(error.message), severity="warning", markup=False)

    def action_leave(self) -> None:
        self.dismiss(None)
