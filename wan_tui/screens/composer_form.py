"""The form of the composer: the model and the prompt stay in sight, the other fields scroll below them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.events import DescendantFocus
from textual.message import Message
from textual.widgets import Input, Static, TextArea

from wan_tui.composing.fields import Field, fields
from wan_tui.composing.form import KEYS, LONG_TEXTS, Form
from wan_tui.text import one_line
from wan_tui.widgets.entry import Entry, LongText
from wan_tui.widgets.listing import fitted

MODEL = Field(
    key="model",
    label="Model",
    section="prompt",
    kind="choice",
    help="An id of the library, a folder, or auto: that takes what does the job and is on disk.",
    default="auto",
    choices=("auto",),
)
_TITLES = {"inputs": "Inputs", "video": "Video", "sampling": "Sampling", "seed": "Seed", "memory": "Memory"}
_TITLES |= {"output": "Output"}
_LABEL = 18  # cells
_ORDER = tuple(one.key for one in fields(None, Form(dict.fromkeys(KEYS, "1"))))  # of every field any model has


@dataclass(frozen=True)
class Shown:
    """What the form shows: `problems` and `remarks` are sentences by field."""

    form: Form
    fields: tuple[Field, ...]
    problems: Mapping[str, str]
    remarks: Mapping[str, str]


class FormView(Vertical):
    ABOUT: ClassVar[str] = (
        "The form. Tab, Up and Down go from field to field; an empty field takes the model's default, shown in grey. "
        "Enter chooses where a field has a choice or a file, and else goes on. Esc leaves the text: then letters act."
    )
    DEFAULT_CSS = """
    FormView { width: 1fr; height: 1fr; }
    FormView .label { width: 18; height: 1; }
    FormView .row { height: 1; }
    FormView #model { width: 1fr; }
    FormView #mark-model { width: 1fr; height: 1; padding-left: 1; }
    FormView #prompt-row { height: 4; }
    FormView #prompt, FormView #negative_prompt { width: 1fr; height: 1fr; }
    FormView #negative-row { height: 2; }
    FormView #fields { height: 1fr; scrollbar-size-vertical: 1; }
    FormView #lines { height: auto; }
    FormView #labels { width: 18; height: auto; }
    FormView #entries { width: 3fr; height: 0; }
    FormView #marks { width: 4fr; height: auto; padding-left: 1; }
    FormView #hint { height: 2; color: $text-muted; padding-left: 1; }
    """

    class Changed(Message):
        """A field was typed into: `taken` has what stands there by the time this is read."""

    class Entered(Message):
        """Enter was pressed in a field of one line."""

        def __init__(self, key: str) -> None:
            super().__init__()
            self.key = key

    def __init__(self) -> None:
        super().__init__(id="form")
        self.inputs: dict[str, Entry | LongText] = {
            "model": Entry(placeholder="auto", id="model"),
            **{key: LongText(id=key) for key in LONG_TEXTS},
        }  # those of the lines are made when they are first shown, after the first paint; then they stay
        self._keys = {widget: key for key, widget in self.inputs.items()}
        self._agreed: dict[str, str] = {}  # the text of each field that the form has, too
        self._shown = Shown(Form(), (), {}, {})
        self._texts: dict[str, Content] = {}
        self._painted = False

    def compose(self) -> ComposeResult:
        with Horizontal(classes="row"):
            yield Static(classes="label", id="label-model")
            yield self.inputs["model"]
            yield Static(id="mark-model")
        with Horizontal(id="prompt-row"):
            yield Static(classes="label", id="label-prompt")
            yield self.inputs["prompt"]
        with VerticalScroll(id="fields", can_focus=False):
            with Horizontal(id="negative-row"):
                yield Static(classes="label", id="label-negative_prompt")
                yield self.inputs["negative_prompt"]
            with Horizontal(id="lines"):
                yield Static(id="labels")
                yield Vertical(id="entries")
                yield Static(id="marks")
        yield Static(id="hint")

    # What it shows

    def show(self, shown: Shown) -> None:
        """Show a form; a field whose text is as it was is not touched, nor its cursor."""
        self._shown = shown
        if self._painted:
            self._make_lines()
        visible = {one.key: one for one in (MODEL, *shown.fields)}
        section = ""
        for key in ("model", *_ORDER):
            widget, one = self.inputs.get(key), visible.get(key)
            if widget is None:
                continue
            if isinstance(widget, Entry) and key != "model":
                widget.display = one is not None
                if one:
                    widget.set_class(one.section != section, "-first")
                    section = one.section
            if one:
                _fill(widget, one, shown.form.texts.get(key))
                self._agreed[key] = text_of(widget)
        self._tell()

    def on_mount(self) -> None:
        self.call_after_refresh(self._paint_lines)

    def _paint_lines(self) -> None:
        self._painted = True
        self.show(self._shown)

    def _make_lines(self) -> None:
        """Inputs for fields that were never shown before, each in its place."""
        box = self.query_one("#entries")
        for one in self._shown.fields:
            if one.key in self.inputs:
                continue
            later = _ORDER[_ORDER.index(one.key) + 1 :]
            below = next((self.inputs[key] for key in later if key in self.inputs), None)
            self.inputs[one.key] = made = Entry(id=one.key.replace(".", "-"))
            self._keys[made] = one.key
            box.mount(made, before=below)

    def on_resize(self) -> None:
        self._tell()

    def _tell(self) -> None:
        """The texts around the inputs."""
        lines = [one for one in self._shown.fields if one.key not in LONG_TEXTS]
        tall = self.screen.has_class("-tall")
        labels: list[Content] = []
        marks: list[Content] = []
        width = self.query_one("#marks").content_size.width
        section = ""
        for one in lines:
            if tall and one.section != section:
                labels.append(Content.styled(_TITLES[one.section], "bold $primary"))
                marks.append(Content(""))
            section = one.section
            labels.append(self._label(one))
            marks.append(self._mark(one, width))
        entries = self.query_one("#entries")  # its own height: one that follows its children may stay that of none
        if entries.styles.height is None or entries.styles.height.value != len(labels):
            entries.styles.height = len(labels)
        self._update("labels", Content("\n").join(labels))
        self._update("marks", Content("\n").join(marks))
        self._update("mark-model", self._mark(MODEL, self.query_one("#mark-model").content_size.width))
        for one in (MODEL, *self._shown.fields):
            if one.key in ("model", *LONG_TEXTS):
                self._update(f"label-{one.key}", self._label(one))
        self._update("hint", self._hint())

    def _update(self, id: str, text: Content) -> None:
        if self._texts.get(id) != text:
            self._texts[id] = text
            self.query_one(f"#{id}", Static).update(text)

    def _label(self, one: Field) -> Content:
        look = "bold $accent" if one.key == self.focused_key else ""
        return Content.styled(("▸" if one.key == self.focused_key else " ") + one.label, look)

    def _mark(self, one: Field, width: int) -> Content:
        if problem := self._shown.problems.get(one.key):
            return Content.styled(fitted(f"✗ {problem}", width).rstrip(), "$error")
        if remark := self._shown.remarks.get(one.key):
            return Content.styled(fitted(remark, width).rstrip(), "$foreground-muted")
        words = [one.unit, "▾" if _chooses(one) else "", "" if one.runs else "does not run yet"]
        return Content.styled(" ".join(filter(None, words)), "$foreground-muted")

    def _hint(self) -> Content:
        """What is wrong with the field one is in, or what it is for."""
        one = next((one for one in (MODEL, *self._shown.fields) if one.key == self.focused_key), None)
        if one is None:
            return Content("Letters act now. Tab goes back to the form, Esc leaves a text.")
        if problem := self._shown.problems.get(one.key):
            return Content.styled(one_line(problem[:600]), "$error")
        files = one.kind in ("path", "paths")
        how = " Enter shows files." if files else " Enter chooses." if _chooses(one) else ""
        how += " Left and Right change it." if not one.free else ""
        how += " A blank alone switches it off." if one.key == "negative_prompt" else ""
        return Content(one_line(one.help + how))

    # Where one is

    @property
    def focused_key(self) -> str | None:
        """The field that is typed in."""
        focused = self.screen.focused
        return self._keys.get(focused) if isinstance(focused, Entry | LongText) else None

    def field(self, key: str) -> Field | None:
        """The field as it shows now."""
        return next((one for one in (MODEL, *self._shown.fields) if one.key == key), None)

    def go_to(self, key: str) -> None:
        """Type there."""
        if key in self.inputs and self.inputs[key].display:
            self.inputs[key].focus()

    @on(DescendantFocus)
    def _moved(self) -> None:
        self._tell()

    def left(self) -> None:
        """No field is typed in any more."""
        self._tell()

    # What is typed

    @on(Input.Changed)
    def _line_typed(self, event: Input.Changed) -> None:
        event.stop()
        self.post_message(self.Changed())

    @on(TextArea.Changed)
    def _text_typed(self, event: TextArea.Changed) -> None:
        event.stop()
        self.post_message(self.Changed())

    def taken(self) -> dict[str, str]:
        """The fields that were typed in since this was last asked, or the form shown. Keys come faster than messages:
        whoever shows a form takes these in first, or takes letters away."""
        typed = {key: text_of(widget) for key, widget in self.inputs.items()}
        new = {key: text for key, text in typed.items() if text != self._agreed.get(key, "")}
        self._agreed |= new
        return new

    @on(Entry.Entered)
    def _entered(self, event: Entry.Entered) -> None:
        event.stop()
        key = self._keys[event.entry]
        one = self.field(key)
        if one and (_chooses(one)):
            self.post_message(self.Entered(key))
        else:
            self.app.action_focus_next()


def text_of(widget: Entry | LongText) -> str:
    return widget.text if isinstance(widget, Entry) else widget.typed


def _chooses(one: Field) -> bool:
    return bool(one.choices) or one.kind in ("path", "paths", "size", "seed")


def _fill(widget: Entry | LongText, one: Field, text: str | None) -> None:
    widget.put(text or "")
    default = "none" if text == "" and one.key in LONG_TEXTS else one_line(one.default or "")
    if isinstance(widget, LongText):
        if widget.placeholder != Content(default):
            widget.placeholder = Content(default)
        return
    if widget.placeholder != default:
        widget.placeholder = default
    widget.several = one.kind == "paths"
    widget.choices = () if one.free else one.choices


def first_problem(problems: Mapping[str, str], shown: Iterable[Field]) -> tuple[str, str] | None:
    """The uppermost field with a problem, and the problem."""
    return next(((one.key, problems[one.key]) for one in (MODEL, *shown) if one.key in problems), None)
