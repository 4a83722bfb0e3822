"""The last two lines of every place: what can be done here, and the places."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from rich.cells import cell_len
from textual.app import RenderResult
from textual.binding import Binding
from textual.content import Content
from textual.keys import key_to_character
from textual.widget import Widget

if TYPE_CHECKING:
    from wan_tui.app import WanApp

_PLACES = ("app.library", "app.diagnostics", "app.composer", "app.monitor", "app.queue", "app.gallery")
_SHORT = {"Diagnose": "Diag", "Compose": "Comp", "Monitor": "Mon", "Library": "Lib", "Gallery": "Gall"}


class Keys(Widget):
    """Keys of the focused widget and the place, as many as fit, then Help; below it the six places."""

    DEFAULT_CSS = """
    Keys { height: 2; dock: bottom; background: $surface; color: $text-muted; padding: 0 1; }
    """

    def on_mount(self) -> None:
        self.screen.bindings_updated_signal.subscribe(self, lambda _: self.refresh())

    def render(self) -> RenderResult:
        width = self.size.width
        return Content("\n").join([self._actions(width), self._places(width)])

    def _actions(self, width: int) -> Content:
        shown: dict[str, Binding] = {}
        for active in self.screen.active_bindings.values():
            binding = active.binding
            if binding.show and active.enabled and binding.description:
                shown.setdefault(binding.action, binding)
        pairs = [(self._key(binding), binding.description) for binding in shown.values()]
        last = [(self._reachable("app.help"), "Help"), (self._reachable("app.palette"), "All")]
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
            parts.append(Content.assemble((key, "$primary"), " ", (title, look)))
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


def _line(pairs: list[tuple[str, str]], last: list[tuple[str, str]], width: int) -> Content:
    """As many keys as fit; `last` always stands at the end."""
    end = sum(cell_len(key) + len(title) + 3 for key, title in last)
    parts: list[Content] = []
    used = 0
    for key, title in pairs:
        used += cell_len(key) + cell_len(title) + 3
        if used + end > width:
            break
        parts.append(Content.assemble((key, "$primary"), f" {title}"))
    parts += [Content.assemble((key, "$primary"), f" {title}") for key, title in last]
    return Content("  ").join(parts)
