"""Help about where one is: what the focused thing is for, and every key that does something now."""

from __future__ import annotations

import textwrap

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.dom import DOMNode
from textual.screen import ModalScreen, Screen
from textual.widgets import Input, Static, TextArea

from wan_tui.actions import BY_ID

_GROUPS = {"list": "In lists", "app": "Everywhere"}
_WIDTH = 78  # of the box: lines that are longer are hard to read
_KEYS = 17  # cells, before what they do


class Help(ModalScreen[None]):
    ABOUT = "This help."
    IN_PASSING = True  # the keys of the places lead on from here
    BINDINGS = [
        Binding("escape,q,f1,question_mark", "leave", "Close", priority=True),
        Binding("j,down", "scroll(1)", "Down", show=False),
        Binding("k,up", "scroll(-1)", "Up", show=False),
        Binding("ctrl+d,pagedown,space", "scroll(10)", "Page down", show=False),
        Binding("ctrl+u,pageup", "scroll(-10)", "Page up", show=False),
    ]
    DEFAULT_CSS = """
    Help { align: center middle; background: $background 60%; }
    Help > Vertical { max-width: 98%; height: 94%; border: round $primary; background: $surface; }
    Help VerticalScroll { height: 1fr; padding: 0 1; scrollbar-size-vertical: 1; }
    Help Static { height: auto; }
    """

    def __init__(self, about: Screen[object]) -> None:
        super().__init__()
        self._about = about

    def compose(self) -> ComposeResult:
        with Vertical(), VerticalScroll(can_focus=False):
            yield Static()

    def on_mount(self) -> None:
        self.query_one(Vertical).styles.width = _WIDTH

    def on_resize(self) -> None:
        inside = min(_WIDTH, self.size.width * 98 // 100) - 5  # borders, padding and the scrollbar
        self.query_one(Static).update(help_text(self._about, inside))

    def action_scroll(self, lines: int) -> None:
        scroll = self.query_one(VerticalScroll)
        scroll.scroll_to(y=scroll.scroll_y + lines, animate=False)

    def action_leave(self) -> None:
        self.dismiss(None)


def _worth_telling(node: DOMNode, binding: Binding) -> bool:
    """Not what containers bring along, such as scrolling sideways."""
    return binding.show or binding.id in BY_ID or isinstance(node, Input | TextArea)


def help_text(screen: Screen[object], width: int) -> Content:
    """What the focused widget, those around it and the place say of themselves, then the keys by group; what a key
    does stands in a column of its own."""
    chain: list[DOMNode] = [*(screen.focused.ancestors_with_self if screen.focused else [screen])]
    abouts = dict.fromkeys(about for node in chain if (about := getattr(node, "ABOUT", "")))
    parts: list[tuple[str, str] | str] = [line for about in abouts for line in (about, "\n\n")]
    groups: dict[str, dict[str, list[Binding]]] = {}
    for active in screen.active_bindings.values():
        binding = active.binding
        if active.enabled and binding.description and _worth_telling(active.node, binding):
            place = (binding.id or "").partition(".")[0] if binding.id in BY_ID else ""
            groups.setdefault(place, {}).setdefault(binding.action, []).append(binding)
    for place in sorted(groups, key=lambda place: (place == "app", place == "list")):
        parts.append((f"{_GROUPS.get(place, 'Here')}\n", "bold $primary"))
        for bindings in groups[place].values():
            keys = " ".join(dict.fromkeys(screen.app.get_key_display(binding) for binding in bindings))
            about = bindings[0].tooltip or bindings[0].description
            said = textwrap.wrap(about, max(10, width - _KEYS), initial_indent=" " * max(0, len(keys) - _KEYS + 3))
            first, rest = said[0].lstrip(), said[1:]
            parts += [(f"  {keys:<{_KEYS - 3}} ", "$accent"), f"{first}\n"]
            parts += [f"{'':<{_KEYS}}{line}\n" for line in rest]
        parts.append("\n")
    return Content.assemble(*parts)
