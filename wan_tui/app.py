"""The app: six places, one engine beside them.

Two laws hold it together. The screen's thread never waits: what touches disk, driver or network is done in a thread of
its own and comes back as a message. The engine never waits for the screen: its events lie in an inbox until the screen
takes them, ten times a second at most, folds them into `live`, and tells the place that is shown.
"""

from __future__ import annotations

import importlib
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from textual.filter import LineFilter

from engine.errors import WanError
from wan_tui.actions import BY_ID, bindings
from wan_tui.ascii import Ascii
from wan_tui.background import in_background
from wan_tui.inbox import Inbox
from wan_tui.live import Live
from wan_tui.recolouring import Recolouring
from wan_tui.screens.place import Place
from wan_tui.session import Session
from wan_tui.settings import bad_keys
from wan_tui.terminal.base import TerminalApp
from wan_tui.text import plain
from wan_tui.themes import choose, load_themes
from wan_tui.watch import Watch

if TYPE_CHECKING:
    from textual.binding import Binding
    from textual.screen import Screen

    from engine.events import Event
    from engine.runtime.prepare import Checked
    from wan_tui.screens.composer import Composer
    from wan_tui.settings import Settings
    from wan_tui.widgets.trouble import Way

_TOLD_S = 6.0  # how long a sentence stands in the corner
_REMEMBERED = 500  # sentences
_KEY_NAMES = {f"f{number}": f"F{number}" for number in range(1, 13)} | {"escape": "Esc", "enter": "Enter"}


def _place(name: str) -> Callable[[], Screen[Any]]:
    """A place whose code is imported when it is first gone to."""

    def make() -> Screen[Any]:
        module = importlib.import_module(f"wan_tui.screens.{name}")
        screen: Screen[Any] = getattr(module, name.capitalize())()
        return screen

    return make


@dataclass(frozen=True)
class Said:
    """A sentence that was shown: `severity` is information, warning or error."""

    time: float
    severity: str
    text: str


class WanApp(TerminalApp):
    """`live` is what the engine does, `session` is where it is asked."""

    PLACES: ClassVar = ("library", "diagnostics", "composer", "monitor", "queue", "gallery")
    MODES: ClassVar = {name: _place(name) for name in PLACES}
    DEFAULT_MODE = "library"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS = bindings("app")
    CSS = """
    ToastRack { margin-bottom: 2; }
    Toast { max-width: 76; padding: 0 1; }
    Input > .input--cursor, TextArea > .text-area--cursor { text-style: reverse; }
    """

    def __init__(
        self,
        session: Session,
        settings: Settings,
        problems: Sequence[str] = (),
        *,
        ascii: bool = False,
        first_start: bool = False,
    ):
        super().__init__(ansi_color=True if "NO_COLOR" in os.environ else None)
        self._problems = tuple(problems)
        self.session, self.settings, self.live = session, settings, Live()
        self.sampling = Watch(self)
        self.said: deque[Said] = deque(maxlen=_REMEMBERED)
        self._ascii = Ascii() if ascii else None
        self._first_start = first_start
        self._inbox = Inbox(lambda: self.call_later(self._news))
        self._last_news = 0.0
        self._every_s = 1.0 if settings.low_bandwidth else 0.1
        self._dress()

    def get_line_filters(self) -> Sequence[LineFilter]:
        filters = super().get_line_filters()
        return [*filters, self._ascii] if self._ascii else filters

    def on_mount(self) -> None:
        for problem in (*self._problems, *bad_keys(self.settings, BY_ID)):
            self.tell(problem, "warning")
        self.set_keymap({id: keys for id, keys in self.settings.keys.items() if id in BY_ID})
        self.call_after_refresh(self._begin)

    def on_unmount(self) -> None:  # Textual calls that of the base class, too
        self.sampling.stop()

    def _dress(self) -> None:
        """Our themes and the user's, and the one that was chosen; where there are no colours, the one made for that."""
        self._recolouring = Recolouring(self)
        themes, problems = load_themes()
        for theme in themes:
            self.register_theme(theme)
        self.theme, problem = choose(self.settings.theme, self.available_themes, os.environ)
        self._problems += (*problems, *([problem] if problem else []))

    def _begin(self) -> None:
        """What can wait until the first screen is painted."""
        self.session.bus.subscribe(self._inbox)
        self.sampling.start()
        self._recolouring.start()
        in_background(self, self.session.recover, self._tell_interrupted, self.show_error)
        if self._first_start:
            from wan_tui.screens.welcome import Welcome

            self.push_screen(Welcome())

    def _tell_interrupted(self, rows: Sequence[Any]) -> None:
        for row in rows:
            self.tell(f"Job {row.id} ({row.model}) was interrupted: its process is gone.", "warning")

    # What the engine says

    def _news(self) -> None:
        """Take in what the engine said, now or as soon as the screen may be painted again."""
        due = self._last_news + self._every_s - time.monotonic()
        if due > 0:
            self.set_timer(due, self._news)
            return
        self._last_news = time.monotonic()
        events = self._inbox.take()
        from wan_tui.folding import fold, told

        for event in events:
            if sentence := told(self.live, event):
                self.tell(*sentence)
            fold(self.live, event)
        if events:
            self.tell_place(events)

    def tell_place(self, events: Sequence[Event] = ()) -> None:
        """Have the place that is shown look again."""
        stack = self.screen_stack
        if stack and isinstance(stack[0], Place):  # there is none on the way out
            stack[0].told(events)

    # Saying something

    def tell(self, text: str, severity: str = "information") -> None:
        """A sentence in the corner for a moment, kept among the messages."""
        self.said.append(Said(time.time(), severity, text))
        shown = "\n".join(plain(line) for line in text.splitlines())
        self.notify(shown, severity=severity, markup=False, timeout=_TOLD_S)  # type: ignore[arg-type]
        # One that is nearly over when the screen gets to it would stay: Textual loses timers that are late.
        self.set_timer(_TOLD_S + 0.5, self._sweep)

    def _sweep(self) -> None:
        """Take away sentences that are over, and see to it that they are gone from the terminal, too."""
        self._refresh_notifications()
        if self.screen_stack:
            self.call_later(self.screen.refresh, layout=True)

    def show_error(
        self,
        error: WanError,
        model: str | None = None,
        ways: Sequence[Way] = (),
        chosen: Callable[[str | None], None] | None = None,
    ) -> None:
        """A failure in full, over whatever is shown, with what the app can do about it; `model` is what it is about.

        `ways` are others, of which `chosen` is told.
        """
        from textual.widgets import Input, TextArea

        from wan_tui import remedies
        from wan_tui.widgets.trouble import Trouble

        self.said.append(Said(time.time(), "error", error.message))
        typing = isinstance(self.screen.focused, Input | TextArea)
        found = ways or remedies.ways(error, model)
        self.push_screen(Trouble(error, found, typing=typing), chosen or remedies.after(self))

    # Asking the engine

    def submit(self, jobs: Callable[[], Sequence[Checked]]) -> None:
        """Have checked jobs queued; `jobs` is called in a thread, and may raise what is wrong with them."""

        def accepted(ids: Sequence[str]) -> None:
            self.tell(f"Queued: {len(ids)} videos." if len(ids) > 1 else "Queued.")
            self.tell_place()

        in_background(self, lambda: self.session.submit(jobs), accepted, self.show_error)

    def diagnose(self, reference: str, then: str = "") -> None:
        """Go where a model or folder is checked, and check it; `then` is smoke or export."""

        async def go() -> None:
            from wan_tui.screens.diagnostics import Diagnostics

            await self.switch_mode("diagnostics")
            shown = self.screen_stack[0]
            if isinstance(shown, Diagnostics):
                shown.check(reference, then)

        self.call_later(go)

    def compose_with(self, model: str) -> None:
        """Go where a video is asked for, with that model."""
        self._to_composer(lambda composer: composer.take_model(model))

    def compose_job(self, toml_text: str, name: str = "the job") -> None:
        """Go there with the text of a job file; relative paths in it are taken from where `name` lies."""
        self._to_composer(lambda composer: composer.load_text(toml_text, name))

    def _to_composer(self, do: Callable[[Composer], object]) -> None:
        async def go() -> None:
            await self.switch_mode("composer")
            shown: Any = self.screen_stack[0]
            shown.when_ready(lambda: do(shown))

        self.call_later(go)

    # Actions everywhere

    async def _go_to(self, place: str) -> None:
        while len(self.screen_stack) > 1:  # what is only looked at in passing
            await self.pop_screen()
        await self.switch_mode(place)

    async def action_library(self) -> None:
        await self._go_to("library")

    async def action_diagnostics(self) -> None:
        await self._go_to("diagnostics")

    async def action_composer(self) -> None:
        await self._go_to("composer")

    async def action_monitor(self) -> None:
        await self._go_to("monitor")

    async def action_queue(self) -> None:
        await self._go_to("queue")

    async def action_gallery(self) -> None:
        await self._go_to("gallery")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """While a question stands open nobody goes elsewhere: it would be answered by nobody."""
        over = self.screen_stack[1:]
        if over and getattr(over[-1], "TAKES_EVERY_KEY", False):
            return False
        asking = any(not getattr(one, "IN_PASSING", False) for one in over)
        return not (action in self.PLACES and asking)

    def action_help(self) -> None:
        from wan_tui.widgets.help import Help

        if not isinstance(self.screen, Help):
            self.push_screen(Help(self.screen))

    def action_jump(self) -> None:
        from wan_tui.widgets.jump import jump

        jump(self)

    def action_palette(self) -> None:
        from wan_tui.questions import ask_what_to_do

        ask_what_to_do(self)

    def own_bindings(self) -> Iterator[Binding]:
        """The keys of the app and of the place that is shown, as the user has them."""
        for holder in (self, self.screen_stack[0]):
            bindings = holder._bindings.copy()
            bindings.apply_keymap(self._keymap)
            for same_key in bindings.key_to_bindings.values():
                yield from same_key

    def get_key_display(self, binding: Binding) -> str:
        return _KEY_NAMES.get(binding.key) or super().get_key_display(binding)

    async def perform(self, id: str) -> None:
        """Do an action by its id, going to its place first."""
        action = BY_ID[id]
        if action.place == "app":
            await self.run_action(f"app.{action.method}")
            return
        if getattr(self.screen, "PLACE", "") != action.place:
            await self.switch_mode(action.place)
        if not await self.run_action(f"screen.{action.method}", self.screen):
            self.tell(f"{action.title}: there is nothing to do that with now.", "warning")

    def action_theme(self) -> None:
        from wan_tui.questions import ask_for_colours

        ask_for_colours(self)

    def action_messages(self) -> None:
        from wan_tui.screens.messages import Messages

        if not isinstance(self.screen, Messages):
            self.push_screen(Messages(self.said))

    def action_cancel_job(self) -> None:
        from wan_tui.questions import ask_whether_to_cancel

        ask_whether_to_cancel(self)

    async def action_demo(self) -> None:
        """Queue the built-in model's clip and go where it can be watched."""

        def jobs() -> list[Checked]:
            from pathlib import Path

            from engine.catalog import load_catalog
            from engine.job import expand
            from engine.jobfile import job_from_table
            from engine.runtime.prepare import prepare
            from wan_tui.cli.demo import PROMPT

            here = Path.cwd() / "demo"  # names the job; no such file is read
            job = job_from_table({"model": "demo@1", "prompt": PROMPT}, here)
            return [prepare(one, here, load_catalog()) for one in expand(job)]

        self.submit(jobs)
        await self.switch_mode("monitor")

    async def action_quit(self) -> None:
        if not self.session.busy:
            self.exit(0)
            return
        from wan_tui.questions import ask_how_to_leave

        ask_how_to_leave(self)
