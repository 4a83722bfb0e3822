"""The card of a model: beside the list where there is room, a strip below it where there is not, and in full."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.events import Key
from textual.screen import ModalScreen
from textual.widgets import Static

from engine.units import counted, size
from wan_tui.drawing import UNKNOWN
from wan_tui.screens.library_facts import Keys, facts, headline, hint, progress, short
from wan_tui.screens.library_rows import Now, state_text
from wan_tui.shelf import bad_because
from wan_tui.text import one_line
from wan_tui.widgets.listing import fitted

if TYPE_CHECKING:
    from wan_tui.app import WanApp
    from wan_tui.screens.library_read import Entry

_LABEL = 9  # cells
_DAMAGED = 5  # files whose damage is told
_FILES = 400  # the most that are listed
_SIGNS = {"absent": "·", "partial": "◐", "corrupt": "✗", "complete": "●", "verified": "✓"}
_TONES = {"absent": "$foreground-muted", "partial": "$warning", "corrupt": "$error", "verified": "$success"}


def strip(entry: Entry, now: Now, keys: Keys, width: int) -> Content:
    """Five lines: what it is, how it is, and what is going on."""
    title = Content.assemble((one_line(entry.item.spec.title), "$primary bold"), "  ", (one_line(entry.id), "$text"))
    text, tone = headline(entry, now)
    next_step = hint(entry, now, keys)
    gap = f"  {next_step}" if next_step else ""
    room = width - len(gap)
    state = Content.assemble(
        (fitted(text, max(10, min(room, len(text) * 2))).rstrip(), tone), (gap, "$foreground-muted")
    )
    rest = [Content.styled(line, "$foreground-muted") for line in _below(entry, now, width)]
    return Content("\n").join([_cut(line, width) for line in (title, state, *rest)][:5])


def _below(entry: Entry, now: Now, width: int) -> list[str]:
    if now.running and now.transfer:
        return [one_line(line) for line in progress(now.transfer, width, 2)]
    if now.failed and now.transfer and (error := now.transfer.error):
        return [one_line(line) for line in (error.cause, *error.suggestions) if line]
    return [one_line(line) for line in short(entry)]


def _cut(line: Content, width: int) -> Content:
    return line.truncate(width, ellipsis=True)


def card(entry: Entry, variants: Sequence[Entry], now: Now, keys: Keys, width: int, files: int = _FILES) -> Content:
    """Everything, wrapped to `width`, with at most `files` files."""
    lines = _wrapped(Content.styled(one_line(entry.item.spec.title), "$primary bold"), width)
    lines += _wrapped(Content(one_line(entry.id)), width)
    lines.append(Content(""))
    text, tone = headline(entry, now)
    lines += _wrapped(Content.styled(one_line(text), tone), width)
    if now.running and now.transfer:
        lines += [Content(one_line(line)).truncate(width, ellipsis=True) for line in progress(now.transfer, width, 6)]
    if next_step := hint(entry, now, keys):
        lines += _wrapped(Content.styled(next_step, "$foreground-muted"), width)
    lines += _damage(entry, width)
    lines.append(Content(""))
    for label, value in facts(entry):
        lines += _fact(label, value, width)
    lines += _variants(variants, width)
    lines += _files(entry, width, files)
    return Content("\n").join(lines)


def _wrapped(text: Content, width: int) -> list[Content]:
    return [line.rstrip() for line in text.wrap(max(8, width))]


def _fact(label: str, value: str, width: int) -> list[Content]:
    lines = _wrapped(Content(one_line(value)), width - _LABEL - 1)
    return [
        Content.assemble((f"{label if not index else '':<{_LABEL}} ", "$foreground-muted"), line)
        for index, line in enumerate(lines)
    ]


def _damage(entry: Entry, width: int) -> list[Content]:
    """The files that are corrupt, and why."""
    bad = [file for file in entry.copy.files if file.state == "corrupt"]
    told = [f"{one_line(file.info.path)}: {bad_because(file)}" for file in bad[:_DAMAGED]]
    told += [f"and {counted(len(bad) - _DAMAGED, 'file')} more"] if bad[_DAMAGED:] else []
    return [line for text in told for line in _wrapped(Content.styled(text, "$error"), width)]


def _variants(variants: Sequence[Entry], width: int) -> list[Content]:
    if not variants:
        return []
    lines = [Content(""), Content.styled("Variants", "$primary bold")]
    for one in variants:
        variant = one.item.variant
        name = f":{variant.name}" if variant else one.id
        kind = variant.kind if variant else ""
        amount = size(one.bytes) if one.bytes is not None else UNKNOWN
        room = max(8, width - 40)
        state, _ = state_text(one, Now())
        lines.append(Content(f"{fitted(name, room)} {fitted(kind, 13)} {fitted(state, 13)} {amount:>9}"))
    return lines


def _files(entry: Entry, width: int, most: int) -> list[Content]:
    known = entry.copy.files
    if not known or most <= 0:
        return []
    lines = [Content(""), Content.styled("Files", "$primary bold")]
    for file in known[:most]:
        sign = Content.styled(_SIGNS.get(file.state, "?"), _TONES.get(file.state, "$text"))
        name = fitted(file.info.path, max(8, width - 14), keep="end")
        lines.append(Content.assemble(sign, f" {name} {size(file.info.size):>9}"))
    if len(known) > most:
        lines.append(Content.styled(f"and {len(known) - most} more", "$foreground-muted"))
    return lines


_ACT_HERE = {
    f"library.{name}"
    for name in ["download", "compose", "verify", "check", "stop", "repair", "import", "remove", "copy-path", "explain"]
}


class FullCard(ModalScreen[str | None]):
    """Ends with the id of the library's action whose key was pressed, or None."""

    ABOUT: ClassVar[str] = "All that is known of a model, with its files. The library's keys act on it; Enter composes."
    BINDINGS = [
        Binding("escape,q", "leave", "Close", priority=True),
        Binding("enter", "compose", "Compose", priority=True),
        Binding("j,down", "scroll(1)", "Down", show=False),
        Binding("k,up", "scroll(-1)", "Up", show=False),
        Binding("ctrl+d,pagedown,space", "scroll(10)", "Page down", show=False),
        Binding("ctrl+u,pageup", "scroll(-10)", "Page up", show=False),
        Binding("g,home", "scroll(-100000)", "To the top", show=False),
        Binding("G,end", "scroll(100000)", "To the end", show=False),
    ]
    DEFAULT_CSS = """
    FullCard { align: center middle; background: $background 60%; }
    FullCard > Vertical {
        width: 96; max-width: 98%; height: auto; max-height: 96%; border: round $primary; background: $surface;
        padding: 0 1;
    }
    FullCard VerticalScroll { height: auto; scrollbar-size-vertical: 1; }
    FullCard Static { height: auto; }
    FullCard #card-keys { height: 1; dock: bottom; color: $text-muted; }
    """

    def __init__(self, entry: Entry, variants: Sequence[Entry], now: Now, keys: Keys) -> None:
        super().__init__()
        self._about = entry, variants, now, keys

    def compose(self) -> ComposeResult:
        with Vertical():
            with VerticalScroll(can_focus=False):
                yield Static(id="full-card")
            keys = (
                ("Enter", " compose   "),
                ("j k", " move   "),
                ("Esc", " close   "),
                ("", "letters act as in the list"),
            )
            yield Static(
                Content.assemble(*(part for key, does in keys for part in ((key, "$accent bold"), does))),
                id="card-keys",
            )

    def on_mount(self) -> None:
        self.on_resize()

    def on_resize(self) -> None:
        width = min(96, self.size.width * 98 // 100) - 6
        self.query_one("#full-card", Static).update(card(*self._about, width))

    def action_scroll(self, lines: int) -> None:
        scroll = self.query_one(VerticalScroll)
        scroll.scroll_to(y=scroll.scroll_y + lines, animate=False)

    def action_compose(self) -> None:
        self.dismiss("library.compose")

    def action_leave(self) -> None:
        self.dismiss(None)

    def on_key(self, event: Key) -> None:
        """A letter that acts on the model in the list acts on it here."""
        if event.key not in self._bindings.key_to_bindings:
            app: WanApp = self.app  # type: ignore[assignment]
            for binding in app.own_bindings():
                if binding.key == event.key and binding.id in _ACT_HERE:
                    event.stop()
                    self.dismiss(binding.id)
                    return
