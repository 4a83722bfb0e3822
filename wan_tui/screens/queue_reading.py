"""Reading the journal beside the screen: one look at a time, however often one is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from engine.errors import WanError
from wan_tui.screens.queue_book import merged
from wan_tui.screens.queue_entry import Entry, Known, read_known, read_some
from wan_tui.screens.queue_rows import Drawn, drawn_rows

if TYPE_CHECKING:
    from wan_tui.screens.place import Place


class Reading:
    """`entries` are the jobs as last read, newest first, None before that; `problem` is why the last look failed.

    `changed` is called on the screen's thread when something of this is new.
    """

    def __init__(self, place: Place, changed: Callable[[], None]) -> None:
        self._place, self._changed = place, changed
        self.entries: dict[str, Entry] | None = None
        self.drawn: Drawn = {}
        self.notice: str | None = None
        self.problem: WanError | None = None
        self._mark: tuple[object, ...] | None = None
        self._under_way = False
        self._all = False
        self._some: set[str] = set()

    def look(self, *, anew: bool = False) -> None:
        """Read the whole journal, unless nothing changed in it; with `anew`, in any case."""
        if anew:
            self._mark = None
        self._all = True
        self._next()

    def look_at(self, ids: Iterable[str]) -> None:
        """Read these jobs of ours again."""
        self._some.update(ids)
        self._next()

    def _next(self) -> None:
        if self._under_way:
            return
        session, mark = self._place.app.session, self._mark
        if self._all:
            self._under_way, self._all = True, False
            self._some.clear()

            def everything() -> tuple[Known, Drawn] | None:
                known = read_known(session.journal(), mark)
                return (known, drawn_rows(known.entries.values())) if known else None

            self._place.in_background(everything, self._took_all, self._failed)
        elif self._some and self.entries is not None:
            self._under_way = True
            ids = tuple(self._some)
            self._some.clear()
            self._place.in_background(lambda: read_some(session.journal(), ids), self._took_some, self._failed)

    def _took_all(self, found: tuple[Known, Drawn] | None) -> None:
        if found:
            known, self.drawn = found
            self.entries, self._mark, self.notice = known.entries, known.mark, known.notice
        self._over(changed=bool(found))

    def _took_some(self, found: list[Entry]) -> None:
        self.entries = merged(self.entries or {}, found)
        self._over(changed=True)

    def _failed(self, problem: WanError) -> None:
        self._under_way = False
        self._mark = None
        self.problem = problem
        self._changed()

    def _over(self, *, changed: bool) -> None:
        self._under_way = False
        if changed or self.problem:
            self.problem = None
            self._changed()
        self._next()
