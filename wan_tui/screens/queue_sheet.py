"""A job in full: beside the list where there is room, else over it."""

from __future__ import annotations

from collections.abc import Callable

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static


class Block(Static):
    """Text that is painted again only when it is another."""

    _shown = Content("")

    def show(self, content: Content) -> None:
        if not content.is_same(self._shown):
            self._shown = content
            self.update(content, layout=self.styles.is_auto_height)


class Sheet(VerticalScroll):
    """What the job does now, above what was asked for. Parted, because only the first changes while it runs."""

    DEFAULT_CSS = """
    Sheet { height: 1fr; padding: 0 1; scrollbar-size-vertical: 1; }
    Sheet Block { height: auto; }
    """

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id, can_focus=False)
        self._facts, self._asked = Block(), Block()  # there is something to show before they are mounted

    def compose(self) -> ComposeResult:
        yield self._facts
        yield self._asked

    def show(self, facts: Content, asked: Content) -> None:
        self._facts.show(facts)
        self._asked.show(asked)


class Over(ModalScreen[None]):
    """A sheet over the place. `fill` is called with it when it is there, and by the place when there is news."""

    ABOUT = "Esc closes this; j and k or the arrows scroll."
    BINDINGS = [
        Binding("escape,q,enter", "leave", "Close"),
        Binding("j,down", "scroll(1)", "Down", show=False),
        Binding("k,up", "scroll(-1)", "Up", show=False),
        Binding("ctrl+d,pagedown,space", "scroll(10)", "Page down", show=False),
        Binding("ctrl+u,pageup", "scroll(-10)", "Page up", show=False),
        Binding("g,home", "scroll(-1000000)", "First", show=False),
        Binding("G,end", "scroll(1000000)", "Last", show=False),
    ]
    DEFAULT_CSS = """
    Over { align: center middle; background: $background 60%; }
    Over > Vertical { width: 98%; height: 94%; border: round $primary; background: $surface; }
    Over .keys { height: 1; padding: 0 1; color: $text-muted; }
    """

    def __init__(self, fill: Callable[[Sheet], None]) -> None:
        super().__init__()
        self._fill = fill

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Sheet()
            yield Static(
                Content.assemble(("Esc", "$accent bold"), " close   ", ("j k", "$accent bold"), " scroll"),
                classes="keys",
            )

    def on_mount(self) -> None:
        self.fill()

    def fill(self) -> None:
        for sheet in self.query(Sheet):  # none before it is mounted
            self._fill(sheet)

    def action_scroll(self, lines: int) -> None:
        sheet = self.query_one(Sheet)
        sheet.scroll_to(y=sheet.scroll_y + lines, animate=False)

    def action_leave(self) -> None:
        self.dismiss(None)
