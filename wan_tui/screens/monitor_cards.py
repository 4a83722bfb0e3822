"""The cards as a list: several lines each, with a cursor where there is more than one."""

from __future__ import annotations

from collections.abc import Sequence

from textual.message import Message

from wan_tui.actions import bindings
from wan_tui.screens.monitor_lines import Line, Lines


class Scrolled(Lines, can_focus=True):
    """Lines with the keys of a list, which scroll."""

    ABOUT = "j and k or the arrows scroll, g and G go to the ends. Esc goes back."
    BINDINGS = [binding for binding in bindings("list") if binding.action not in ("filter", "choose")]  # type: ignore[union-attr]
    DEFAULT_CSS = "Scrolled { overflow-y: auto; height: 1fr; }"

    def action_down(self) -> None:
        self.go(self.scroll_offset.y + 1)

    def action_up(self) -> None:
        self.go(self.scroll_offset.y - 1)

    def action_page_down(self) -> None:
        self.go(self.scroll_offset.y + max(1, self.size.height - 2))

    def action_page_up(self) -> None:
        self.go(self.scroll_offset.y - max(1, self.size.height - 2))

    def action_first(self) -> None:
        self.go(0)

    def action_last(self) -> None:
        self.go(self.count)

    def go(self, line: int) -> None:
        self.scroll_to(y=max(0, line), animate=False, immediate=True)


class Cards(Scrolled):
    """Says `Moved` when the cursor is on another card, `Chosen` when one is opened."""

    ABOUT = "The devices. j and k or the arrows go from card to card, Enter shows one in full."
    BINDINGS = [binding for binding in bindings("list") if binding.action == "choose"]  # type: ignore[union-attr]
    DEFAULT_CSS = "Cards { height: 1; }"

    class Moved(Message):
        pass

    class Chosen(Message):
        pass

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self.cursor = 0
        self._starts: tuple[int, ...] = ()

    def show_cards(self, cards: Sequence[Sequence[Line]]) -> None:
        """Each card's lines, one after another."""
        starts: list[int] = []
        lines: list[Line] = []
        for card in cards:
            starts.append(len(lines))
            lines += card
        self._starts = (*starts, len(lines))
        self.show(lines)

    def move(self, by: int) -> bool:
        """Go that many cards on; False at an end."""
        return self.move_to(self.cursor + by)

    def move_to(self, cursor: int) -> bool:
        cursor = max(0, min(cursor, len(self._starts) - 2))
        if cursor == self.cursor:
            return False
        self.cursor = cursor
        self.post_message(self.Moved())
        top, start, end = self.scroll_offset.y, self._starts[cursor], self._starts[cursor + 1]
        if start < top:
            self.go(start)
        elif end > top + self.size.height:
            self.go(end - self.size.height)
        return True

    def action_down(self) -> None:
        self.move(1)

    def action_up(self) -> None:
        self.move(-1)

    def action_page_down(self) -> None:
        self.move(self._page)

    def action_page_up(self) -> None:
        self.move(-self._page)

    def action_first(self) -> None:
        self.move_to(0)

    def action_last(self) -> None:
        self.move_to(len(self._starts))

    def action_choose(self) -> None:
        self.post_message(self.Chosen())

    @property
    def _page(self) -> int:
        return sum(1 for start in self._starts if start < self.size.height) - 1 or 1
