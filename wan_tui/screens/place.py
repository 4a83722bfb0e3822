"""What the six places have in common: the first line, the last two, and being told what is new while they are shown."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar, TypeVar

from textual.app import ComposeResult
from textual.containers import Container
from textual.content import Content
from textual.css.query import NoMatches
from textual.screen import Screen
from textual.widgets import Static

from engine.errors import WanError
from wan_tui.background import in_background
from wan_tui.terminal.punctual import Punctual
from wan_tui.widgets.filtered import Filtered
from wan_tui.widgets.headline import Headline
from wan_tui.widgets.keys import Keys

if TYPE_CHECKING:
    from engine.events import Event
    from wan_tui.app import WanApp

T = TypeVar("T")
LEAST = (60, 20)  # columns and rows below which nothing can be shown well
_SETTLED_S = 1.0  # after which a place that was opened has its lists


class Place(Punctual, Screen[None]):
    """One of the six. `PLACE` is its name in the registry of actions, `LABEL` what people call it.

    A hidden place is told nothing and paints nothing: `refresh_all` is called when it is shown, `news` while it
    is shown, at most ten times a second.
    """

    PLACE: ClassVar[str]
    LABEL: ClassVar[str]
    AUTO_FOCUS = "Listing"
    HORIZONTAL_BREAKPOINTS = [(0, "-tiny"), (LEAST[0], "-narrow"), (100, "-medium"), (150, "-wide")]
    VERTICAL_BREAKPOINTS = [(0, "-flat"), (LEAST[1], "-short"), (30, "-tall")]
    DEFAULT_CSS = """
    Place { background: $background; layers: base; }
    Place > #body { height: 1fr; }
    Place > #too-small { display: none; height: 1fr; content-align: center middle; color: $warning; }
    Place.-tiny > #too-small, Place.-flat > #too-small { display: block; }
    Place.-tiny > #body, Place.-flat > #body { display: none; }
    """

    if TYPE_CHECKING:  # Textual says only that it is some app

        @property
        def app(self) -> WanApp:  # type: ignore[override]
            ...

    def __init__(self) -> None:
        super().__init__()
        self._can: list[bool | None] = []  # what each key of the place could do when that was last looked at

    def compose(self) -> ComposeResult:
        yield Headline(self.LABEL)
        with Container(id="body"):
            yield from self.body()
        yield Static(Content(f"This needs a terminal of {LEAST[0]}x{LEAST[1]} or more."), id="too-small")
        yield Keys()

    def body(self) -> ComposeResult:
        """What the place shows between its first and last lines."""
        raise NotImplementedError

    def on_mount(self) -> None:
        # What stays is left out of full garbage collections, each of which would hold up a key (50 ms, measured).
        self.set_timer(_SETTLED_S, gc.freeze)

    # What is new

    def on_resize(self) -> None:
        self.call_after_refresh(self.look_at_keys)

    def on_screen_resume(self) -> None:
        """Shown, the first time or again. A subclass may have one, too: Textual calls both."""
        if self.query(Headline):  # else the app is left while it is being built
            self.told()
            self.refresh_all()

    def told(self, events: Sequence[Event] = ()) -> None:
        """The app has taken in some events while this place is shown."""
        headlines = self.query(Headline)
        if headlines:  # else it is on its way in or out
            headlines.first().tell(self.app.live, self.app.session.waiting)
            if events:
                self.news(events)

    def news(self, events: Sequence[Event]) -> None:
        """Show what these events changed: read it from `self.app.live`."""

    def refresh_all(self) -> None:
        """Show everything as it is now."""

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """In a terminal too small to show the place nothing acts on what nobody sees; nor does it while the place is
        built or taken away, when the footer asks as well."""
        try:
            return not self.too_small and self.can(action)
        except NoMatches:
            return False

    @property
    def too_small(self) -> bool:
        return self.has_class("-tiny") or self.has_class("-flat")

    def can(self, action: str) -> bool:
        """Whether a key of the place is of use now."""
        return True

    def look_at_keys(self) -> None:
        """Have the footer drawn again where other keys have become of use, and only there."""
        can = [self.check_action(binding.action, ()) for _, binding in self._bindings]
        if can != self._can:
            self._can = can
            self.refresh_bindings()

    # Work and its answers

    def in_background(
        self,
        work: Callable[[], T],
        then: Callable[[T], object],
        failed: Callable[[WanError], object] | None = None,
    ) -> None:
        """Do `work` in a thread, then go on here. A failure is shown unless `failed` takes it."""
        in_background(self, work, then, failed or self.app.show_error)

    # The way out

    def key_escape(self) -> None:
        """Esc leaves the filter, then the text that is typed in, for the first list or the place itself."""
        if any(filtered.clear() for filtered in self.query(Filtered)):
            return
        from textual.widgets import Input, TextArea  # the first screen does without the second

        if isinstance(self.focused, Input | TextArea):
            self.leave_text()

    def leave_text(self) -> None:
        """Where Esc in a text goes."""
        self.set_focus(None)
