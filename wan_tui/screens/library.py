"""The place `library`: what there is, what is on disk, and what changes that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from engine.units import counted, size
from wan_tui.actions import bindings
from wan_tui.resting import Resting
from wan_tui.screens.library_doing import Doing
from wan_tui.screens.library_rows import COLUMNS, VIEWS, grouped, row, seen
from wan_tui.widgets.filtered import Filtered
from wan_tui.widgets.listing import Listing, Row
from wan_tui.widgets.trouble import trouble_text

if TYPE_CHECKING:
    from engine.compat.machine import Machine
    from engine.errors import WanError
    from engine.events import Event
    from wan_tui.screens.library_read import Entry, Shelf

_REST_S = 0.08  # a cursor that stands still for so long is no longer on its way: a key held down comes each 0.04


class Library(Doing):
    PLACE = "library"
    LABEL = "Library"
    ABOUT: ClassVar[str] = (
        "Every model of the manifest and its variants. · absent, ◐ part of it is here, ● complete, ✓ complete and "
        "verified byte by byte, ✗ corrupt. HERE tells how its own clip goes onto this box: fits, streams (it fits, "
        "slower), windows (made piece by piece), at 480p (that size alone fits), or no. Enter shows all that is "
        "known of one."
    )
    BINDINGS = bindings("library")
    DEFAULT_CSS = """
    Library #summary { height: 1; padding: 0 1; color: $text-muted; }
    Library #models { width: 1fr; }
    Library #side { display: none; width: 45%; max-width: 80; padding: 0 2; background: $surface; }
    Library #side { scrollbar-size-vertical: 1; }
    Library #card { height: auto; }
    Library #strip { height: 5; padding: 0 1; background: $surface; }
    Library.-medium #side, Library.-wide #side { display: block; }
    Library.-medium #strip, Library.-wide #strip { display: none; }
    Library #broken { display: none; padding: 1 2; height: 1fr; }
    Library.-broken #broken { display: block; }
    Library.-broken #shelf, Library.-broken #strip, Library.-broken #summary { display: none; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._rows: dict[str, Row] = {}
        self._machine: Machine | None = None
        self._view = "all"
        self._loading = self._again = False
        self._resting = Resting(self, _REST_S, self._rested)
        self._shown: dict[str, Content] = {}  # what the texts say, by their ids

    def body(self) -> ComposeResult:
        with Vertical():
            yield Static(id="summary")
            with Horizontal(id="shelf"):
                yield Filtered(COLUMNS, empty="Looking at the disk…", id="models")
                with VerticalScroll(id="side", can_focus=False):
                    yield Static(id="card")
            yield Static(id="strip")
            yield Static(id="broken")

    def can(self, action: str) -> bool:
        """Without a list there is nothing to do but to read it again; nothing to stop where nothing is done."""
        if self.has_class("-broken"):
            return action == "refresh"
        if action in ("stop", "explain"):
            entry = self.entry if self.is_mounted else None
            now = self.now(entry) if entry else None
            return bool(now and (now.running if action == "stop" else now.failed))
        return True

    # Reading it

    def on_mount(self) -> None:
        self.call_after_refresh(self._know_machine)

    def refresh_all(self) -> None:
        self.call_after_refresh(self.reload)  # the first paint comes first

    def _know_machine(self) -> None:
        def asked() -> Machine:
            from engine.compat.machine import this_machine

            return this_machine()

        def known(machine: Machine) -> None:
            self._machine = machine
            self.reload()

        self.in_background(asked, known)

    @property
    def settled(self) -> bool:
        """Whether the disk and this box have been read."""
        return self._machine is not None and not self._loading and (self.shelf is not None or self.has_class("-broken"))

    def reload(self) -> None:
        """Read the manifest and the disk again; once more where they are being read."""
        if self._loading:
            self._again = True
            return
        self._loading = True
        machine = self._machine

        def work() -> Shelf:
            from wan_tui.screens.library_read import read_shelf

            return read_shelf(machine)

        self.in_background(work, self._read, self._unread)

    def _read(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self.entries = {entry.id: entry for entry in shelf.entries}
        if self.has_class("-broken"):
            self.remove_class("-broken")
            self.listing.focus()
        self._rows.clear()
        self._show_list()
        self._done_reading()

    def _unread(self, error: WanError) -> None:
        self.shelf, self.entries = None, {}
        self._say("broken", trouble_text(error, "The library cannot be shown."))
        self.add_class("-broken")
        self._show_list()
        self._done_reading()

    def _done_reading(self) -> None:
        self._loading = False
        if self._again:
            self._again = False
            self.reload()

    # Showing it

    @property
    def listing(self) -> Listing:
        return self.query_one("#models", Filtered).listing

    def _show_list(self) -> None:
        entries = [entry for entry in self.entries.values() if seen(entry, self._view)]
        empty = (
            "No models." if self._view == "all" else f"Nothing is {VIEWS[self._view]}. {self.key('show')} shows others."
        )
        if self._view == "here":
            empty = f"Nothing is known to run here. {self.key('show')} shows others."
        self.listing.show(grouped(entries, self._row), empty=empty)
        self._show_summary()
        self.show_entry()

    def _row(self, entry: Entry, under: bool) -> Row:
        known = self._rows.get(entry.id)
        if known is None:
            known = self._rows[entry.id] = row(entry, self.now(entry), under=under)
        return known

    def _show_summary(self) -> None:
        if self.shelf is None:
            return
        here = sum(entry.on_disk for entry in self.entries.values())
        variants = sum(entry.item.variant is not None for entry in self.entries.values())
        parts = [
            counted(len(self.entries) - variants, "model") + f" and {counted(variants, 'variant')}" * bool(variants)
        ]
        parts += [f"{here} on disk: {size(self.shelf.held_bytes)}"]
        parts += [f"{size(self.shelf.free_bytes)} free"] if self.shelf.free_bytes is not None else []
        shown = f"only {VIEWS[self._view]}  ·  " if self._view != "all" else ""
        self._say("summary", Content.assemble((shown, "$accent"), "  ·  ".join(parts)))

    def show_entry(self) -> None:
        """The model under the cursor, beside the list or below it."""
        from wan_tui.screens.library_card import card, strip

        self.look_at_keys()
        side = self.query_one("#side")
        entry = self.entry
        if entry is None:
            self._say("strip", Content(""))
            self._say("card", Content(""))
        elif side.display:
            width = max(20, side.size.width - 4 - 1)
            files = max(0, min(60, self.size.height))
            self._say("card", card(entry, self.variants(entry), self.now(entry), self.keys(), width, files))
        else:
            self._say("strip", strip(entry, self.now(entry), self.keys(), max(20, self.size.width - 2)))

    def _say(self, id: str, text: Content) -> None:
        known = self._shown.get(id)
        if known is None or not known.is_same(text):  # equality is that of the text alone
            self._shown[id] = text
            self.query_one(f"#{id}", Static).update(text)

    @on(Listing.Moved)
    def _moved(self) -> None:
        """A card is ten times as much to paint and to send as the row: those passed over are left out."""
        self._resting.soon()

    def _rested(self) -> None:
        self.show_entry()
        self.query_one("#side").scroll_home(animate=False)

    def on_resize(self) -> None:
        self.call_after_refresh(self.show_entry)

    def news(self, events: Sequence[Event]) -> None:
        ids = {str(getattr(event, "id", event.job)) for event in events}  # what is of the library has an id
        self.touch(ids)

    def touch(self, ids: set[str]) -> None:
        """Show these models as they are now, and what is made of them."""
        changed = [e for e in self.entries.values() if e.id in ids or (e.item.made and e.item.base.id in ids)]
        for entry in changed:
            self._rows.pop(entry.id, None)
        if changed:
            entries = [entry for entry in self.entries.values() if seen(entry, self._view)]
            self.listing.show(grouped(entries, self._row))
            if self.entry in changed:
                self.show_entry()

    # Actions that change what is shown

    def action_refresh(self) -> None:
        self.forget_failures()
        self.reload()
        self.app.tell("The manifest and the disk are read again.")

    def action_show(self) -> None:
        if self.shelf is None:
            self.app.tell("There is no list to choose from yet.", "warning")
            return
        names = list(VIEWS)
        self._view = names[(names.index(self._view) + 1) % len(names)]
        self._rows.clear()
        self._show_list()

    @on(Listing.Chosen)
    def _chosen(self) -> None:
        entry = self.entry
        if entry is None:
            return
        if self.now(entry).failed:
            self.action_explain()
            return
        from wan_tui.screens.library_card import FullCard

        def closed(action: str | None) -> None:
            if action:
                self.app.call_later(self.app.perform, action)

        self.app.push_screen(FullCard(entry, self.variants(entry), self.now(entry), self.keys()), closed)

    def variants(self, entry: Entry) -> list[Entry]:
        """Those of a model, where that is one."""
        if entry.item.variant:
            return []
        return [
            self.entries[id] for one in entry.item.spec.variants if (id := f"{entry.id}:{one.name}") in self.entries
        ]
