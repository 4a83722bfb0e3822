"""The last two lines of every place: what can be done here, and the places. A click does what its key does."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from rich.cells import cell_len
from textual.app import RenderResult
from textual.binding import Binding
from textual.content import Content
from textual.dom import DOMNode
from textual.events import Click
from textual.keys import key_to_character
from textual.style import Style
from textual.widget import Widget

if TYPE_CHECKING:
    from wan_tui.app import WanApp

_PLACES = ("app.library", "app.diagnostics", "app.composer", "app.monitor", "app.queue", "app.gallery")
_LAST = {"app.help": "Help", "app.palette": "All"}
_SHORT = {"Diagnose": "Diag", "Compose": "Comp", "Monitor": "Mon", "Library": "Lib", "Gallery": "Gall"}


class Keys(Widget):
    """Keys of the focused widget and the place, as many as fit, then Help; below it the six places."""

    DEFAULT_CSS = """
    Keys { height: 2; dock: bottom; background: $surface; color: $text-muted; padding: 0 1; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._does: dict[str, tuple[str, DOMNode]] = {}  # what a click on one of the keys shown does, and to what

    def on_mount(self) -> None:
        self.screen.bindings_updated_signal.subscribe(self, lambda _: self.refresh())

    def render(self) -> RenderResult:
        width = self.size.width
        return Content("\n").join([self._actions(width), self._places(width)])

    async def on_click(self, event: Click) -> None:
        action, node = self._does.get(event.style.meta.get("does", ""), ("", self.app))
        if action:
            await self.app.run_action(action, node)

    def _actions(self, width: int) -> Content:
        self._does = {id: (id, self.app) for id in (*_PLACES, *_LAST)}
        shown: dict[str, Binding] = {}
        for active in self.screen.active_bindings.values():
            binding = active.binding
            if binding.show and active.enabled and binding.description:
                shown.setdefault(binding.action, binding)
                self._does.setdefault(f"here.{binding.action}", (binding.action, active.node))
        pairs = [(self._key(one), one.description, f"here.{action}") for action, one in shown.items()]
        last = [(self._reachable(id), title, id) for id, title in _LAST.items()]
        return _line(pairs, last, width)

    def _places(self, width: int) -> Content:
        from wan_tui.actions import BY_ID

        keymap: dict[str, str] = {}
        app = cast("WanApp", self.app)
        for binding in app.own_bindings():
            keymap.setdefault(binding.id or "", self._key(binding))
        here = f"app.{getattr(self.screen, 'PLACE', '')}"
        wide = width >= 76
        parts: list[Content] = []
        for id in _PLACES:
            title = BY_ID[id].title if wide else _SHORT.get(BY_ID[id].title, BY_ID[id].title)
            key = keymap.get(id, "")
            look = "$accent bold" if id == here else "$foreground-muted"
            parts.append(_pressed(Content.assemble((key, "$primary"), " ", (title, look)), id))
        return Content("  " if wide else " ").join(parts)

    def _reachable(self, id: str) -> str:
        """The shortest of the user's keys for an action of the app; not one that would be typed where the focus is."""
        focused = self.screen.focused
        keys = [
            self._key(binding)
            for binding in cast("WanApp", self.app).own_bindings()
            if binding.id == id
            and not (focused and focused.check_consume_key(binding.key, key_to_character(binding.key)))
        ]
        return min(keys, key=len, default="")

    def _key(self, binding: Binding) -> str:
        return self.app.get_key_display(binding)


def _pressed(shown: Content, does: str) -> Content:
    return shown.stylize(Style.from_meta({"does": does}))


def _line(pairs: list[tuple[str, str, str]], last: list[tuple[str, str, str]], width: int) -> Content:
    """As many (key, title, what it does) as fit; `last` always stands at the end."""
    end = sum(cell_len(key) + len(title) + 3 for key, title, _ in last)
    used = 0
    fitting = []
    for key, title, does in pairs:
        used += cell_len(key) + cell_len(title) + 3
        if used + end > width:
            break
        fitting.append((key, title, does))
    parts = [_pressed(Content.assemble((key, "$primary"), f" {title}"), does) for key, title, does in (*fitting, *last)]
    return Content("  ").join(parts)
